// What the CUDA kernels of ragged families share: block-wide sums, and offsets from counts.
#pragma once

#include "common/ragged.h"
#include "common/warp.cuh"

namespace pyws {

constexpr int kScanThreads = 256;

// Traffic: counts are read and offsets written once, coalesced. Ownership: one block; tile by tile, each warp scans 32
// counts by shuffles and adds the sums of the warps before it and of the tiles before. Integers: the order is free.
static __global__ void scan_counts_kernel(std::int64_t* offsets, std::int64_t groups, std::int64_t limit) {
  PYWS_SHARED(long long, sums, kScanThreads / kWarp);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (threadIdx.x == 0) offsets[0] = 0;
  long long before = 0;
  for (std::int64_t tile = 0; tile < groups; tile += kScanThreads) {
    const std::int64_t i = tile + threadIdx.x;
    long long sum = i < groups ? offsets[i + 1] : 0;
    for (int step = 1; step < kWarp; step *= 2) {
      const long long other = __shfl_up_sync(kWholeWarp, sum, step);
      if (lane >= step) sum += other;
    }
    if (lane == kWarp - 1) sums[warp] = sum;
    __syncthreads();
    long long whole = 0;
    for (int w = 0; w < kScanThreads / kWarp; ++w) {
      if (w < warp) sum += sums[w];
      whole += sums[w];
    }
    if (i < groups) offsets[i + 1] = min64(before + sum, limit);
    before += whole;
    __syncthreads();
  }
}

inline void launch_scan_counts(const char* op, std::int64_t* offsets, std::int64_t groups, void* stream,
                               std::int64_t limit = INT64_MAX) {
  launch(op, scan_counts_kernel, dim3(1), dim3(kScanThreads), 0, stream, offsets, groups, limit);
}

}  // namespace pyws
