#include "interior_point/tile_cholesky_simd.h"

#include <cmath>

namespace pyws {
namespace PYWS_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVector = 8;  // doubles of a register
#elif defined(__AVX2__)
constexpr int kVector = 4;
#else
constexpr int kVector = 2;
#endif
constexpr int kLanes = 8, kColumns = 8;  // sums of a dot; columns of the block of c that stays in registers

typedef double Vector __attribute__((vector_size(kVector * sizeof(double)), aligned(sizeof(double)), may_alias));

inline __attribute__((always_inline)) Vector& vector(double* x) { return *reinterpret_cast<Vector*>(x); }
inline __attribute__((always_inline)) const Vector& vector(const double* x) {
  return *reinterpret_cast<const Vector*>(x);
}

void subtract(double* __restrict c, const double* __restrict a, const double* __restrict b) {
  for (int j = 0; j < kTile; j += kColumns)
    for (int i = 0; i < kTile; i += kVector) {
      Vector sums[kColumns] = {};
      for (int k = 0; k < kTile; ++k)
        for (int column = 0; column < kColumns; ++column)
          sums[column] += b[k * kTile + j + column] * vector(a + k * kTile + i);
      for (int column = 0; column < kColumns; ++column) vector(c + (j + column) * kTile + i) -= sums[column];
    }
}

// y -= factor * x
inline __attribute__((always_inline)) void subtract_column(double* __restrict y, const double* __restrict x,
                                                           double factor) {
  for (int i = 0; i < kTile; ++i) y[i] -= factor * x[i];
}

inline __attribute__((always_inline)) void scale_column(double* x, double factor) {
  for (int i = 0; i < kTile; ++i) x[i] *= factor;
}

void factor(double* tile, double min_pivot) {
  for (int j = 0; j < kTile; ++j) {
    double* column = tile + j * kTile;
    for (int k = 0; k < j; ++k) subtract_column(column, tile + k * kTile, tile[k * kTile + j]);
    const double inverse = column[j] > min_pivot ? 1.0 / std::sqrt(column[j]) : 0.0;
    scale_column(column, inverse);
    for (int i = 0; i < j; ++i) column[i] = 0.0;
    column[j] = inverse;
  }
}

void divide(double* c, const double* factor) {
  for (int j = 0; j < kTile; ++j) {
    for (int k = 0; k < j; ++k) subtract_column(c + j * kTile, c + k * kTile, factor[k * kTile + j]);
    scale_column(c + j * kTile, factor[j * kTile + j]);
  }
}

void subtract_product(double* x, const double* a, const double* y) {
  for (int k = 0; k < kTile; ++k) subtract_column(x, a + k * kTile, y[k]);
}

inline __attribute__((always_inline)) double dot(const double* x, const double* y) {
  double lanes[kLanes] = {};
  for (int i = 0; i < kTile; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * y[i + lane];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

void subtract_transposed(double* y, const double* a, const double* x) {
  for (int k = 0; k < kTile; ++k) y[k] -= dot(a + k * kTile, x);
}

void solve_lower(double* x, const double* factor) {
  for (int j = 0; j < kTile; ++j) {
    x[j] *= factor[j * kTile + j];
    for (int i = j + 1; i < kTile; ++i) x[i] -= factor[j * kTile + i] * x[j];
  }
}

void solve_upper(double* x, const double* factor) {
  for (int j = kTile; j-- > 0;) {
    double sum = x[j];
    for (int i = j + 1; i < kTile; ++i) sum -= factor[j * kTile + i] * x[i];
    x[j] = sum * factor[j * kTile + j];
  }
}

}  // namespace

const TileLoops tile_loops = {subtract,    factor,     divide, subtract_product, subtract_transposed,
                              solve_lower, solve_upper};

}  // namespace PYWS_ISA
}  // namespace pyws
