#include "launch.h"
#include "otsu.h"

namespace pyws {
namespace {

constexpr int kThreads = kOtsuBins;  // one thread a bin
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;

// Calls body(value) for every value of a map that belongs to this thread: 16 bytes a load where the map is aligned.
template <class T, class Body>
__device__ __forceinline__ void each_value(const T* map, std::int64_t n, const Body& body) {
  constexpr int kVector = 16 / sizeof(T);
  std::int64_t done = 0;
  if (reinterpret_cast<std::uintptr_t>(map) % 16 == 0) {
    for (std::int64_t i = threadIdx.x; i < n / kVector; i += kThreads) {
      const int4 loaded = reinterpret_cast<const int4*>(map)[i];
      T values[kVector];
      std::memcpy(values, &loaded, sizeof(loaded));
      for (int k = 0; k < kVector; ++k) body(widen(values[k]));
    }
    done = n / kVector * kVector;
  }
  for (std::int64_t i = done + threadIdx.x; i < n; i += kThreads) body(widen(map[i]));
}

// The least and the greatest value of the map, NaN where one is not finite, in every thread.
template <class T, class A>
__device__ void extremes(const T* map, std::int64_t n, A* low, A* high) {
  PYWS_SHARED(A, lows, kWarps);
  PYWS_SHARED(A, highs, kWarps);
  A lowest = widen(map[0]), highest = lowest, poison = 0;
  each_value(map, n, [&](A x) {
    lowest = x < lowest ? x : lowest;
    highest = x > highest ? x : highest;
    poison += x * A(0);
  });
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const A other_low = __shfl_xor_sync(0xffffffffu, lowest, offset);
    const A other_high = __shfl_xor_sync(0xffffffffu, highest, offset);
    lowest = other_low < lowest ? other_low : lowest;
    highest = other_high > highest ? other_high : highest;
    poison += __shfl_xor_sync(0xffffffffu, poison, offset);
  }
  if (threadIdx.x % kWarp == 0) {
    lows[threadIdx.x / kWarp] = lowest + poison;
    highs[threadIdx.x / kWarp] = highest + poison;
  }
  __syncthreads();
  *low = lows[0];
  *high = highs[0];
  poison = 0;
  for (int warp = 0; warp < kWarps; ++warp) {
    *low = lows[warp] < *low ? lows[warp] : *low;
    *high = highs[warp] > *high ? highs[warp] : *high;
    poison += lows[warp] * A(0) + highs[warp] * A(0);
  }
  *low += poison;
  *high += poison;
}

// counts[bin] of the whole map in thread `bin`. A histogram a warp, so that threads of a block seldom collide.
template <class T, class A>
__device__ unsigned count(const T* map, std::int64_t n, const OtsuBins<A>& bins) {
  PYWS_SHARED(unsigned, copies, kWarps* kOtsuBins);
  for (int warp = 0; warp < kWarps; ++warp) copies[warp * kOtsuBins + threadIdx.x] = 0;
  __syncthreads();
  unsigned* own = copies + threadIdx.x / kWarp * kOtsuBins;
  each_value(map, n, [&](A x) { atomicAdd(own + otsu_bin(bins, x), 1u); });
  __syncthreads();
  unsigned total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += copies[warp * kOtsuBins + threadIdx.x];
  return total;
}

// One running sum over the bins, from the first to the last or back, in the order that fixes its rounding.
template <class A>
__device__ void accumulate(const A* values, bool backwards, A* sums) {
  A sum = 0;
  for (int i = 0; i < kOtsuBins; ++i) {
    const int bin = backwards ? kOtsuBins - 1 - i : i;
    sums[bin] = sum += values[bin];
  }
}

// Traffic: a map is read twice, the second time from L2 where it fits; one number is written. Ownership: one block a
// map, so a few large maps leave multiprocessors idle.
//
//   all threads   extremes -> 8 shared histograms (integer atomics) -> count and moment of bin threadIdx.x
//   warps 0..3    lane 0: one running sum of 256 each (count and moment, upwards and downwards)
//   all threads   separation after bin threadIdx.x -> best by (value, lowest bin) in a shared tree -> centre
template <class T, class A>
__global__ void otsu_threshold(const T* maps, std::int64_t positions, A* thresholds) {
  PYWS_SHARED(float, counts, kOtsuBins);
  PYWS_SHARED(float, weight1, kOtsuBins);
  PYWS_SHARED(float, weight2, kOtsuBins);
  PYWS_SHARED(A, moments, kOtsuBins);
  PYWS_SHARED(A, moment1, kOtsuBins);
  PYWS_SHARED(A, moment2, kOtsuBins);
  PYWS_SHARED(A, separation, kOtsuBins);
  PYWS_SHARED(int, winner, kOtsuBins);
  PYWS_SHARED(int, touching, 1);
  const T* map = maps + blockIdx.x * positions;
  const int bin = static_cast<int>(threadIdx.x);
  if (bin == 0) touching[0] = 0;
  A low, high;
  extremes(map, positions, &low, &high);
  if (!otsu_in_range(low, high)) {  // the whole block leaves together, here and below
    if (bin == 0) thresholds[blockIdx.x] = std::numeric_limits<A>::quiet_NaN();
    return;
  }
  const OtsuBins<A> bins = otsu_bins(low, high);
  if (!(otsu_edge(bins, bin) < otsu_edge(bins, bin + 1))) atomicOr(touching, 1);
  __syncthreads();
  if (touching[0]) {
    if (bin == 0) thresholds[blockIdx.x] = high;
    return;
  }
  counts[bin] = static_cast<float>(count(map, positions, bins));
  moments[bin] = A(counts[bin]) * otsu_center(bins, bin);
  __syncthreads();
  if (bin == 0) accumulate(counts, false, weight1);
  if (bin == kWarp) accumulate(counts, true, weight2);
  if (bin == 2 * kWarp) accumulate(moments, false, moment1);
  if (bin == 3 * kWarp) accumulate(moments, true, moment2);
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
  if (bin == 0) thresholds[blockIdx.x] = otsu_center(bins, winner[0]);
}

template <class T, class A = typename Accumulator<T>::type>
void run(const void* maps, std::int64_t batch, std::int64_t positions, void* thresholds, void* stream) {
  launch("otsu", otsu_threshold<T, A>, grid_1d("otsu", batch), dim3(kThreads), 0, stream, static_cast<const T*>(maps),
         positions, static_cast<A*>(thresholds));
}

}  // namespace

void otsu_cuda(int dtype, const void* maps, std::int64_t batch, std::int64_t positions, void* thresholds,
               void* stream) {
  const auto pick = dtype == kFloat32   ? run<float>
                    : dtype == kFloat64 ? run<double>
                    : dtype == kFloat16 ? run<half_t>
                                        : run<bfloat16_t>;
  pick(maps, batch, positions, thresholds, stream);
}

}  // namespace pyws
