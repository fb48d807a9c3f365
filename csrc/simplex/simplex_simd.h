// The leaf loop of the simplex, one table an instruction set.
#pragma once

#include <cstdint>

#include "common/simd.h"

namespace pyws {

// Entries of a tableau that elimination brings below this are rounding: zero, which keeps the tableau sparse.
constexpr double kTableauZero = 1e-13;

struct SimplexLoops {
  // entries[j] -= factor * pivot[j]
  void (*eliminate)(double* entries, const double* pivot, double factor, std::int64_t n);
};

PYWS_DECLARE_LOOPS(SimplexLoops, simplex_loops)

}  // namespace pyws
