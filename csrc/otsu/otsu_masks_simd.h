// The leaf loops of otsu_masks, one table an instruction set.
#pragma once

#include "common/simd.h"
#include "otsu/otsu_masks.h"

namespace pyws {

// The interpolation along a row: one entry a column.
template <class A>
struct Columns {
  const std::int32_t* near;
  const std::int32_t* far;
  const A* rest;
  const A* share;
};

template <class T, class A = typename Accumulator<T>::type>
struct ScaleRow {
  // out[x] = the row of a map at column x
  void (*along)(const T* row, const Columns<A>* columns, std::int64_t n, A* out);
};

template <class A>
struct ScaleMap {
  // out[i] = blend(near[i], far[i], rest, share)
  void (*across)(const A* near, const A* far, A rest, A share, std::int64_t n, A* out);
  // x[i] = in_unit(x[i], low, range)
  void (*to_unit)(A* x, std::int64_t n, A low, A range);
  // mask[i] = x[i] >= low
  void (*from)(const A* x, std::int64_t n, A low, std::uint8_t* mask);
};

struct ScaleLoops {
  ScaleRow<float> f32;
  ScaleRow<double> f64;
  ScaleRow<half_t> f16;
  ScaleRow<bfloat16_t> bf16;
  ScaleMap<float> single;
  ScaleMap<double> wide;
};

PYWS_DECLARE_LOOPS(ScaleLoops, scale_loops)

}  // namespace pyws
