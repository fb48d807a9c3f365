// exp to the last bit: the double next to the true value (but for one argument in some 2^45), the same on CPU and CUDA.
// For rules where a last bit decides; everything else takes exp_nonpositive of fuse_segments.h, which is vectorised.
#pragma once

#include <cmath>

#include "common/host_device.h"

namespace pyws {

// An unevaluated sum high + low, |low| <= ulp(high) / 2: some 106 bits.
struct DoubleDouble {
  double high, low;
};

PYWS_HD DoubleDouble fast_sum(double large, double small) {
  const double high = large + small;
  return {high, small - (high - large)};
}

PYWS_HD DoubleDouble product(DoubleDouble a, DoubleDouble b) {
  const double high = a.high * b.high;
  return fast_sum(high, fma(a.high, b.high, -high) + (a.high * b.low + a.low * b.high));
}

PYWS_HD DoubleDouble quotient(DoubleDouble a, double b) {
  const double high = a.high / b;
  return fast_sum(high, (fma(-high, b, a.high) + a.low) / b);
}

// exp(x) for x up to 708; 0 below -708 and for NaN.
PYWS_HD double exact_exp(double x) {
  if (!(x >= -708.0)) return 0.0;
  const double bounded = x < 708.0 ? x : 708.0;
  // ln 2 in three parts; the first two have 32 and 37 bits, so that their products with the power are exact.
  const double power = rint(bounded * 1.4426950408889634);
  const double first = bounded - power * 0x1.62e42feep-1, second = -power * 0x1.a39ef3579p-33;
  const double high = first + second, part = high - first;
  const double lost = (first - (high - part)) + (second - part);
  const DoubleDouble r = fast_sum(high, lost - power * 0x1.e3b39803f2f6bp-72);
  DoubleDouble sum = {1.0, 0.0};
  for (int n = 24; n > 0; --n) {  // 1 + r/1 (1 + r/2 (1 + r/3 (...)))
    const DoubleDouble term = quotient(product(sum, r), n);
    const DoubleDouble whole = fast_sum(1.0, term.high);
    sum = fast_sum(whole.high, whole.low + term.low);
  }
  return bit_cast<double>(bit_cast<std::int64_t>(sum.high) +
                          static_cast<std::int64_t>(power) * (std::int64_t{1} << 52));
}

}  // namespace pyws
