// What the CUDA kernels of ragged families share: offsets from counts and from offsets of any contents, and sorting.
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

// Offsets that stay inside 0..values and never fall, whatever they hold, and counts (lengths, 0 where they are less) in
// counts[1..groups]. Traffic: read and written once, coalesced. Ownership: one warp; running maxima by shuffles.
static __global__ void lay_out_groups(const std::int64_t* offsets, const std::int64_t* lengths, std::int64_t groups,
                                      std::int64_t values, std::int64_t* clamped, std::int64_t* counts) {
  const int lane = threadIdx.x;
  long long reached = 0;
  for (std::int64_t tile = 0; tile <= groups; tile += kWarp) {
    const std::int64_t g = tile + lane;
    const long long offset = running_max(max64(reached, g <= groups ? min64(offsets[g], values) : 0));
    if (g <= groups) clamped[g] = offset;
    if (g < groups) counts[g + 1] = max64(lengths[g], 0);
    reached = __shfl_sync(kWholeWarp, offset, kWarp - 1);
  }
}

// The values in order, equal ones as they came, in one of the two arrays: a merge sort by the whole block, in which each
// value finds its place by a binary search in the run beside its own. Ends with a barrier; values were written by the
// threads that start with them, i, i + blockDim.x, ...
template <class T, class Less>
__device__ T* merge_sort(T* values, T* other, std::int64_t count, const Less& less) {
  __syncthreads();
  for (std::int64_t run = 1; run < count; run *= 2) {
    for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) {
      const std::int64_t first = i & ~(2 * run - 1), middle = min64(first + run, count);
      const bool left = i < middle;
      const T value = values[i];
      std::int64_t low = left ? middle : first, high = left ? min64(middle + run, count) : middle;
      while (low < high) {
        const std::int64_t at = low + (high - low) / 2;
        if (left ? less(values[at], value) : !less(value, values[at]))
          low = at + 1;
        else
          high = at;
      }
      other[i + low - middle] = value;
    }
    __syncthreads();
    T* sorted = other;
    other = values;
    values = sorted;
  }
  return values;
}

inline void launch_scan_counts(const char* op, std::int64_t* offsets, std::int64_t groups, void* stream,
                               std::int64_t limit = INT64_MAX) {
  launch(op, scan_counts_kernel, dim3(1), dim3(kScanThreads), 0, stream, offsets, groups, limit);
}

// The offsets of what groups have, clamped, and of their snippets, from the lengths; `limit` as in launch_scan_counts.
inline void launch_lay_out(const char* op, const std::int64_t* offsets, const std::int64_t* lengths,
                           std::int64_t groups, std::int64_t values, std::int64_t* clamped, std::int64_t* snippets,
                           void* stream, std::int64_t limit = INT64_MAX) {
  launch(op, lay_out_groups, dim3(1), dim3(kWarp), 0, stream, offsets, lengths, groups, values, clamped, snippets);
  launch_scan_counts(op, snippets, groups, stream, limit);
}

}  // namespace pyws
