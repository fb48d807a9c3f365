// Included by the .cu files that count pixels by runs within a warp: one atomic addition a run, not a pixel.
#pragma once

#include "common/warp.cuh"

namespace pyws {
using Counter = unsigned long long;  // an int64 count, as atomicAdd has it

__device__ __forceinline__ std::uint64_t left_neighbour(std::uint64_t x) {
  return __shfl_up_sync(kWholeWarp, static_cast<unsigned long long>(x), 1);
}

}  // namespace pyws
