// The leaf loops of slic, one table an instruction set.
#pragma once

#include "common/simd.h"
#include "slic/slic.h"

namespace pyws {

// One cell of the grid. Pointers are to its first pixel; rows of the frame are `stride` pixels apart.
struct SlicCell {
  const std::uint32_t* la;
  const std::uint32_t* bx;
  const std::uint8_t* mask;  // null: all pixels
  std::int64_t stride, left, width, top, bottom;
  std::int64_t scale;                // SlicScale::position
  const SlicCandidates* candidates;  // null: every pixel takes its own cluster
};

constexpr int kSlicLabels = 16;  // what four bits may say, from kSlicOutside on all the same

// Runs of one label in a row, side by side: the first column after each, its label, and the sums of L, a and b from the
// beginning of the row to its end, modulo 2^32.
struct SlicRuns {
  std::int32_t *end, *label;
  std::uint32_t *l, *a, *b;
};

struct SlicLoops {
  // A row of a frame to features; pixels are `step` samples apart, 1 or 3. left[x]: position of column x in its cell.
  void (*colors)(DType dtype, const void* red, const void* green, const void* blue, int step, std::int64_t width,
                 const std::int32_t* tables, SlicScale scale, const std::int32_t* left, std::uint32_t* la,
                 std::uint32_t* bx);
  // Nearest clusters, summed up by slot.
  void (*sum)(const SlicCell* cell, SlicSums sums[kSlicSlots]);
  // Nearest clusters, as labels: label[slot], the last for all that is outside.
  void (*label)(const SlicCell* cell, const std::int32_t label[kSlicLabels], std::int32_t* labels);
  // How many runs of one label a row has, and what they are.
  std::int64_t (*count_runs)(const std::int32_t* labels, std::int64_t width);
  void (*find_runs)(const std::int32_t* labels, const std::uint32_t* la, const std::uint32_t* bx, std::int64_t width,
                    SlicRuns runs);
};

PYWS_DECLARE_LOOPS(SlicLoops, slic_loops)

}  // namespace pyws
