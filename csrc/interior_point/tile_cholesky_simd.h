// The leaf loops of the tiled Cholesky factorization, one table an instruction set.
#pragma once

#include "common/simd.h"

namespace pyws {

constexpr int kTile = 32;  // rows and columns of a tile

// A tile is stored by columns: entry (i, k) at k * kTile + i.
struct TileLoops {
  // c -= a b^T
  void (*subtract)(double* c, const double* a, const double* b);
  // The lower triangle of a tile becomes its Cholesky factor, with inverse pivots on the diagonal. A pivot that rounding
  // has emptied is `min_pivot`.
  void (*factor)(double* tile, double min_pivot);
  // c becomes c L^-T, L as `factor` leaves it
  void (*divide)(double* c, const double* factor);
  // x -= a y, and y -= a^T x
  void (*subtract_product)(double* x, const double* a, const double* y);
  void (*subtract_transposed)(double* y, const double* a, const double* x);
  // x becomes L^-1 x, and L^-T x
  void (*solve_lower)(double* x, const double* factor);
  void (*solve_upper)(double* x, const double* factor);
};

PYWS_DECLARE_LOOPS(TileLoops, tile_loops)

}  // namespace pyws
