#include "interior_point/interior_point.h"

#include <algorithm>
#include <cmath>

namespace pyws {
namespace {

constexpr double kFirstProduct = 0.1;              // slack times multiplier of a variable's bound
constexpr double kFirstSlack = 1e-3;               // first slack of a mass, where scores are 1
constexpr double kRegular = 1e-10;                 // added to every stiffness
constexpr double kStop = 0.995;                    // share of the way to the nearest bound
constexpr double kProduct = 1e-13, kRest = 1e-11;  // tolerances of the answer
constexpr double kNoProduct = 1e-20;               // nothing is left to gain
constexpr double kGoodEnough = 1e-9;               // rounding may stop it here
constexpr int kIterations = 200, kPatience = 60, kLastPatience = 4;
constexpr double kSharpRegular = 1e-6;  // regularisation of the equations between the bounds, which are then refined
constexpr double kFixed = 1e12;         // the stiffness of what stays at its bound
constexpr double kSharp = 1e-10;        // what is within this of a bound, or of 0, is there
constexpr int kSharpPasses = 12, kSharpRefinements = 4;
constexpr double kCenterSlack = 0.1, kCenterStop = 0.99;  // shares of the greatest label and of the way to a bound
constexpr double kCentered = 1e-9, kHeld = 1e-12;         // tolerances of the last step and of the rows' residuals
constexpr int kCenterIterations = 80;
constexpr double kNoRoom = 1e-6;  // slack of a label that rows hold at its bound

}  // namespace

void InteriorPoint::Box::resize(std::size_t count) {
  for (std::vector<double>* field : {&low, &high, &value, &dual_low, &dual_high, &gradient, &stiffness, &right, &step,
                                     &step_low, &step_high, &target_low, &target_high})
    field->resize(count);
  state.resize(count);
}

void InteriorPoint::Box::aim_at_bounds() {
  for (std::size_t i = 0; i < size(); ++i) {
    target_low[i] = -dual_low[i] * slack_low(i);
    target_high[i] = -dual_high[i] * slack_high(i);
  }
}

// With the products that the last step leaves behind (Mehrotra's correction).
void InteriorPoint::Box::aim_at_center(double product) {
  for (std::size_t i = 0; i < size(); ++i) {
    target_low[i] = product - dual_low[i] * slack_low(i) - step[i] * step_low[i];
    target_high[i] = product - dual_high[i] * slack_high(i) + step[i] * step_high[i];
  }
}

void InteriorPoint::Box::set_equations(const std::vector<double>* curvature) {
  for (std::size_t i = 0; i < size(); ++i) {
    stiffness[i] =
        (curvature ? (*curvature)[i] : 0.0) + dual_low[i] / slack_low(i) + dual_high[i] / slack_high(i) + kRegular;
    right[i] =
        -(gradient[i] - dual_low[i] + dual_high[i]) + target_low[i] / slack_low(i) - target_high[i] / slack_high(i);
  }
}

// The steps of the multipliers, which follow from the steps of the values.
void InteriorPoint::Box::follow() {
  for (std::size_t i = 0; i < size(); ++i) {
    step_low[i] = (target_low[i] - dual_low[i] * step[i]) / slack_low(i);
    step_high[i] = (target_high[i] + dual_high[i] * step[i]) / slack_high(i);
  }
}

double InteriorPoint::Box::length_of_value() const {
  double length = 1.0;
  for (std::size_t i = 0; i < size(); ++i) {
    if (step[i] < 0.0) length = std::min(length, -slack_low(i) / step[i]);
    if (step[i] > 0.0) length = std::min(length, slack_high(i) / step[i]);
  }
  return length;
}

double InteriorPoint::Box::length_of_dual() const {
  double length = 1.0;
  for (std::size_t i = 0; i < size(); ++i) {
    if (step_low[i] < 0.0) length = std::min(length, -dual_low[i] / step_low[i]);
    if (step_high[i] < 0.0) length = std::min(length, -dual_high[i] / step_high[i]);
  }
  return length;
}

double InteriorPoint::Box::products(double value_length, double dual_length) const {
  double sum = 0.0;
  for (std::size_t i = 0; i < size(); ++i) {
    const double moved = value_length * step[i];
    sum += (slack_low(i) + moved) * (dual_low[i] + dual_length * step_low[i]);
    sum += (slack_high(i) - moved) * (dual_high[i] + dual_length * step_high[i]);
  }
  return sum;
}

double InteriorPoint::Box::worst_product() const {
  double worst = 0.0;
  for (std::size_t i = 0; i < size(); ++i)
    worst = std::max({worst, dual_low[i] * slack_low(i), dual_high[i] * slack_high(i)});
  return worst;
}

double InteriorPoint::Box::worst_rest() const {
  double worst = 0.0;
  for (std::size_t i = 0; i < size(); ++i) {
    const double rest = std::fabs(gradient[i] - dual_low[i] + dual_high[i]);
    if (!(rest <= worst)) worst = rest;
  }
  return worst;
}

void InteriorPoint::Box::move(double value_length, double dual_length) {
  for (std::size_t i = 0; i < size(); ++i) {
    value[i] += value_length * step[i];
    dual_low[i] += dual_length * step_low[i];
    dual_high[i] += dual_length * step_high[i];
  }
}

// A variable is at a bound whose multiplier exceeds its slack.
void InteriorPoint::Box::settle() {
  for (std::size_t i = 0; i < size(); ++i) {
    state[i] = dual_low[i] > slack_low(i) ? kLow : dual_high[i] > slack_high(i) ? kHigh : kBetween;
    if (state[i] != kBetween) value[i] = state[i] == kLow ? low[i] : high[i];
  }
}

void InteriorPoint::Box::clip() {
  for (std::size_t i = 0; i < size(); ++i) value[i] = std::min(std::max(value[i], low[i]), high[i]);
}

// The gradients: what a unit of mass costs, and what a row has too much.
void InteriorPoint::differentiate() {
  const BoxProgram& p = *program_;
  p.multiply_transposed(rows_.value, columns_);
  p.multiply(runs_.value, sums_);
  for (std::size_t r = 0; r < runs_.size(); ++r)
    runs_.gradient[r] = p.cost[r] + p.curvature[r] * runs_.value[r] - columns_[r];
  for (std::size_t i = 0; i < rows_.size(); ++i) rows_.gradient[i] = sums_[i] - p.rows[i].score;
}

void InteriorPoint::solve_equations() {
  runs_.set_equations(&program_->curvature);
  rows_.set_equations(nullptr);
  equations_.solve(runs_.right, rows_.right, runs_.step, rows_.step);
  runs_.follow();
  rows_.follow();
}

// One predictor and corrector. False: rounding leaves no way to go.
bool InteriorPoint::iterate() {
  const double count = 2.0 * static_cast<double>(runs_.size() + rows_.size());
  const double product = (runs_.products(0.0, 0.0) + rows_.products(0.0, 0.0)) / count;
  runs_.set_equations(&program_->curvature);
  rows_.set_equations(nullptr);
  equations_.factor(runs_.stiffness, rows_.stiffness);
  double primal = 0.0, dual = 0.0;
  const auto measure = [&](double share) {
    primal = share * std::min(runs_.length_of_value(), rows_.length_of_dual());
    dual = share * std::min(rows_.length_of_value(), runs_.length_of_dual());
    if (curved_) primal = dual = std::min(primal, dual);
  };
  runs_.aim_at_bounds();
  rows_.aim_at_bounds();
  solve_equations();
  measure(1.0);
  const double reached = (runs_.products(primal, dual) + rows_.products(dual, primal)) / count;
  const double share = std::max(0.0, reached / product);
  runs_.aim_at_center(share * share * share * product);
  rows_.aim_at_center(share * share * share * product);
  solve_equations();
  measure(kStop);
  if (!std::isfinite(primal + dual + runs_.products(primal, dual) + rows_.products(dual, primal))) return false;
  runs_.move(primal, dual);
  rows_.move(dual, primal);
  return true;
}

// What leaves its bounds stays at them, what a bound holds against its gradient is let go. False: all is in order.
bool InteriorPoint::exchange() {
  bool changed = false;
  for (Box* box : {&runs_, &rows_})
    for (std::size_t i = 0; i < box->size(); ++i) {
      State& state = box->state[i];
      const State before = state;
      if (state == kBetween)
        state = box->slack_low(i) < -kSharp ? kLow : box->slack_high(i) < -kSharp ? kHigh : kBetween;
      else if (state == kLow ? box->gradient[i] < -kSharp : box->gradient[i] > kSharp)
        state = kBetween;
      if (state != kBetween) box->value[i] = state == kLow ? box->low[i] : box->high[i];
      changed |= state != before;
    }
  return changed;
}

// Solves the conditions of what lies between its bounds (a primal-dual active set).
void InteriorPoint::refine() {
  for (int pass = 0; pass < kSharpPasses; ++pass) {
    for (Box* box : {&runs_, &rows_})
      for (std::size_t i = 0; i < box->size(); ++i) {
        const double curvature = box == &runs_ ? program_->curvature[i] : 0.0;
        box->stiffness[i] = box->state[i] == kBetween ? curvature + kSharpRegular : kFixed;
      }
    equations_.factor(runs_.stiffness, rows_.stiffness);
    for (int refinement = 0; refinement < kSharpRefinements; ++refinement) {
      differentiate();
      for (Box* box : {&runs_, &rows_})
        for (std::size_t i = 0; i < box->size(); ++i)
          box->right[i] = box->state[i] == kBetween ? -box->gradient[i] : 0.0;
      equations_.solve(runs_.right, rows_.right, runs_.step, rows_.step);
      for (Box* box : {&runs_, &rows_})
        for (std::size_t i = 0; i < box->size(); ++i)
          if (box->state[i] == kBetween) box->value[i] += box->step[i];
    }
    differentiate();
    if (!exchange()) return;
  }
}

// From the given masses, pushed off their bounds, and multipliers next to 0: the multipliers are what the gradients
// leave to them and something in both directions.
void InteriorPoint::start(const std::vector<double>& first) {
  const BoxProgram& p = *program_;
  for (std::size_t r = 0; r < runs_.size(); ++r) {
    const double limit = p.limit[r], slack = std::min(0.5 * limit, kFirstSlack);
    runs_.low[r] = 0.0;
    runs_.high[r] = limit;
    runs_.value[r] = std::min(std::max(first[r], slack), limit - slack);
  }
  p.multiply(runs_.value, sums_);
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const double low = rows_.low[i] = p.rows[i].low, high = rows_.high[i] = p.rows[i].high;
    const double missed = p.rows[i].score - sums_[i];
    const double slack =
        std::min({0.5 * (high - low), 1.0, kFirstProduct / std::max(std::fabs(missed), kFirstProduct)});
    rows_.value[i] = std::min(std::max(0.0, low + slack), high - slack);
  }
  differentiate();
  for (Box* box : {&runs_, &rows_})
    for (std::size_t i = 0; i < box->size(); ++i) {
      box->dual_low[i] = std::max(box->gradient[i], 0.0) + kFirstProduct / box->slack_low(i);
      box->dual_high[i] = std::max(-box->gradient[i], 0.0) + kFirstProduct / box->slack_high(i);
      box->step[i] = box->step_low[i] = box->step_high[i] = box->target_low[i] = box->target_high[i] = 0.0;
    }
}

// To the best point that rounding allows.
void InteriorPoint::descend() {
  Box best_runs, best_rows;
  double best = INFINITY;
  for (int iteration = 0, since = 0; iteration < kIterations; ++iteration) {
    differentiate();
    const double product = std::max(runs_.worst_product(), rows_.worst_product());
    const double rest = std::max(runs_.worst_rest(), rows_.worst_rest());
    if (std::max(product, rest) < best) {
      best = std::max(product, rest);
      best_runs = runs_;
      best_rows = rows_;
      since = 0;
    } else if (++since >= (best < kGoodEnough ? kLastPatience : kPatience)) {
      break;
    }
    if ((product < kProduct && rest < kRest) || product < kNoProduct || !iterate()) break;
  }
  std::swap(runs_, best_runs);
  std::swap(rows_, best_rows);
}

void InteriorPoint::solve(const BoxProgram& program, const std::vector<double>& first, bool by_rows) {
  program_ = &program;
  curved_ = std::any_of(program.curvature.begin(), program.curvature.end(), [](double h) { return h > 0.0; });
  equations_.reset(program, by_rows);
  runs_.resize(program.runs());
  rows_.resize(program.rows.size());
  start(first);
  descend();
  inner = runs_.value;
  runs_.settle();
  rows_.settle();
  violation = program.violation(runs_.value, rows_.value);
  const Box settled_runs = runs_, settled_rows = rows_;
  refine();
  runs_.clip();
  rows_.clip();
  const double refined = program.violation(runs_.value, rows_.value);
  if (refined > violation) {
    runs_ = settled_runs;
    rows_ = settled_rows;
  }
  violation = std::min(violation, refined);
  u = runs_.value;
  y = rows_.value;
  differentiate();
  price.resize(runs_.size());
  for (std::size_t r = 0; r < price.size(); ++r) price[r] = runs_.state[r] == kBetween ? 0.0 : runs_.gradient[r];
}

// From u, pushed off its bounds, with multipliers whose products with the slacks are the sizes.
void InteriorPoint::start_centering(const std::vector<double>& size, double upper) {
  double max_label = 0.0;
  for (std::size_t r = 0; r < runs_.size(); ++r) max_label = std::max(max_label, u[r] / size[r]);
  for (std::size_t r = 0; r < runs_.size(); ++r) {
    const double limit = size[r] * upper, slack = size[r] * std::min(kCenterSlack * max_label, 0.5 * upper);
    runs_.low[r] = 0.0;
    runs_.high[r] = limit;
    runs_.value[r] = std::min(std::max(u[r], slack), limit - slack);
    runs_.dual_low[r] = size[r] / runs_.slack_low(r);
    runs_.dual_high[r] = size[r] / runs_.slack_high(r);  // 0 where there is no limit
  }
  std::fill(rows_.value.begin(), rows_.value.end(), 0.0);
  std::fill(rows_.stiffness.begin(), rows_.stiffness.end(), kRegular);
}

// A Newton step. Returns the largest step of a run, as a share of its slack; at least 1 where a bound shortens the
// step; infinity, and nothing has moved, where rounding leaves no way to go.
double InteriorPoint::step_to_center(const std::vector<double>& size) {
  program_->multiply_transposed(rows_.value, columns_);
  for (std::size_t r = 0; r < runs_.size(); ++r) {
    runs_.gradient[r] = -columns_[r];
    runs_.target_low[r] = size[r] - runs_.dual_low[r] * runs_.slack_low(r);
    runs_.target_high[r] = runs_.dual_high[r] > 0.0 ? size[r] - runs_.dual_high[r] * runs_.slack_high(r) : 0.0;
  }
  runs_.set_equations(nullptr);
  equations_.factor(runs_.stiffness, rows_.stiffness);
  equations_.solve(runs_.right, rows_.right, runs_.step, rows_.step);
  runs_.follow();
  double length = std::min(runs_.length_of_value(), runs_.length_of_dual());
  double moved = length < 1.0 ? 1.0 : 0.0;
  if (length < 1.0) length *= kCenterStop;
  for (std::size_t r = 0; r < runs_.size(); ++r) {
    const double share = std::fabs(runs_.step[r]) / std::min(runs_.slack_low(r), runs_.slack_high(r));
    if (!std::isfinite(share)) return INFINITY;
    moved = std::max(moved, share);
  }
  runs_.move(length, length);
  for (std::size_t i = 0; i < rows_.size(); ++i) rows_.value[i] += length * rows_.step[i];
  return moved;
}

// Newton steps towards products of slack and multiplier that are the sizes.
bool InteriorPoint::center(const BoxProgram& program, const std::vector<double>& size, double upper) {
  program_ = &program;
  equations_.reset(program, equations_.by_rows());
  runs_.resize(program.runs());
  rows_.resize(program.rows.size());
  start_centering(size, upper);
  std::vector<double> held;
  program.multiply(u, held);
  double moved = 1.0;
  for (int iteration = 0; iteration < kCenterIterations && std::isfinite(moved); ++iteration) {
    program.multiply(runs_.value, sums_);
    double missed = 0.0;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      rows_.right[i] = held[i] - sums_[i];
      missed = std::max(missed, std::fabs(rows_.right[i]));
    }
    if (moved < kCentered && missed < kHeld) {
      u = runs_.value;
      return true;
    }
    moved = step_to_center(size);
  }
  return false;
}

bool InteriorPoint::is_held(std::size_t run, double size) const {
  return std::min(runs_.slack_low(run), runs_.slack_high(run)) < kNoRoom * size;
}

}  // namespace pyws
