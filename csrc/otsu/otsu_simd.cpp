#include "otsu/otsu_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

constexpr int kLanes = 32;
constexpr int kAhead = 1024;  // values between what is read and what is fetched for later
constexpr int kChunk = 256;   // bins found before they are counted
constexpr int kCopies = 4;    // histograms side by side, so that equal neighbours do not wait for each other

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
  for (; i + kLanes <= n; i += kLanes) {
    prefetch(x + i + kAhead, kLanes);
    for (int lane = 0; lane < kLanes; ++lane) take(lane, widen(x[i + lane]));
  }
  for (; i < n; ++i) take(0, widen(x[i]));
  for (int lane = 1; lane < kLanes; ++lane) {
    lows[0] = lows[lane] < lows[0] ? lows[lane] : lows[0];
    highs[0] = highs[lane] > highs[0] ? highs[lane] : highs[0];
    poison[0] += poison[lane];
  }
  *low = lows[0] + poison[0];
  *high = highs[0] + poison[0];
}

// Bin 256 counts as 255.
template <class T, class BinOf>
inline __attribute__((always_inline)) void count_by(const T* x, std::int64_t n, const BinOf& bin_of,
                                                    std::uint32_t* counts) {
  std::uint32_t copies[kCopies][kOtsuBins + 1] = {};
  std::int32_t found[kChunk];
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    const int size = static_cast<int>(min64(kChunk, n - begin));
    for (int i = 0; i < size; ++i) found[i] = bin_of(widen(x[begin + i]));
    int i = 0;
    for (; i + kCopies <= size; i += kCopies)
      for (int copy = 0; copy < kCopies; ++copy) ++copies[copy][found[i + copy]];
    for (; i < size; ++i) ++copies[0][found[i]];
  }
  for (int copy = 0; copy < kCopies; ++copy) {
    for (int bin = 0; bin < kOtsuBins; ++bin) counts[bin] += copies[copy][bin];
    counts[kOtsuBins - 1] += copies[copy][kOtsuBins];
  }
}

template <class T, class A = typename Accumulator<T>::type>
void count(const T* x, std::int64_t n, OtsuBins<A> bins, std::uint32_t* counts) {
  const A scale = A(kOtsuBins) / bins.range;
  if (bins.low == A(0) && bins.high == A(1))
    count_by(x, n, [=](A value) { return otsu_bin_of_unit(value); }, counts);
  else if (otsu_wide(bins))
    count_by(x, n, [=](A value) { return otsu_bin_of_wide(bins, scale, value); }, counts);
  else
    count_by(x, n, [=](A value) { return otsu_bin(bins, value); }, counts);
}

// The first NaN of n values, none below 0, or the first of the greatest. Writes kLanes more behind them.
template <class A>
int first_best(A* x, int n) {
  A greatest[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) greatest[lane] = x[n + lane] = A(-1);
  for (int i = 0; i < n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane)
      greatest[lane] = x[i + lane] > greatest[lane] ? x[i + lane] : greatest[lane];
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int lane = 0; lane < width; ++lane)
      greatest[lane] = greatest[lane + width] > greatest[lane] ? greatest[lane + width] : greatest[lane];
  int none = n, first = n;
  for (int i = 0; i < n; ++i) {
    const int is_none = x[i] != x[i] ? i : n, is_greatest = x[i] == greatest[0] ? i : n;
    none = is_none < none ? is_none : none;
    first = is_greatest < first ? is_greatest : first;
  }
  return none < n ? none : first;
}

// The sums run one bin at a time in both directions, because their rounding decides ties; the rest is vectorised.
// Splits after an empty bin are those after the bin before it, so that only occupied bins are looked at: the first, of
// the least value, and the last are among them.
template <class A>
A split(const std::uint32_t* counts, OtsuBins<A> bins) {
  int occupied[kOtsuBins], n = 0;
  float count[kOtsuBins], weight1[kOtsuBins], weight2[kOtsuBins];
  A center[kOtsuBins], moment[kOtsuBins], moment1[kOtsuBins], moment2[kOtsuBins], separation[kOtsuBins + kLanes];
  for (int i = 0; i < kOtsuBins; ++i) {
    occupied[n] = i;
    n += counts[i] != 0;
  }
  for (int i = 0; i < n; ++i) {  // otsu_center of all but the last bin
    const A lower = A(occupied[i]) * bins.step + bins.low, upper = A(occupied[i] + 1) * bins.step + bins.low;
    center[i] = (lower + upper) / A(2);
  }
  if (occupied[n - 1] == kOtsuBins - 1) center[n - 1] = otsu_center(bins, kOtsuBins - 1);
  for (int i = 0; i < n; ++i) {
    count[i] = static_cast<float>(counts[occupied[i]]);
    moment[i] = A(count[i]) * center[i];
  }
  float up = 0, down = 0;
  A moment_up = 0, moment_down = 0;
  for (int i = 0, j = n - 1; i < n; ++i, --j) {
    weight1[i] = up += count[i];
    weight2[j] = down += count[j];
    moment1[i] = moment_up += moment[i];
    moment2[j] = moment_down += moment[j];
  }
  for (int i = 0; i < n - 1; ++i)
    separation[i] = otsu_separation(weight1[i], weight2[i + 1], moment1[i], moment2[i + 1]);
  return center[first_best(separation, n - 1)];
}

template <class T>
constexpr OtsuMap<T> loops_of() {
  return {extremes<T>, count<T>, split<typename Accumulator<T>::type>};
}

}  // namespace

const OtsuLoops otsu_loops = {loops_of<float>(), loops_of<double>(), loops_of<half_t>(), loops_of<bfloat16_t>()};

}  // namespace PYWS_ISA
}  // namespace pyws
