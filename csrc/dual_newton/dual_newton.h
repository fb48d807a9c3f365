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
//
// The iteration is in newton_iteration.h, the centre in newton_center.h: the same bits for a thread and for a warp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "class_mean/constraint_runs.h"
#include "common/team.h"
#include "dual_newton/dual_newton_simd.h"

namespace pyws {

// Rows by rising position, scaled so that W is 1 inside and -outer in the margins; scores of at most 1 in magnitude.
template <class Team>
struct RunProgram {
  SnippetRuns<Team> runs;
  typename Team::template Array<double> q, outer;
  double upper;

  PYWS_TEAM int rows() const { return runs.bound_count / 4; }

  // Row i of W times the masses of the runs, by their sums before each run.
  template <class Sums>
  PYWS_TEAM double row_sum(int i, const Sums& before) const {
    const int* at = runs.run_of.data() + 4 * static_cast<std::int64_t>(i);
    const double inside = before[at[2]] - before[at[1]], all = before[at[3]] - before[at[0]];
    return (1.0 + outer[i]) * inside - outer[i] * all;
  }
};

template <class Team>
class DualNewton {
 public:
  using Doubles = typename Team::template Array<double>;
  using Ints = typename Team::template Array<int>;
  using Chars = typename Team::template Array<char>;

  PYWS_TEAM explicit DualNewton(Team& team) : team_(team) {}

  // False: not certified, as where no labels satisfy the rows, or too large for the memory of the team.
  PYWS_TEAM bool solve(const RunProgram<Team>& program, bool centered);

  // Of every run, and more behind; of use only where solve() was true.
  PYWS_TEAM const Doubles& label() const { return label_; }

 private:
  PYWS_TEAM void setup();
  PYWS_TEAM void sweep();
  PYWS_TEAM bool solve_disjoint();
  PYWS_TEAM bool setup_hessian();
  PYWS_TEAM int list_entries();
  PYWS_TEAM void setup_multipliers();
  PYWS_TEAM void fill(Doubles& x, int first, int last, double value) const;
  PYWS_TEAM void sum_columns(const Doubles& y, Doubles& column) const;
  PYWS_TEAM void sum_rows(const Doubles& mass, Doubles& sums);
  PYWS_TEAM void update_residual(const Doubles& mass);
  PYWS_TEAM double max_residual() const;
  PYWS_TEAM void evaluate();
  PYWS_TEAM void add_to_hessian(int run, double weight);
  PYWS_TEAM bool update_hessian();
  PYWS_TEAM void factor(double ridge);
  PYWS_TEAM void apply_inverse(Doubles& x) const;
  PYWS_TEAM double dot(const Doubles& x, const Doubles& y) const;
  PYWS_TEAM double slope_at(double step, double base) const;
  PYWS_TEAM double line_search(double slope) const;
  PYWS_TEAM bool newton();
  PYWS_TEAM double gap() const;
  PYWS_TEAM bool certify();
  PYWS_TEAM bool center();
  PYWS_TEAM int setup_center();
  PYWS_TEAM double turn_center(int count);
  PYWS_TEAM double center_length(int count) const;

  Team& team_;
  const RunProgram<Team>* program_ = nullptr;
  int rows_ = 0, runs_ = 0, bounds_ = 0, padded_ = 0;
  double mu_ = 0.0;
  // Bounds of rows by rising position: the row, the run that starts there, by how much W changes.
  Ints bound_row_, bound_run_;
  Doubles change_;
  // Runs: rows that touch them, rows that have them inside, the row that alone touches them or -1, snippets, label g,
  // snippets times label.
  Ints active_, inside_, owner_;
  Doubles size_, label_, mass_;
  // Rows: snippets inside, the same counted once for each row that has them inside, those that no other row touches.
  Doubles inside_size_, shared_size_, own_size_;
  // Rows: multipliers y, their Newton step and its refinement, q - W g; multipliers y0 of the linear program and their
  // refinement.
  Doubles y_, step_, refinement_, residual_, y0_, y0_step_;
  // Runs: W^T of 1, of y, of step and of y0; the third times the snippets; what y0 misses to 1, times the snippets.
  Doubles unit_column_, column_, step_column_, y0_column_, step_weight_, y0_residual_;
  Doubles prefix_;              // sums of masses before each run
  Ints present_, first_, row_;  // rows at a run; rows of each run, rising, run after run
  Doubles entry_;               // their entries in W
  Chars free_, flip_;           // runs between their bounds; those that a step frees (1) or binds (-1)
  int width_ = 0;               // width of the Hessian's band
  Doubles hessian_, factor_, ridge_, scratch_;
  Ints moving_;                // runs that the centre may move, and of these:
  Doubles low_, high_, move_;  // multipliers of their bounds, what a step adds to their labels
};

}  // namespace pyws
