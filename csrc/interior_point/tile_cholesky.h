// The Cholesky factorization of a symmetric positive definite matrix with a skyline, in tiles.
//
// The lower triangle is kept in square tiles: a row of tiles begins at the first tile that holds an entry and goes on
// to the diagonal, so that a matrix with a band, or with a border below one, costs what lies under its skyline. Nothing
// fills in to the left of it. The matrix is scaled to a diagonal of ones first; pivots that rounding has emptied are
// raised to what rounding is, and the caller refines.
#pragma once

#include <cstddef>
#include <vector>

#include "interior_point/tile_cholesky_simd.h"

namespace pyws {

class TileCholesky {
 public:
  // first[i] <= i is the first column of row i that may hold an entry; no more than before the next `clear`.
  void reset(const std::vector<int>& first);
  void clear();  // a matrix of zeros

  // Adds to the entry of row i and column j <= i, not to the left of the skyline.
  void add(int i, int j, double value) {
    const int row = i / kTile;
    tile(row, j / kTile)[(j % kTile) * kTile + i % kTile] += value;
  }

  void factor();
  void solve(std::vector<double>& x);  // x has a value a row

  // Multiplications that `factor` takes for this skyline, about.
  static double work(const std::vector<int>& first);

 private:
  static std::vector<int> first_tiles(const std::vector<int>& first);
  double* tile(int row, int column) {
    return tiles_.data() + (start_[row] + static_cast<std::size_t>(column - first_[row])) * kTile * kTile;
  }

  int size_ = 0, rows_ = 0;         // rows of the matrix; rows of tiles
  std::vector<int> first_;          // rows of tiles: first tile
  std::vector<std::size_t> start_;  // rows of tiles: tiles before
  std::vector<double> tiles_, scale_, x_;
};

}  // namespace pyws
