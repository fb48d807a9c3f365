// The warp, for the .cu files: its size, the mask of all its lanes, and what its lanes find out about each other.
#pragma once

#include "common/cuda_launch.h"
#include "common/host_device.h"

namespace pyws {

constexpr int kWarp = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

// The lanes below this one, as a mask.
__device__ __forceinline__ unsigned lanes_below() { return (1u << (threadIdx.x % kWarp)) - 1u; }

// The maximum of the values of the lanes up to and with this one. All lanes call it.
__device__ __forceinline__ long long running_max(long long x) {
  const int lane = threadIdx.x % kWarp;
  for (int step = 1; step < kWarp; step *= 2) {
    const long long other = __shfl_up_sync(kWholeWarp, x, step);
    if (lane >= step) x = max64(x, other);
  }
  return x;
}

// The first lane of the run of lanes that the calling lane belongs to, `head` set at the first of each. All lanes of
// a warp call it.
__device__ __forceinline__ int first_of_run(bool head) {
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned heads = __ballot_sync(kWholeWarp, head) & (kWholeWarp >> (kWarp - 1 - lane));
  return kWarp - 1 - __clz(static_cast<int>(heads));
}

// Neighbouring lanes with equal keys, `starts` set at the first of each: a mask of the lanes of the run that starts at
// this lane, 0 where none does. All lanes call it.
__device__ __forceinline__ unsigned run_from(bool starts) {
  const int lane = threadIdx.x % kWarp;
  const unsigned heads = __ballot_sync(kWholeWarp, starts);
  const unsigned later = heads & ((kWholeWarp - 1) << lane);
  const unsigned before_next = later == 0 ? kWholeWarp : (later & (0u - later)) - 1;
  return starts ? before_next & (kWholeWarp << lane) : 0;
}

}  // namespace pyws
