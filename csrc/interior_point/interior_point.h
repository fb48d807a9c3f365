// A primal-dual interior-point method for box programs (Mehrotra 1992, with the regularization of Friedlander, Orban
// 2012). It ends near the analytic centre of the optimal face, which tells the variables that end at a bound from the
// others; the optimality conditions of those are linear equations, whose answer is exact.
#pragma once

#include <cstddef>
#include <vector>

#include "interior_point/box_program.h"

namespace pyws {

class InteriorPoint {
 public:
  // After `solve`: masses of the runs and multipliers of the rows, on their bounds where they end there.
  std::vector<double> u, y;
  std::vector<double> price;  // runs: cost + curvature u - W^T y at a bound, 0 in between
  double violation = 0.0;     // BoxProgram::violation

  std::vector<double> inner;  // masses near the centre of the optimal face

  // Every program of a run and a row or more gets an answer; `violation` says how good it is. first: masses to start
  // from, best such that rows hold. by_rows: see NewtonEquations.
  void solve(const BoxProgram& program, const std::vector<double>& first, bool by_rows);
  const NewtonEquations& equations() const { return equations_; }

  // The analytic centre of the labels between 0 and `upper` whose rows have the sums of u: the most sum of
  // size (log u + log(size upper - u)). False, and u as it was, where there is no interior.
  bool center(const BoxProgram& program, const std::vector<double>& size, double upper);
  // After a `center` that failed: whether rows hold a run so near to a bound that it has no room.
  bool is_held(std::size_t run, double size) const;

 private:
  enum State : char { kLow, kBetween, kHigh };

  // Variables between bounds, with the multipliers of the bounds.
  struct Box {
    std::vector<double> low, high, value, dual_low, dual_high, gradient;
    std::vector<double> stiffness, right, step, step_low, step_high, target_low, target_high;
    std::vector<State> state;

    std::size_t size() const { return value.size(); }
    void resize(std::size_t count);
    double slack_low(std::size_t i) const { return value[i] - low[i]; }
    double slack_high(std::size_t i) const { return high[i] - value[i]; }
    void aim_at_bounds();
    void aim_at_center(double product);
    void set_equations(const std::vector<double>* curvature);
    void follow();
    double length_of_value() const;
    double length_of_dual() const;
    double products(double value_length, double dual_length) const;
    double worst_product() const;
    double worst_rest() const;
    void move(double value_length, double dual_length);
    void settle();
    void clip();
  };

  void start(const std::vector<double>& first);
  void differentiate();
  void solve_equations();
  bool iterate();
  void descend();
  void refine();
  bool exchange();
  void start_centering(const std::vector<double>& size, double upper);
  double step_to_center(const std::vector<double>& size);

  const BoxProgram* program_ = nullptr;
  NewtonEquations equations_;
  Box runs_, rows_;
  bool curved_ = false;
  std::vector<double> columns_, sums_;
};

}  // namespace pyws
