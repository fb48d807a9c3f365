#include "otsu/otsu_masks_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

template <class T, class A = typename Accumulator<T>::type>
void along(const T* row, const Columns<A>* columns, std::int64_t n, A* __restrict out) {
  const Columns<A> c = *columns;
  for (std::int64_t x = 0; x < n; ++x)
    out[x] = blend<A>(widen(row[c.near[x]]), widen(row[c.far[x]]), c.rest[x], c.share[x]);
}

template <class A>
void across(const A* near, const A* far, A rest, A share, std::int64_t n, A* __restrict out) {
  for (std::int64_t x = 0; x < n; ++x) out[x] = blend(near[x], far[x], rest, share);
}

template <class A>
void to_unit(A* x, std::int64_t n, A low, A range) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = in_unit(x[i], low, range);
}

template <class A>
void from(const A* x, std::int64_t n, A low, std::uint8_t* __restrict mask) {
  for (std::int64_t i = 0; i < n; ++i) mask[i] = x[i] >= low ? 1 : 0;
}

}  // namespace

const ScaleLoops scale_loops = {{along<float>},
                                {along<double>},
                                {along<half_t>},
                                {along<bfloat16_t>},
                                {across<float>, to_unit<float>, from<float>},
                                {across<double>, to_unit<double>, from<double>}};

}  // namespace PYWS_ISA
}  // namespace pyws
