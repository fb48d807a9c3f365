// The leaf loops of DualNewton, one table an instruction set.
#pragma once

#include <cstdint>

#include "common/simd.h"

namespace pyws {

constexpr int kNewtonLanes = 8;  // arrays are padded by zeros to a multiple

// A symmetric band matrix by columns: column i holds its diagonal and the width - 1 entries below. width is a multiple
// of kNewtonLanes; width columns of zeros follow the last.
struct NewtonLoops {
  // sum of weight * clip(column + step * change - mu, 0, upper)
  double (*clipped_sum)(const double* column, const double* change, const double* weight, double step, double mu,
                        double upper, std::int64_t n);
  // L D L^T in place: 1 / D on the diagonal, L below. A pivot that rounding has emptied is raised to min_pivot.
  // column: scratch of 2 width values.
  void (*factor)(double* band, std::int64_t n, std::int64_t width, double min_pivot, double* column);
  // x becomes the solution of L D L^T z = x; x is padded by width zeros.
  void (*solve)(const double* band, std::int64_t n, std::int64_t width, double* x);
};

PYWS_DECLARE_LOOPS(NewtonLoops, newton_loops)

}  // namespace pyws
