#include "dual_newton/dual_newton_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

inline __attribute__((always_inline)) double sum(const double* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

double clipped_sum(const double* column, const double* rise, const double* weight, double step, double mu, double upper,
                   std::int64_t n) {
  double lanes[kSpreadLanes] = {};
  for (std::int64_t i = 0; i < n; i += kSpreadLanes)
    for (int lane = 0; lane < kSpreadLanes; ++lane) {
      const double raw = column[i + lane] + step * rise[i + lane] - mu;
      const double above = raw > 0.0 ? raw : 0.0;
      lanes[lane] += weight[i + lane] * (above < upper ? above : upper);
    }
  return sum(lanes);
}

// y[0 .. n-1] -= factor * x[0 .. n-1]; n is a multiple of the lanes
inline __attribute__((always_inline)) void subtract(double* __restrict y, const double* __restrict x, double factor,
                                                    std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kSpreadLanes)
    for (int lane = 0; lane < kSpreadLanes; ++lane) y[i + lane] -= factor * x[i + lane];
}

void factor(double* band, std::int64_t n, std::int64_t width, double least, double* column) {
  for (std::int64_t i = 0; i < width; ++i) column[width + i] = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    double* mine = band + i * width;
    for (std::int64_t d = 0; d < width; ++d) column[d] = mine[d];
    const double inverse = 1.0 / (column[0] > least ? column[0] : least);
    for (std::int64_t d = 0; d < width; ++d) mine[d] *= inverse;
    mine[0] = inverse;
    for (std::int64_t d = 1; d < width; ++d)
      if (mine[d] != 0.0) subtract(band + (i + d) * width, column + d, mine[d], width);
  }
}

// The narrowest band: what a row reads of x stays in registers, since a load that spans earlier stores has to wait.
void solve_narrow(const double* band, std::int64_t n, double* x) {
  double next[kSpreadLanes];
  for (int d = 0; d < kSpreadLanes; ++d) next[d] = x[d];
  for (std::int64_t i = 0; i < n; ++i, band += kSpreadLanes) {
    const double value = next[0];
    for (int d = 1; d < kSpreadLanes; ++d) next[d - 1] = next[d] - value * band[d];
    next[kSpreadLanes - 1] = x[i + kSpreadLanes];
    x[i] = value * band[0];
  }
  for (double& value : next) value = 0.0;
  for (std::int64_t i = n; i-- > 0;) {
    band -= kSpreadLanes;
    double lanes[kSpreadLanes] = {};
    for (int d = kSpreadLanes - 1; d > 0; --d) {
      next[d] = next[d - 1];
      lanes[d] = band[d] * next[d];
    }
    x[i] = next[0] = x[i] - sum(lanes);
  }
}

void solve(const double* band, std::int64_t n, std::int64_t width, double* x) {
  if (width == kSpreadLanes) return solve_narrow(band, n, x);
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = x[i];
    subtract(x + i, band + i * width, value, width);
    x[i] = value * band[i * width];
  }
  for (std::int64_t i = n; i-- > 0;) {
    double lanes[kSpreadLanes] = {};
    const double* mine = band + i * width;
    const double value = x[i];
    x[i] = 0.0;
    for (std::int64_t d = 0; d < width; d += kSpreadLanes)
      for (int lane = 0; lane < kSpreadLanes; ++lane) lanes[lane] += mine[d + lane] * x[i + d + lane];
    x[i] = value - sum(lanes);
  }
}

}  // namespace

const SpreadLoops spread_loops = {clipped_sum, factor, solve};

}  // namespace PYWS_ISA
}  // namespace pyws
