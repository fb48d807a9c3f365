// The least squares tie-break by its dual, for large faces without residuals: minimise sum u_k^2 / (2 size_k) subject
// to W u = rest, low <= u <= high. The answer is u_k = clip(size_k w_k.y) for multipliers y of the rows, which a damped
// Newton iteration finds; on the right pieces its step is exact. Rows that are sorted by position meet only their
// neighbours, so the matrix of a step is kept and factored as an envelope.
#pragma once

#include <vector>

namespace pyws {

struct EvenSpread {
  int rows = 0;
  std::vector<double> rest;             // rows
  std::vector<double> size, low, high;  // variables
  std::vector<int> first, row;          // columns of W, compressed, rows rising
  std::vector<double> entry;
  std::vector<double> value;  // the answer

  // False: no convergence; nothing may be read.
  bool solve();

 private:
  double evaluate(const std::vector<double>& y);
  void assemble();
  void factor_and_solve();

  std::vector<double> y_, trial_, step_, missing_, slope_;
  std::vector<int> left_;         // first column of each row's envelope
  std::vector<double> envelope_;  // row i at start_[i], columns left_[i] .. i
  std::vector<std::size_t> start_;
};

}  // namespace pyws
