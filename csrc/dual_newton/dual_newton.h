// The canonical labels of segments that share snippets, without a simplex.
//
//   minimise  mu sum g + 1/2 sum g^2   subject to   W g = q,  0 <= g <= upper
//
// has, for every mu from some number on, one and the same answer: the least sum of squares among the labels of least
// sum (exact regularisation: Mangasarian, Meyer 1979; Friedlander, Tseng 2007). Its dual is a concave function of one
// multiplier y_i a row, smooth and piecewise quadratic:
//
//   g = clip(W^T y - mu, 0, upper),   the gradient is q - W g
//
// A Newton iteration with an exact line search maximises it; on the right piece its step is exact. The answer is
// certified: multipliers y0 of the linear program itself, with W^T y0 = 1 on labels between their bounds, <= 1 on those
// at 0 and >= 1 on those at upper, show that the sum is least, and g = clip(..) shows that the squares are. Where there
// is no such y0 yet, mu rises.
//
// A row is a difference of two intervals, so W^T y and W g are prefix sums over the runs of snippets, and rows that are
// sorted by position meet only their neighbours: the Hessian W_F W_F^T over the free runs is kept and factored as an
// envelope, and changes only by the runs that a step frees or binds.
#pragma once

#include <cstddef>
#include <vector>

#include "class_mean/constraint_runs.h"

namespace pyws {

// Rows by rising position, scaled so that W is 1 inside and -outer in the margins; scores of at most 1 in magnitude.
struct RunProgram {
  SnippetRuns runs;
  std::vector<double> q, outer;
  double upper;

  int rows() const { return static_cast<int>(q.size()); }

  // Row i of W times the masses of the runs, by their sums before each run.
  double row_sum(int i, const std::vector<double>& before) const {
    const int* at = &runs.run_of[4 * static_cast<std::size_t>(i)];
    const double inside = before[at[2]] - before[at[1]], all = before[at[3]] - before[at[0]];
    return (1.0 + outer[i]) * inside - outer[i] * all;
  }
};

class DualNewton {
 public:
  // The label of every run, and more behind. False: not certified, as where no labels satisfy the rows; then label
  // holds nothing of use.
  bool solve(const RunProgram& program, bool centered, std::vector<double>& label);

 private:
  void setup();
  bool solve_disjoint();
  bool setup_hessian();
  void setup_multipliers();
  void sum_columns(const std::vector<double>& y, std::vector<double>& column) const;
  void sum_rows(const std::vector<double>& mass, std::vector<double>& sums);
  void update_residual(const std::vector<double>& mass);
  double max_residual() const;
  void evaluate();
  void add_to_hessian(int run, double weight);
  bool update_hessian();
  void factor(double ridge);
  void apply_inverse(std::vector<double>& x) const;
  double slope_at(double step, double base) const;
  double line_search(double slope) const;
  bool newton();
  double gap() const;
  bool certify();
  bool center();

  const RunProgram* program_ = nullptr;
  int rows_ = 0, runs_ = 0, padded_ = 0;
  double mu_ = 0.0;
  // Bounds of rows by rising position: the row, the run that starts there, by how much W changes.
  std::vector<int> bound_row_, bound_run_;
  std::vector<double> change_;
  // Runs: rows that touch them, rows that have them inside, the row that alone touches them or -1, snippets, label g,
  // snippets times label.
  std::vector<int> active_, inside_, owner_;
  std::vector<double> size_, label_, mass_;
  // Rows: snippets inside, the same counted once for each row that has them inside, those that no other row touches.
  std::vector<double> inside_size_, shared_size_, own_size_;
  // Rows: multipliers y, their Newton step and its refinement, q - W g; multipliers y0 of the linear program and their
  // refinement.
  std::vector<double> y_, step_, refinement_, residual_, y0_, y0_step_;
  // Runs: W^T of 1, of y, of step and of y0; the third times the snippets; what y0 misses to 1, times the snippets.
  std::vector<double> unit_column_, column_, step_column_, y0_column_, step_weight_, y0_residual_;
  std::vector<double> prefix_;              // sums of masses before each run
  std::vector<int> present_, first_, row_;  // rows at a run; rows of each run, rising, run after run
  std::vector<double> entry_;               // their entries in W
  std::vector<char> free_;                  // runs between their bounds
  int width_ = 0;                           // width of the Hessian's band
  std::vector<double> hessian_, factor_, ridge_, scratch_;
};

}  // namespace pyws
