#include "simplex/simplex_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

void eliminate(double* __restrict entries, const double* __restrict pivot, double factor, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) {
    const double entry = entries[j] - factor * pivot[j];
    entries[j] = entry < kTableauZero && entry > -kTableauZero ? 0.0 : entry;
  }
}

}  // namespace

const SimplexLoops simplex_loops = {eliminate};

}  // namespace PYWS_ISA
}  // namespace pyws
