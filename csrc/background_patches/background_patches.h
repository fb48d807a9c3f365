// background_patches: squares of a frame that hold no foreground, or little, by integral images (Crow 1984).
//
//   integral[b,y,x] = foreground pixels of frame b above row y and left of column x
//   the square of a side at (y, x) fits iff it lies in the frame and holds at most patch_limit(side, share) of them
//   count: how many squares fit;  find: the one of a rank, rows first
//
// masks         (batch, height, width) bytes, zero or not
// integral      (batch, height + 1, width + 1) int32; count and find take any contents
// sides         (queries) int64, any values; a side below 1 or above the frame's fits nowhere
// counts        (queries) int64, zeroed by the caller
// frames, ranks (queries) int64, any values; a frame outside the batch counts and finds nothing, nor does a rank
//               outside 0 .. count - 1
// corners       (queries, 2) int64: row and column of the first pixel, or -1 and -1
// share         of the square that may be foreground, in [0, 1]
// Decisions     on integers: the same for any number of threads, batch composition, instruction set and device
// Empty         queries = 0 writes nothing; without pixels, counts are 0 and corners -1. height * width < 2^31
#pragma once

#include <cstdint>

#include "common/params.h"

namespace pyws {

struct IntegralParams {
  const std::uint8_t* masks;
  std::int64_t batch, height, width;
  std::int32_t* integral;
  PYWS_FIELDS(masks, batch, height, width, integral)
};
void integral_image_cpu(const IntegralParams& params, int threads);
void integral_image_cuda(const IntegralParams& params, void* stream);

struct CountPatchesParams {
  const std::int32_t* integral;
  std::int64_t batch, height, width;
  const std::int64_t *frames, *sides;
  std::int64_t queries;
  double share;
  std::int64_t* counts;
  PYWS_FIELDS(integral, batch, height, width, frames, sides, queries, share, counts)
};
void count_patches_cpu(const CountPatchesParams& params, int threads);
void count_patches_cuda(const CountPatchesParams& params, void* stream);

struct FindPatchesParams {
  const std::int32_t* integral;
  std::int64_t batch, height, width;
  const std::int64_t *frames, *sides, *ranks;
  std::int64_t queries;
  double share;
  std::int64_t* corners;
  PYWS_FIELDS(integral, batch, height, width, frames, sides, ranks, queries, share, corners)
};
void find_patches_cpu(const FindPatchesParams& params, int threads);
void find_patches_cuda(const FindPatchesParams& params, void* stream);

// The first pixels that a square of a side may have: rows x columns of them, none where it does not fit.
struct Corners {
  std::int64_t rows, columns;
};

PYWS_HD Corners corners_of(std::int64_t side, std::int64_t height, std::int64_t width) {
  const bool fits = side >= 1 && side <= min64(height, width);
  return fits ? Corners{height - side + 1, width - side + 1} : Corners{0, 0};
}

// Foreground pixels that a square may hold; the side is at most that of a frame.
PYWS_HD std::int32_t patch_limit(std::int64_t side, double share) {
  return static_cast<std::int32_t>(share * static_cast<double>(side * side));
}

// The sum over the square between two rows of the integral image, unsigned so that no contents overflow.
PYWS_HD std::int32_t patch_sum(const std::int32_t* top, const std::int32_t* bottom, std::int64_t x, std::int64_t side) {
  const auto u = [](std::int32_t value) { return static_cast<std::uint32_t>(value); };
  return static_cast<std::int32_t>(u(bottom[x + side]) - u(bottom[x]) - u(top[x + side]) + u(top[x]));
}

}  // namespace pyws
