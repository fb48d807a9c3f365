// The vote of a superpixel, for the .cu files.
#pragma once

#include "common/warp.cuh"
#include "superpixel_select/superpixel_select.h"

namespace pyws {

// The class other than 0 with most votes, the first of equals, of a row of counts. All lanes call it, and all are told.
template <class Count>
__device__ __forceinline__ Votes most_votes(const Count* votes, std::int64_t num_classes) {
  Votes best{0, 0};
  for (std::int64_t c = threadIdx.x % kWarp; c < num_classes; c += kWarp)
    if (c > 0) best = max_votes(best, {votes[c], c});
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Votes other{__shfl_xor_sync(kWholeWarp, static_cast<long long>(best.count), offset),
                      __shfl_xor_sync(kWholeWarp, static_cast<long long>(best.kind), offset)};
    best = max_votes(best, other);
  }
  return best;
}

}  // namespace pyws
