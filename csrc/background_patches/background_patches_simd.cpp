#include "background_patches/background_patches_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

void integrate(const std::uint8_t* mask, const std::int32_t* above, std::int64_t width, std::int32_t* below) {
  std::int32_t sum = 0;
  for (std::int64_t x = 0; x < width; ++x) below[x + 1] = sum += mask[x] != 0;
  for (std::int64_t x = 0; x < width; ++x) below[x + 1] += above[x + 1];
}

std::int64_t count(const std::int32_t* top, const std::int32_t* bottom, std::int64_t side, std::int64_t n,
                   std::int32_t limit) {
  std::int32_t fitting = 0;
  for (std::int64_t x = 0; x < n; ++x) fitting += patch_sum(top, bottom, x, side) <= limit ? 1 : 0;
  return fitting;
}

}  // namespace

const PatchLoops patch_loops = {integrate, count};

}  // namespace PYWS_ISA
}  // namespace pyws
