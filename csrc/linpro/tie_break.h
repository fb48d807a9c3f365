// The tie-break among optimal answers, on a part of the optimal face that shares no variable with the rest.
//
// The face is written in its free variables x (columns): dependent variables are y_i = base_i - sum_j A_ij x_j, and
// every variable lies between its bounds. weight is 1/size of a class, 0 for a residual.
//
//   least squares   minimise sum weight x^2 + sum weight y^2: strictly convex over the face, so unique. Active set: the
//                   variables at a bound are always columns; where a dependent one meets its bound it is exchanged.
//   centre          maximise sum (1/weight) (log(x - low) + log(high - x)), also over y: damped Newton from infeasible
//                   slacks. Variables of weight 0 keep their values.
#pragma once

#include <cstddef>
#include <vector>

namespace pyws {

struct FaceBlock {
  int rows = 0, columns = 0;
  std::vector<double> matrix;  // rows x columns, dy_i = -A_ij dx_j
  // Variables: rows first, then columns.
  std::vector<double> value, low, high, weight;
  std::vector<int> id;  // the caller's

  double* row(int i) { return matrix.data() + static_cast<std::size_t>(i) * columns; }
  void resize(int new_rows, int new_columns);
  void exchange(int i, int j);  // row i becomes column j and the other way round
};

// Both start from values that satisfy the bounds and leave the answer in `value`. False: no convergence.
bool least_squares(FaceBlock& block);
bool analytic_center(FaceBlock& block);

}  // namespace pyws
