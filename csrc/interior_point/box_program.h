// Convex programs over the runs of snippets of one component, in which everything has finite bounds.
//
//   minimise  sum_r (cost u + 1/2 curvature u^2)_r + sum_i max(high r, low r)_i,   r = score - W u,   0 <= u <= limit
//
// u_r is the mass of run r. What a row misses is charged at `high` where it falls short and at -`low` where it is
// exceeded, so that every program has an answer; its multipliers lie in low <= y <= high, and the optimum satisfies
//
//   cost + curvature u - W^T y  >= 0 where u = 0,  = 0 in between,  <= 0 where u = limit
//   score - W u                 >= 0 where y = high,  = 0 in between,  <= 0 where y = low
//
// A row of W is a difference of two intervals of runs, so W u and W^T y are prefix sums.
#pragma once

#include <cstddef>
#include <vector>

#include "interior_point/tile_cholesky.h"

namespace pyws {

struct BoxProgram {
  // 1 on the runs start .. end-1, -outer on those of left .. right-1 beside them. Rows rise by left.
  struct Row {
    int left, start, end, right;
    double outer, score, low, high;
  };

  std::vector<double> cost, curvature, limit;  // runs
  std::vector<Row> rows;

  std::size_t runs() const { return cost.size(); }

  void multiply(const std::vector<double>& u, std::vector<double>& sums) const;                // W u
  void multiply_transposed(const std::vector<double>& y, std::vector<double>& columns) const;  // W^T y

  double objective(const std::vector<double>& u) const;

  // The largest violation of the conditions above: by how much a step along them moves u or y.
  double violation(const std::vector<double>& u, const std::vector<double>& y) const;
  // What u costs more than the dual objective of y proves to be least; where rows are not charged for what they miss,
  // that counts by their multipliers. Never below 0 but for rounding.
  double duality_gap(const std::vector<double>& u, const std::vector<double>& y, bool charged) const;
};

// The equations of a Newton step, for positive stiffnesses:
//
//   stiffness_u du - W^T dy = a,   W du + stiffness_y dy = b
//
// solved either for dy, or for the sums of du before each run, where W has four entries a row and stiffness_u is
// tridiagonal; then refined. Near an optimum the stiffnesses are far apart: the equations for dy are better conditioned,
// those for the sums often have the cheaper skyline.
class NewtonEquations {
 public:
  // by_rows: for dy whatever it costs
  void reset(const BoxProgram& program, bool by_rows);
  bool by_rows() const { return by_rows_; }
  double row_work() const { return row_work_; }  // multiplications of a factorization by rows, about
  void factor(const std::vector<double>& stiffness_u, const std::vector<double>& stiffness_y);
  void solve(const std::vector<double>& a, const std::vector<double>& b, std::vector<double>& du,
             std::vector<double>& dy);

 private:
  // The entries of a row in the sums before the runs 1, 2, ..., of which the sum before run 0 is none.
  struct Entries {
    int count = 0, at[4];
    double value[4];
  };

  static Entries entries_of(const BoxProgram::Row& row);
  std::vector<int> skyline_of_sums() const;
  std::vector<int> skyline_of_rows() const;
  void add_sums();
  void add_rows();
  void solve_once(const std::vector<double>& a, const std::vector<double>& b);

  const BoxProgram* program_ = nullptr;
  bool by_rows_ = false;
  double row_work_ = 0.0;
  std::vector<int> skyline_;
  TileCholesky cholesky_;
  std::vector<Entries> entries_;
  std::vector<double> stiffness_u_, stiffness_y_;
  std::vector<double> pieces_, from_left_, from_right_;  // sums of 1 / stiffness_u, see add_rows
  std::vector<double> du_, dy_, rest_u_, rest_y_, right_, columns_, sums_;
};

}  // namespace pyws
