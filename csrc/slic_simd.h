// The leaf loops of slic, one table an instruction set.
#pragma once

#include "simd.h"
#include "slic.h"

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

struct SlicLoops {
  // A row of a frame to features. left[x]: position of column x in its cell.
  void (*colors)(int dtype, const void* red, const void* green, const void* blue, std::int64_t width,
                 const std::int32_t* tables, SlicScale scale, const std::int32_t* left, std::uint32_t* la,
                 std::uint32_t* bx);
  // Nearest clusters, summed up by slot.
  void (*sum)(const SlicCell* cell, SlicSums sums[kSlicSlots]);
  // Nearest clusters, as labels: label[slot].
  void (*label)(const SlicCell* cell, const std::int32_t label[kSlicSlots + 1], std::int32_t* labels);
  // Where runs of one label start in a row; returns their number. `starts` may be null.
  std::int64_t (*runs)(const std::int32_t* labels, std::int64_t width, std::int32_t* starts);
  // Sums of the colours of less than 65536 pixels.
  void (*color)(const std::uint32_t* la, const std::uint32_t* bx, std::int64_t n, std::int64_t sums[3]);
};

PYWS_DECLARE_LOOPS(SlicLoops, slic_loops)

}  // namespace pyws
