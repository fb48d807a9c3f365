// Otsu's threshold of one map by one block, for the .cu files that have the map, or make it as they go.
#pragma once

#include "common/warp.cuh"
#include "otsu/otsu.h"

namespace pyws {

constexpr int kOtsuWarps = kOtsuBins / kWarp;

// The least and the greatest value, NaN where one is not finite, in every thread; `lowest` is any of the values.
template <class A, class Visit>
__device__ void otsu_extremes(const Visit& visit, A lowest, A* low, A* high) {
  PYWS_SHARED(A, lows, kOtsuWarps);
  PYWS_SHARED(A, highs, kOtsuWarps);
  A highest = lowest, poison = 0;
  visit([&](A x) {
    lowest = x < lowest ? x : lowest;
    highest = x > highest ? x : highest;
    poison += x * A(0);
  });
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const A other_low = __shfl_xor_sync(kWholeWarp, lowest, offset);
    const A other_high = __shfl_xor_sync(kWholeWarp, highest, offset);
    lowest = other_low < lowest ? other_low : lowest;
    highest = other_high > highest ? other_high : highest;
    poison += __shfl_xor_sync(kWholeWarp, poison, offset);
  }
  if (threadIdx.x % kWarp == 0) {
    lows[threadIdx.x / kWarp] = lowest + poison;
    highs[threadIdx.x / kWarp] = highest + poison;
  }
  __syncthreads();
  *low = lows[0];
  *high = highs[0];
  poison = 0;
  for (int warp = 0; warp < kOtsuWarps; ++warp) {
    *low = lows[warp] < *low ? lows[warp] : *low;
    *high = highs[warp] > *high ? highs[warp] : *high;
    poison += lows[warp] * A(0) + highs[warp] * A(0);
  }
  *low += poison;
  *high += poison;
}

// The count of bin threadIdx.x. A histogram a warp, so that threads of a block seldom collide.
template <class A, class Visit>
__device__ unsigned otsu_count(const Visit& visit, const OtsuBins<A>& bins) {
  PYWS_SHARED(unsigned, copies, kOtsuWarps* kOtsuBins);
  for (int warp = 0; warp < kOtsuWarps; ++warp) copies[warp * kOtsuBins + threadIdx.x] = 0;
  __syncthreads();
  unsigned* own = copies + threadIdx.x / kWarp * kOtsuBins;
  visit([&](A x) { atomicAdd(own + otsu_bin(bins, x), 1u); });
  __syncthreads();
  unsigned total = 0;
  for (int warp = 0; warp < kOtsuWarps; ++warp) total += copies[warp * kOtsuBins + threadIdx.x];
  return total;
}

// One running sum over the bins, from the first to the last or back, in the order that fixes its rounding.
template <class A>
__device__ void otsu_accumulate(const A* values, bool backwards, A* sums) {
  A sum = 0;
  for (int i = 0; i < kOtsuBins; ++i) {
    const int bin = backwards ? kOtsuBins - 1 - i : i;
    sums[bin] = sum += values[bin];
  }
}

// The threshold of a map whose bins can be told apart, in every thread of a block of kOtsuBins threads. visit(body)
// calls body(value) for the values of the map that belong to this thread.
//
//   all threads   8 shared histograms (integer atomics) -> count and moment of bin threadIdx.x
//   warps 0..3    lane 0: one running sum of 256 each (count and moment, upwards and downwards)
//   all threads   separation after bin threadIdx.x -> best by (value, lowest bin) in a shared tree -> centre
template <class A, class Visit>
__device__ A block_split(const Visit& visit, const OtsuBins<A>& bins) {
  PYWS_SHARED(float, counts, kOtsuBins);
  PYWS_SHARED(float, weight1, kOtsuBins);
  PYWS_SHARED(float, weight2, kOtsuBins);
  PYWS_SHARED(A, moments, kOtsuBins);
  PYWS_SHARED(A, moment1, kOtsuBins);
  PYWS_SHARED(A, moment2, kOtsuBins);
  PYWS_SHARED(A, separation, kOtsuBins);
  PYWS_SHARED(int, winner, kOtsuBins);
  const int bin = static_cast<int>(threadIdx.x);
  counts[bin] = static_cast<float>(otsu_count(visit, bins));
  moments[bin] = A(counts[bin]) * otsu_center(bins, bin);
  __syncthreads();
  if (bin == 0) otsu_accumulate(counts, false, weight1);
  if (bin == kWarp) otsu_accumulate(counts, true, weight2);
  if (bin == 2 * kWarp) otsu_accumulate(moments, false, moment1);
  if (bin == 3 * kWarp) otsu_accumulate(moments, true, moment2);
  __syncthreads();
  winner[bin] = bin;
  separation[bin] = bin == kOtsuBins - 1
                        ? A(-1)  // no split after the last bin
                        : otsu_separation(weight1[bin], weight2[bin + 1], moment1[bin], moment2[bin + 1]);
  __syncthreads();
  for (int width = kOtsuBins / 2; width > 0; width /= 2) {
    if (bin < width) {
      const A mine = separation[winner[bin]], other = separation[winner[bin + width]];
      const bool tie = mine == other || (mine != mine && other != other);
      if (tie ? winner[bin + width] < winner[bin] : otsu_better(other, mine)) winner[bin] = winner[bin + width];
    }
    __syncthreads();
  }
  return otsu_center(bins, winner[0]);
}

// The threshold of a map, in every thread, as in otsu.h; `some` is any value of the map.
template <class A, class Visit>
__device__ A block_otsu(const Visit& visit, A some) {
  PYWS_SHARED(int, touching, 1);
  const int bin = static_cast<int>(threadIdx.x);
  if (bin == 0) touching[0] = 0;
  A low, high;
  otsu_extremes(visit, some, &low, &high);
  if (!otsu_in_range(low, high)) return std::numeric_limits<A>::quiet_NaN();  // in all threads, here and below
  const OtsuBins<A> bins = otsu_bins(low, high);
  if (!(otsu_edge(bins, bin) < otsu_edge(bins, bin + 1))) atomicOr(touching, 1);
  __syncthreads();
  if (touching[0]) return high;
  return block_split(visit, bins);
}

}  // namespace pyws
