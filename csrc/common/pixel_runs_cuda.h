// Included by the .cu files that count pixels by runs within a warp: one atomic addition a run, not a pixel.
#pragma once

#include "common/cuda_launch.h"

namespace pyws {
using Counter = unsigned long long;  // an int64 count, as atomicAdd has it

constexpr int kWarp = 32;
constexpr unsigned kAll = 0xffffffffu;

// Neighbouring lanes with equal keys, `starts` set at the first of each: a mask of the lanes of the run that starts at
// this lane, 0 where none does. All lanes call it.
__device__ __forceinline__ unsigned run_from(bool starts) {
  const int lane = threadIdx.x % kWarp;
  const unsigned heads = __ballot_sync(kAll, starts);
  const unsigned later = heads & ((kAll - 1) << lane);
  const unsigned before_next = later == 0 ? kAll : (later & (0u - later)) - 1;
  return starts ? before_next & (kAll << lane) : 0;
}

__device__ __forceinline__ std::uint64_t left_neighbour(std::uint64_t x) {
  return __shfl_up_sync(kAll, static_cast<unsigned long long>(x), 1);
}

}  // namespace pyws
