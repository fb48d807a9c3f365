// The leaf loops of background_patches, one table an instruction set.
#pragma once

#include "background_patches/background_patches.h"
#include "common/simd.h"

namespace pyws {

struct PatchLoops {
  // below[x + 1] = above[x + 1] + the set pixels among the first x + 1 of a row
  void (*integrate)(const std::uint8_t* mask, const std::int32_t* above, std::int64_t width, std::int32_t* below);
  // How many of the n squares of a side between two rows of the integral image hold at most limit.
  std::int64_t (*count)(const std::int32_t* top, const std::int32_t* bottom, std::int64_t side, std::int64_t n,
                        std::int32_t limit);
};

PYWS_DECLARE_LOOPS(PatchLoops, patch_loops)

}  // namespace pyws
