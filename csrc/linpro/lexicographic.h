// The labels of a component by three convex programs, each on the optimal face of the one before: the least residual,
// the least sum, the least sum of squares (or the analytic centre). For what couples too much for a Newton iteration or
// a tableau; always an answer, and how far it may be from the least.
//
// A face is what complementary slackness leaves: a run whose price is not 0 keeps its bound, a row whose multiplier is
// between its bounds holds, one whose multiplier is at a bound may miss its score on that side.
//
// Rows whose margins cancel each other's insides can ask for masses without measure for a little residual less. Where
// there is no upper bound, a run has at most 30,000 times the greatest score; what wants more is not certified.
//
// The centre is that of the face's relative interior: of the runs that are not at one bound all over the face.
#pragma once

#include <vector>

#include "dual_newton/dual_newton.h"
#include "interior_point/interior_point.h"

namespace pyws {

class Lexicographic {
 public:
  // The label of every run. weight: of what each row misses.
  void solve(const RunProgram<OneThread>& program, const std::vector<double>& weight, bool center,
             std::vector<double>& label);

  // By how much residual and sum may exceed the least; where masses are limited, the least of limited masses.
  double gap() const { return answer_.gap * unit_; }
  bool certified() const { return exact(answer_) && !answer_.confined; }

 private:
  enum Run : char { kFree, kAtZero, kAtUpper };
  enum Row : char { kHolds, kFallsShort, kExceeds };

  struct Answer {
    std::vector<double> mass;  // runs
    double residual = 0.0, gap = 0.0;
    double uneven = 0.0;    // the violation of the last program's conditions
    bool confined = false;  // a run has as much mass as it may, or next to it, where there is no upper bound
  };

  void choose_unit();
  Answer attempt(double max_mass, bool by_rows);
  Answer search(bool by_rows);
  void build(int stage);
  void narrow(int stage);
  void move_to_center();
  double rounding(const Answer& answer) const;
  bool exact(const Answer& answer) const;
  bool better(const Answer& answer, const Answer& other) const;

  const RunProgram<OneThread>* program_ = nullptr;
  const std::vector<double>* weight_ = nullptr;
  bool center_ = false;
  double unit_ = 1.0;  // unit of masses and scores
  InteriorPoint interior_;
  std::vector<Run> run_;
  std::vector<Row> row_;
  std::vector<int> free_;  // runs
  BoxProgram box_;
  Answer answer_;
  std::vector<double> mass_, limit_;   // runs
  std::vector<double> inner_, first_;  // masses near the centre of the last stage: of the runs, of the free ones
};

}  // namespace pyws
