// The leaf loops of otsu, one table an instruction set.
#pragma once

#include "common/simd.h"
#include "otsu/otsu.h"

namespace pyws {

template <class T>
struct OtsuMap {
  using A = typename Accumulator<T>::type;
  // the least and the greatest of n values; both NaN where one is not finite
  void (*extremes)(const T* x, std::int64_t n, A* low, A* high);
  // counts[bin of x[i]] += 1
  void (*count)(const T* x, std::int64_t n, OtsuBins<A> bins, std::uint32_t* counts);
  // the threshold of a filled histogram
  A (*split)(const std::uint32_t* counts, OtsuBins<A> bins);
};

struct OtsuLoops {
  OtsuMap<float> f32;
  OtsuMap<double> f64;
  OtsuMap<half_t> f16;
  OtsuMap<bfloat16_t> bf16;
};

PYWS_DECLARE_LOOPS(OtsuLoops, otsu_loops)

}  // namespace pyws
