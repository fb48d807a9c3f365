#include "interior_point/tile_cholesky.h"

#include <algorithm>
#include <cmath>

namespace pyws {
namespace {

constexpr double kRounding = 1e-15;  // smallest pivot that is no rounding, where the diagonal was 1

}  // namespace

std::vector<int> TileCholesky::first_tiles(const std::vector<int>& first) {
  std::vector<int> tiles((first.size() + kTile - 1) / kTile);
  for (std::size_t row = 0; row < tiles.size(); ++row) {
    const std::size_t last = std::min(first.size(), (row + 1) * kTile);
    tiles[row] = *std::min_element(first.begin() + static_cast<std::ptrdiff_t>(row * kTile),
                                   first.begin() + static_cast<std::ptrdiff_t>(last)) /
                 kTile;
  }
  return tiles;
}

double TileCholesky::work(const std::vector<int>& first) {
  const std::vector<int> tiles = first_tiles(first);
  double sum = 0.0;
  for (std::size_t row = 0; row < tiles.size(); ++row) {
    const double width = static_cast<double>(row) - tiles[row] + 1.0;
    sum += 0.5 * width * (width + 1.0);
  }
  return sum * kTile * kTile * kTile;
}

void TileCholesky::reset(const std::vector<int>& first) {
  size_ = static_cast<int>(first.size());
  first_ = first_tiles(first);
  rows_ = static_cast<int>(first_.size());
  start_.assign(1, 0);
  for (int row = 0; row < rows_; ++row)
    start_.push_back(start_.back() + static_cast<std::size_t>(row - first_[row] + 1));
}

void TileCholesky::clear() { tiles_.assign(start_.back() * kTile * kTile, 0.0); }

void TileCholesky::factor() {
  const TileLoops& loops = tile_loops();
  scale_.assign(static_cast<std::size_t>(rows_) * kTile, 0.0);  // 0 beyond the matrix
  for (int i = 0; i < size_; ++i) {
    const double diagonal = tile(i / kTile, i / kTile)[(i % kTile) * (kTile + 1)];
    scale_[i] = diagonal > 0.0 ? 1.0 / std::sqrt(diagonal) : 1.0;
  }
  for (int row = 0; row < rows_; ++row)
    for (int column = first_[row]; column <= row; ++column) {
      double* mine = tile(row, column);
      for (int k = 0; k < kTile; ++k)
        for (int i = 0; i < kTile; ++i) mine[k * kTile + i] *= scale_[row * kTile + i] * scale_[column * kTile + k];
      for (int k = std::max(first_[row], first_[column]); k < column; ++k)
        loops.subtract(mine, tile(row, k), tile(column, k));
      if (column < row)
        loops.divide(mine, tile(column, column));
      else
        loops.factor(mine, kRounding);
    }
}

void TileCholesky::solve(std::vector<double>& x) {
  const TileLoops& loops = tile_loops();
  x_.assign(scale_.size(), 0.0);
  for (int i = 0; i < size_; ++i) x_[i] = scale_[i] * x[i];
  for (int row = 0; row < rows_; ++row) {
    double* mine = &x_[row * kTile];
    for (int k = first_[row]; k < row; ++k) loops.subtract_product(mine, tile(row, k), &x_[k * kTile]);
    loops.solve_lower(mine, tile(row, row));
  }
  for (int row = rows_; row-- > 0;) {
    double* mine = &x_[row * kTile];
    loops.solve_upper(mine, tile(row, row));
    for (int k = first_[row]; k < row; ++k) loops.subtract_transposed(&x_[k * kTile], tile(row, k), mine);
  }
  for (int i = 0; i < size_; ++i) x[i] = scale_[i] * x_[i];
}

}  // namespace pyws
