#include "otsu/otsu.h"

#include "common/parallel.h"
#include "otsu/otsu_simd.h"

namespace pyws {
namespace {

template <class T, class A = typename Accumulator<T>::type>
A threshold(const OtsuMap<T>& loops, const T* map, std::int64_t positions) {
  A low, high;
  loops.extremes(map, positions, &low, &high);
  if (!otsu_in_range(low, high)) return std::numeric_limits<A>::quiet_NaN();
  const OtsuBins<A> bins = otsu_bins(low, high);
  if (!otsu_wide(bins) && !distinct_edges(bins)) return high;
  std::uint32_t counts[kOtsuBins] = {};
  loops.count(map, positions, bins, counts);
  return loops.split(counts, bins);
}

template <class T, class A = typename Accumulator<T>::type>
void otsu(const OtsuMap<T>& loops, const void* maps, std::int64_t batch, std::int64_t positions, void* thresholds,
          int threads) {
  const double nanoseconds = 500.0 + 1.0 * static_cast<double>(positions);
  parallel_for(batch, nanoseconds, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      static_cast<A*>(thresholds)[b] = threshold(loops, static_cast<const T*>(maps) + b * positions, positions);
  });
}

}  // namespace

void otsu_cpu(const OtsuParams& p, int threads) {
  check_dtype("otsu", "thresholds", p.thresholds.dtype, summing_type(p.maps.dtype));
  with_floats("otsu", "maps", p.maps.dtype, [&](auto zero) {
    const auto& loops = loops_of<decltype(zero)>(otsu_loops());
    otsu(loops, p.maps.data, p.batch, p.positions, p.thresholds.data, threads);
  });
}

}  // namespace pyws
