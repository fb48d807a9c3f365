#include "dual_newton/newton_center.h"

namespace pyws {

double clipped_sum(OneThread, const double* column, const double* change, const double* weight, double step, double mu,
                   double upper, std::int64_t n) {
  return newton_loops().clipped_sum(column, change, weight, step, mu, upper, n);
}

void factor_band(OneThread, double* band, std::int64_t n, std::int64_t width, double min_pivot, double* column) {
  newton_loops().factor(band, n, width, min_pivot, column);
}

void solve_band(OneThread, const double* band, std::int64_t n, std::int64_t width, double* x) {
  newton_loops().solve(band, n, width, x);
}

template class DualNewton<OneThread>;

}  // namespace pyws
