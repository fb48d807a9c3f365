// otsu: the threshold between the two classes of each map (Otsu 1979), as scikit-image's threshold_otsu with 256 bins.
//
//   edges[i]  = low + i * ((high - low) / 256), edges[256] = high
//   counts[i] = number of values with edges[i] <= x < edges[i+1]; the last bin includes high
//   threshold = centre of the first bin i that maximises w1[i] w2[i+1] (m1[i] - m2[i+1])^2, w and m the count and the
//               mean of the bins up to i and from i+1
//
// shape       maps (batch, positions), contiguous; thresholds (batch)
// dtype       a float type for the maps; thresholds and all arithmetic are float32, for float64 maps float64. Every rounding
//             step is NumPy's, in NumPy's order, so that thresholds equal scikit-image's bit for bit. One block or
//             thread owns a map: the same bits on CPU and CUDA, for any number of threads and any batch composition.
// Ties        the lowest bin
// Constant    a map whose 256 bins cannot be told apart in its arithmetic (one value, or rounding noise around one,
//             where scikit-image raises) has its maximum as the threshold: `map > threshold` is empty
// NaN, inf    in a map, or a value beyond half the largest float: the threshold is NaN
// Empty       batch = 0 writes nothing; positions must be between 1 and 2^31 - 1
#pragma once

#include <cstdint>
#include <limits>

#include "common/params.h"

namespace pyws {

constexpr int kOtsuBins = 256;

struct OtsuParams {
  Array<const void> maps;
  std::int64_t batch, positions;
  Array<void> thresholds;
  PYWS_FIELDS(maps, batch, positions, thresholds)
};
void otsu_cpu(const OtsuParams& params, int threads);
void otsu_cuda(const OtsuParams& params, void* stream);

// The bins of one map.
template <class A>
struct OtsuBins {
  A low, high, range, step;
};

template <class A>
PYWS_HD OtsuBins<A> otsu_bins(A low, A high) {
  return {low, high, high - low, (high - low) / A(kOtsuBins)};
}

// Are low and high within what the arithmetic below can take? NaN is not.
template <class A>
PYWS_HD bool otsu_in_range(A low, A high) {
  const A sum = low + low, other = high + high;
  return sum - sum == A(0) && other - other == A(0);
}

template <class A>
PYWS_HD A otsu_edge(const OtsuBins<A>& bins, int i) {
  return i == kOtsuBins ? bins.high : A(i) * bins.step + bins.low;
}

template <class A>
PYWS_HD A otsu_center(const OtsuBins<A>& bins, int i) {
  return (otsu_edge(bins, i) + otsu_edge(bins, i + 1)) / A(2);
}

// Can the bins be told apart?
template <class A>
PYWS_HD bool distinct_edges(const OtsuBins<A>& bins) {
  bool distinct = true;
  for (int i = 0; i < kOtsuBins; ++i) distinct &= otsu_edge(bins, i) < otsu_edge(bins, i + 1);
  return distinct;
}

// The bin of x in [low, high]: a guess by division, at most one off, then corrected by the edges. Branch-free.
template <class A>
PYWS_HD int otsu_bin(const OtsuBins<A>& bins, A x) {
  int guess = static_cast<int>((x - bins.low) / bins.range * A(kOtsuBins));
  guess -= guess == kOtsuBins;
  const int below = x < A(guess) * bins.step + bins.low;
  const int above = (x >= A(guess + 1) * bins.step + bins.low) & (guess != kOtsuBins - 1);
  return guess - below + above;
}

// Are the bins so wide, beside the last place of their edges, that all can be told apart and otsu_bin_of_wide holds?
// The edges of a bin are off by at most an eighth of it then, and the scale is finite.
template <class A>
PYWS_HD bool otsu_wide(const OtsuBins<A>& bins) {
  const A below = bins.low < A(0) ? -bins.low : bins.low, above = bins.high < A(0) ? -bins.high : bins.high;
  const A scale = A(kOtsuBins) / bins.range;
  return bins.step >= A(4) * std::numeric_limits<A>::epsilon() * (below > above ? below : above) &&
         scale - scale == A(0);
}

// As otsu_bin where otsu_wide, with scale = 256 / range: half a bin is added, so that the guess is right or one too
// high. A product and one edge instead of a division and two. The greatest values may come out as bin 256.
template <class A>
PYWS_HD int otsu_bin_of_wide(const OtsuBins<A>& bins, A scale, A x) {
  const int guess = static_cast<int>((x - bins.low) * scale + A(0.5));
  return x < A(guess) * bins.step + bins.low ? guess - 1 : guess;
}

// As otsu_bin for the bins from 0 to 1: their edges are multiples of 1/256, nothing is rounded. 1 comes out as bin 256.
template <class A>
PYWS_HD int otsu_bin_of_unit(A x) {
  return static_cast<int>(x * A(kOtsuBins));
}

// Between-class variance of a split. Counts are float32 for every dtype, and so is their product, as in scikit-image.
template <class A>
PYWS_HD A otsu_separation(float weight1, float weight2, A moment1, A moment2) {
  const A distance = moment1 / A(weight1) - moment2 / A(weight2);
  return A(weight1 * weight2) * (distance * distance);
}

// Does `x` at a higher bin replace the best so far? As in numpy.argmax the first NaN (of an overflow) beats all.
template <class A>
PYWS_HD bool otsu_better(A x, A best) {
  return x > best || (x != x && best == best);
}

}  // namespace pyws
