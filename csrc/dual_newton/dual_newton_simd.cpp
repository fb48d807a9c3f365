#include "dual_newton/dual_newton_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

inline __attribute__((always_inline)) double sum(const double* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

double clipped_sum(const double* column, const double* change, const double* weight, double step, double mu,
                   double upper, std::int64_t n) {
  double lanes[kNewtonLanes] = {};
  for (std::int64_t i = 0; i < n; i += kNewtonLanes)
    for (int lane = 0; lane < kNewtonLanes; ++lane) {
      const double raw = column[i + lane] + step * change[i + lane] - mu;
      const double above = raw > 0.0 ? raw : 0.0;
      lanes[lane] += weight[i + lane] * (above < upper ? above : upper);
    }
  return sum(lanes);
}

// y[0 .. n-1] -= factor * x[0 .. n-1]; n is a multiple of the lanes
inline __attribute__((always_inline)) void subtract(double* __restrict y, const double* __restrict x, double factor,
                                                    std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kNewtonLanes)
    for (int lane = 0; lane < kNewtonLanes; ++lane) y[i + lane] -= factor * x[i + lane];
}

void factor(double* band, std::int64_t n, std::int64_t width, double min_pivot, double* column) {
  for (std::int64_t i = 0; i < width; ++i) column[width + i] = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    double* entries = band + i * width;
    for (std::int64_t d = 0; d < width; ++d) column[d] = entries[d];
    const double inverse = 1.0 / (column[0] > min_pivot ? column[0] : min_pivot);
    for (std::int64_t d = 0; d < width; ++d) entries[d] *= inverse;
    entries[0] = inverse;
    for (std::int64_t d = 1; d < width; ++d)
      if (entries[d] != 0.0) subtract(band + (i + d) * width, column + d, entries[d], width);
  }
}

// The narrowest band: what a row reads of x stays in registers, since a load that spans earlier stores has to wait.
void solve_narrow(const double* band, std::int64_t n, double* x) {
  double next[kNewtonLanes];
  for (int d = 0; d < kNewtonLanes; ++d) next[d] = x[d];
  for (std::int64_t i = 0; i < n; ++i, band += kNewtonLanes) {
    const double value = next[0];
    for (int d = 1; d < kNewtonLanes; ++d) next[d - 1] = next[d] - value * band[d];
    next[kNewtonLanes - 1] = x[i + kNewtonLanes];
    x[i] = value * band[0];
  }
  for (double& value : next) value = 0.0;
  for (std::int64_t i = n; i-- > 0;) {
    band -= kNewtonLanes;
    double lanes[kNewtonLanes] = {};
    for (int d = kNewtonLanes - 1; d > 0; --d) {
      next[d] = next[d - 1];
      lanes[d] = band[d] * next[d];
    }
    x[i] = next[0] = x[i] - sum(lanes);
  }
}

void solve(const double* band, std::int64_t n, std::int64_t width, double* x) {
  if (width == kNewtonLanes) return solve_narrow(band, n, x);
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = x[i];
    subtract(x + i, band + i * width, value, width);
    x[i] = value * band[i * width];
  }
  for (std::int64_t i = n; i-- > 0;) {
    double lanes[kNewtonLanes] = {};
    const double* entries = band + i * width;
    const double value = x[i];
    x[i] = 0.0;
    for (std::int64_t d = 0; d < width; d += kNewtonLanes)
      for (int lane = 0; lane < kNewtonLanes; ++lane) lanes[lane] += entries[d + lane] * x[i + d + lane];
    x[i] = value - sum(lanes);
  }
}

}  // namespace

const NewtonLoops newton_loops = {clipped_sum, factor, solve};

}  // namespace PYWS_ISA
}  // namespace pyws
