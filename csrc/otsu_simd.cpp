#include "otsu_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

constexpr int kLanes = 32;
constexpr int kChunk = 256;  // bins found before they are counted
constexpr int kCopies = 4;   // histograms side by side, so that equal neighbours do not wait for each other

template <class T, class A = typename Accumulator<T>::type>
void extremes(const T* x, std::int64_t n, A* low, A* high) {
  A lows[kLanes], highs[kLanes], poison[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) lows[lane] = highs[lane] = widen(x[0]), poison[lane] = 0;
  const auto take = [&](int lane, A value) {
    lows[lane] = value < lows[lane] ? value : lows[lane];
    highs[lane] = value > highs[lane] ? value : highs[lane];
    poison[lane] += value * A(0);  // NaN from the first value that is not finite
  };
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) take(lane, widen(x[i + lane]));
  for (; i < n; ++i) take(0, widen(x[i]));
  for (int lane = 1; lane < kLanes; ++lane) {
    lows[0] = lows[lane] < lows[0] ? lows[lane] : lows[0];
    highs[0] = highs[lane] > highs[0] ? highs[lane] : highs[0];
    poison[0] += poison[lane];
  }
  *low = lows[0] + poison[0];
  *high = highs[0] + poison[0];
}

template <class T, class A = typename Accumulator<T>::type>
void count(const T* x, std::int64_t n, OtsuBins<A> bins, std::uint32_t* counts) {
  std::uint32_t copies[kCopies][kOtsuBins] = {};
  std::uint8_t found[kChunk];
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    const int size = static_cast<int>(min64(kChunk, n - begin));
    for (int i = 0; i < size; ++i) found[i] = static_cast<std::uint8_t>(otsu_bin<A>(bins, widen(x[begin + i])));
    int i = 0;
    for (; i + kCopies <= size; i += kCopies)
      for (int copy = 0; copy < kCopies; ++copy) ++copies[copy][found[i + copy]];
    for (; i < size; ++i) ++copies[0][found[i]];
  }
  for (int copy = 0; copy < kCopies; ++copy)
    for (int bin = 0; bin < kOtsuBins; ++bin) counts[bin] += copies[copy][bin];
}

// The sums run one bin at a time in both directions, because their rounding decides ties; the rest is vectorised.
template <class A>
A split(const std::uint32_t* counts, OtsuBins<A> bins) {
  float count[kOtsuBins], weight1[kOtsuBins], weight2[kOtsuBins];
  A center[kOtsuBins], moment[kOtsuBins], moment1[kOtsuBins], moment2[kOtsuBins], separation[kOtsuBins];
  for (int i = 0; i < kOtsuBins; ++i) {
    count[i] = static_cast<float>(counts[i]);
    center[i] = otsu_center(bins, i);
    moment[i] = A(count[i]) * center[i];
  }
  float up = 0, down = 0;
  A moment_up = 0, moment_down = 0;
  for (int i = 0, j = kOtsuBins - 1; i < kOtsuBins; ++i, --j) {
    weight1[i] = up += count[i];
    weight2[j] = down += count[j];
    moment1[i] = moment_up += moment[i];
    moment2[j] = moment_down += moment[j];
  }
  for (int i = 0; i < kOtsuBins - 1; ++i)
    separation[i] = otsu_separation(weight1[i], weight2[i + 1], moment1[i], moment2[i + 1]);
  int best = 0;
  for (int i = 1; i < kOtsuBins - 1; ++i) best = otsu_better(separation[i], separation[best]) ? i : best;
  return center[best];
}

template <class T>
constexpr OtsuMap<T> loops_of() {
  return {extremes<T>, count<T>, split<typename Accumulator<T>::type>};
}

}  // namespace

const OtsuLoops otsu_loops = {loops_of<float>(), loops_of<double>(), loops_of<half_t>(), loops_of<bfloat16_t>()};

}  // namespace PYWS_ISA
}  // namespace pyws
