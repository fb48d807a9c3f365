#include "dual_newton/dual_newton.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "dual_newton/dual_newton_simd.h"

namespace pyws {
namespace {

constexpr double kResidualTolerance = 1e-13;  // what a row may miss, for each row of the program
constexpr double kGapTolerance = 1e-7;        // tolerance of the gap between the multipliers of the linear program
constexpr double kRefinedTolerance = 1e-12;   // needs no refinement
constexpr double kRounding = 1e-9;            // more than rounding
constexpr double kMinPivot = 1e-14;           // share of the greatest pivot that is rounding
constexpr double kMaxRidge = 1e-2, kMinRidge = 1e-10;
constexpr double kMaxLength = 1e12;  // a step this long meets no bound: the rows contradict each other
constexpr double kMuStart = 3.0;     // first mu, in greatest mean scores: most components need no more
constexpr double kMuGrowth = 4.0;    // factor between one mu and the next
constexpr int kMaxIterations = 80, kMaxRounds = 8;
constexpr int kMaxWidth = 32;  // rows that meet; what is deeper the others answer sooner, whatever it is

}  // namespace

// A row changes at its bounds alone, so the columns are prefix sums over those.
void DualNewton::sum_columns(const std::vector<double>& y, std::vector<double>& column) const {
  double sum = 0.0;
  for (std::size_t b = 0; b < bound_row_.size(); ++b) {
    sum += change_[b] * y[bound_row_[b]];
    column[bound_run_[b]] = sum;
  }
}

// One sweep over the bounds: the rows of each run, and W^T 1.
void DualNewton::setup() {
  const RunProgram& p = *program_;
  rows_ = p.rows();
  runs_ = p.runs.count();
  const std::size_t bounds = p.runs.bounds.size();
  padded_ = (runs_ + kNewtonLanes) / kNewtonLanes * kNewtonLanes;  // the last bound has no run of its own
  bound_row_.resize(bounds);
  bound_run_.resize(bounds);
  change_.resize(bounds);
  for (std::vector<double>* field : {&size_, &unit_column_, &label_}) field->resize(padded_);
  for (std::vector<int>* field : {&active_, &inside_, &owner_}) field->resize(padded_);
  int active = 0, inside = 0, sum = 0;
  double column = 0.0;
  for (std::size_t b = 0; b < bounds; ++b) {
    const SnippetRuns::Bound& bound = p.runs.bounds[b];
    const int row = bound.place / 4, kind = bound.place % 4;
    const double jump = kind % 3 == 0 ? p.outer[row] : 1.0 + p.outer[row];
    bound_row_[b] = row;
    bound_run_[b] = bound.run;
    change_[b] = kind % 2 == 0 ? -jump : jump;
    unit_column_[bound.run] = column += change_[b];
    const int enters = (kind == 0) - (kind == 3);
    active_[bound.run] = active += enters;
    owner_[bound.run] = sum += enters * row;  // where there is one row, this is it
    inside_[bound.run] = inside += (kind == 1) - (kind == 2);
  }
  own_size_.assign(rows_, 0.0);
  for (int run = 0; run < runs_; ++run) {
    size_[run] = p.runs.size(run);
    if (active_[run] == 1 && inside_[run] == 1)
      own_size_[owner_[run]] += size_[run];
    else
      owner_[run] = -1;
  }
}

// Where every score fits into the snippets that its segment has for itself, and no other column pays as much as those,
// that is the answer, and the only one: y0 is 1.
bool DualNewton::solve_disjoint() {
  const RunProgram& p = *program_;
  for (int i = 0; i < rows_; ++i)
    if (!(p.q[i] >= 0.0 && p.q[i] <= p.upper * own_size_[i] && own_size_[i] > 0.0)) return false;
  for (int run = 0; run < runs_; ++run) {
    const int owner = owner_[run];
    if (owner < 0 && unit_column_[run] > 1.0 - kRounding) return false;
    label_[run] = owner < 0 ? 0.0 : p.q[owner] / own_size_[owner];
  }
  return true;
}

// The entries of every run, and the width of the Hessian's band.
bool DualNewton::setup_hessian() {
  const RunProgram& p = *program_;
  const std::int64_t total = std::accumulate(active_.begin(), active_.begin() + runs_, std::int64_t{0});
  if (*std::max_element(active_.begin(), active_.begin() + runs_) > kMaxWidth) return false;
  first_.resize(runs_ + 1);
  row_.resize(total);
  entry_.resize(total);
  width_ = 1;
  present_.clear();
  std::size_t b = 0;
  int e = 0;
  for (int run = 0; run < runs_; ++run) {
    for (; b < bound_run_.size() && bound_run_[b] == run; ++b) {
      const int place = p.runs.bounds[b].place, row = place / 4;
      if (place % 4 == 0) present_.push_back(row);  // rows begin in order
      if (place % 4 == 3) present_.erase(std::lower_bound(present_.begin(), present_.end(), row));
    }
    first_[run] = e;
    for (int row : present_) {
      const bool inside = run >= p.runs.run_of[4 * row + 1] && run < p.runs.run_of[4 * row + 2];
      row_[e] = row;
      entry_[e++] = inside ? 1.0 : -p.outer[row];
    }
    if (!present_.empty()) width_ = std::max(width_, present_.back() - present_.front() + 1);
  }
  first_[runs_] = e;
  width_ = (width_ + kNewtonLanes - 1) / kNewtonLanes * kNewtonLanes;
  if (width_ > kMaxWidth) return false;
  const std::int64_t size = (static_cast<std::int64_t>(rows_) + width_) * width_;
  hessian_.assign(size, 0.0);
  factor_.resize(size);
  scratch_.resize(2 * width_);
  for (std::vector<double>* field : {&column_, &step_column_, &step_weight_, &mass_, &y0_column_, &y0_residual_}) {
    field->resize(padded_);
    std::fill(field->begin() + runs_, field->end(), 0.0);
  }
  free_.assign(runs_, 0);
  ridge_.assign(rows_, 1e-300);
  for (int run = 0; run < runs_; ++run)
    for (int e = first_[run]; e < first_[run + 1]; ++e) ridge_[row_[e]] += size_[run] * entry_[e] * entry_[e];
  return true;
}

// A row with snippets of its own starts from its score there; the others from an even share of it.
void DualNewton::setup_multipliers() {
  const RunProgram& p = *program_;
  mu_ = 0.0;
  shared_size_.assign(rows_, 0.0);
  inside_size_.assign(rows_, 0.0);
  for (int i = 0; i < rows_; ++i)
    for (int run = p.runs.run_of[4 * i + 1]; run < p.runs.run_of[4 * i + 2]; ++run) {
      shared_size_[i] += size_[run] * inside_[run];
      inside_size_[i] += size_[run];
    }
  for (int i = 0; i < rows_; ++i)
    if (inside_size_[i] > 0.0) mu_ = std::max(mu_, kMuStart * std::fabs(p.q[i]) / inside_size_[i]);
  if (mu_ == 0.0) mu_ = 1.0;
  for (int i = 0; i < rows_; ++i) {
    if (p.q[i] < 0.0 || inside_size_[i] == 0.0)
      y_[i] = -mu_;
    else if (own_size_[i] > 0.3 * inside_size_[i])
      y_[i] = mu_ + std::min(p.q[i] / own_size_[i], p.upper);
    else
      y_[i] = (mu_ * inside_size_[i] + p.q[i]) / shared_size_[i];
  }
}

// W times the masses of the runs, by prefix sums.
void DualNewton::sum_rows(const std::vector<double>& mass, std::vector<double>& sums) {
  double sum = 0.0;
  for (int run = 0; run < runs_; ++run) prefix_[run + 1] = sum += mass[run];
  for (int i = 0; i < rows_; ++i) sums[i] = program_->row_sum(i, prefix_);
}

void DualNewton::update_residual(const std::vector<double>& mass) {
  sum_rows(mass, residual_);
  for (int i = 0; i < rows_; ++i) residual_[i] = program_->q[i] - residual_[i];
}

double DualNewton::max_residual() const {
  double worst = 0.0;
  for (int i = 0; i < rows_; ++i)
    if (!(std::fabs(residual_[i]) <= worst)) worst = std::fabs(residual_[i]);
  return worst;
}

// The labels at y and what the rows miss.
void DualNewton::evaluate() {
  const double upper = program_->upper;
  for (int run = 0; run < runs_; ++run) {
    label_[run] = std::min(std::max(column_[run] - mu_, 0.0), upper);
    mass_[run] = size_[run] * label_[run];
  }
  update_residual(mass_);
}

void DualNewton::add_to_hessian(int run, double weight) {
  for (int e = first_[run]; e < first_[run + 1]; ++e) {
    double* target = &hessian_[static_cast<std::size_t>(row_[e]) * width_];
    for (int f = e; f < first_[run + 1]; ++f) target[row_[f] - row_[e]] += weight * entry_[e] * entry_[f];
  }
}

// Takes in the runs that became free, takes out those that a bound holds now. False: there were none.
bool DualNewton::update_hessian() {
  const double upper = program_->upper;
  bool changed = false;
  for (int run = 0; run < runs_; ++run) {
    const double raw = column_[run] - mu_;
    const char now = raw >= 0.0 && raw <= upper;
    if (now == free_[run]) continue;
    free_[run] = now;
    add_to_hessian(run, now ? size_[run] : -size_[run]);
    changed = true;
  }
  return changed;
}

// The inverse of the Hessian with a ridge, a share of its diagonal over all runs: for rows that no free run touches.
void DualNewton::factor(double ridge) {
  std::copy(hessian_.begin(), hessian_.end(), factor_.begin());
  double max_pivot = 1e-300;
  for (int i = 0; i < rows_; ++i) {
    double& diagonal = factor_[static_cast<std::size_t>(i) * width_];
    diagonal += ridge * ridge_[i];
    max_pivot = std::max(max_pivot, diagonal);
  }
  newton_loops().factor(factor_.data(), rows_, width_, kMinPivot * max_pivot, scratch_.data());
}

void DualNewton::apply_inverse(std::vector<double>& x) const {
  x.resize(rows_ + width_);
  newton_loops().solve(factor_.data(), rows_, width_, x.data());
}

double DualNewton::slope_at(double step, double base) const {
  return base - newton_loops().clipped_sum(column_.data(), step_column_.data(), step_weight_.data(), step, mu_,
                                           program_->upper, padded_);
}

// The length at which the dual objective, concave along the step, has lost nine tenths of its slope or more (Illinois).
double DualNewton::line_search(double slope) const {
  double base = 0.0;
  for (int i = 0; i < rows_; ++i) base += program_->q[i] * step_[i];
  double near = 0.0, slope_near = slope, far = 1.0, slope_far = slope_at(far, base);
  while (slope_far > 0.3 * slope && far < kMaxLength) {
    near = far, slope_near = slope_far;
    far *= 4.0;
    slope_far = slope_at(far, base);
  }
  double length = far, reached = slope_far;
  for (int i = 0, side = 0; i < 30 && std::fabs(reached) > 0.1 * slope; ++i) {
    length = (slope_near * far - slope_far * near) / (slope_near - slope_far);
    reached = slope_at(length, base);
    if (reached > 0.0) {
      near = length, slope_near = reached;
      if (side > 0) slope_far *= 0.5;
      side = 1;
    } else {
      far = length, slope_far = reached;
      if (side < 0) slope_near *= 0.5;
      side = -1;
    }
  }
  return length;
}

bool DualNewton::newton() {
  double ridge = kMaxRidge, factored = 0.0, length = 1.0;
  const double tolerance = kResidualTolerance * (1.0 + rows_);
  sum_columns(y_, column_);
  for (int iteration = 0; iteration < kMaxIterations; ++iteration) {
    evaluate();
    const bool done = max_residual() <= tolerance;
    const bool moved = update_hessian(), exact = !moved && length > 0.5;
    if (done || exact) ridge = kMinRidge;
    if (moved || ridge != factored) factor(factored = ridge);
    if (done) return true;
    step_ = residual_;
    apply_inverse(step_);
    if (exact) {  // on the right piece only the ridge is in the way: take back what it held
      refinement_.resize(rows_);
      for (int i = 0; i < rows_; ++i) refinement_[i] = ridge * ridge_[i] * step_[i];
      apply_inverse(refinement_);
      for (int i = 0; i < rows_; ++i) step_[i] += refinement_[i];
    }
    sum_columns(step_, step_column_);
    step_column_[runs_] = 0.0;
    double slope = 0.0;
    for (int i = 0; i < rows_; ++i) slope += step_[i] * residual_[i];
    for (int run = 0; run < runs_; ++run) step_weight_[run] = size_[run] * step_column_[run];
    length = line_search(slope);
    if (!(length < kMaxLength)) return false;
    if (length > 0.5)
      ridge = std::max(kMinRidge, 1e-3 * ridge);
    else if (length < 0.01)
      ridge = std::min(kMaxRidge, 1e3 * ridge);
    for (int i = 0; i < rows_; ++i) y_[i] += length * step_[i];
    sum_columns(y_, column_);
  }
  return false;
}

// By how much y0 is no certificate; `y0_column_` are its columns.
double DualNewton::gap() const {
  double worst = 0.0;
  for (int run = 0; run < runs_; ++run) {
    const double gain = y0_column_[run] - 1.0;
    const double excess = free_[run] ? std::fabs(gain) : label_[run] > 0.0 ? -gain : gain;
    if (!(excess <= worst)) worst = excess;  // NaN is no certificate
  }
  return worst;
}

// Multipliers of the linear program, from W_F^T y0 = 1 over the free runs, refined against the ridge.
bool DualNewton::certify() {
  std::fill(y0_column_.begin(), y0_column_.end(), 0.0);
  y0_.assign(rows_, 0.0);
  y0_step_.resize(rows_);
  double excess = 1.0;
  for (int pass = 0; pass < 3 && !(excess <= kRefinedTolerance); ++pass) {
    for (int run = 0; run < runs_; ++run) y0_residual_[run] = free_[run] ? size_[run] * (1.0 - y0_column_[run]) : 0.0;
    sum_rows(y0_residual_, y0_step_);
    apply_inverse(y0_step_);
    for (int i = 0; i < rows_; ++i) y0_[i] += y0_step_[i];
    sum_columns(y0_, y0_column_);
    excess = gap();
  }
  return excess <= kGapTolerance;
}

// The analytic centre of the labels that y0 allows: the most sum of log g + log(upper - g), by a primal-dual Newton
// iteration with multipliers `low` = 1/g and `high` = 1/(upper - g). False where they have no interior.
bool DualNewton::center() {
  const double upper = program_->upper;
  std::vector<int> moving;
  double max_label = 0.0;
  for (int run = 0; run < runs_; ++run)
    if (std::fabs(y0_column_[run] - 1.0) <= kRounding) {
      moving.push_back(run);
      max_label = std::max(max_label, label_[run]);
    }
  const std::size_t count = moving.size();
  std::vector<double> low(count), high(count), move(count), mass(padded_, 0.0);
  for (std::size_t m = 0; m < count; ++m) {
    double& g = label_[moving[m]];
    const double margin = std::min(0.1 * max_label, 0.5 * upper);
    g = std::min(std::max(g, margin), upper - margin);
    low[m] = 1.0 / g;
    high[m] = 1.0 / (upper - g);
  }
  for (int iteration = 0; iteration < kMaxIterations; ++iteration) {
    std::fill(hessian_.begin(), hessian_.end(), 0.0);
    for (int run = 0; run < runs_; ++run) mass[run] = size_[run] * label_[run];
    update_residual(mass);
    const double missed = max_residual();
    for (std::size_t m = 0; m < count; ++m) {
      const int run = moving[m];
      const double g = label_[run], slack = upper - g, slope = 1.0 / slack - 1.0 / g;
      const double stiffness = low[m] / g + high[m] / slack;
      move[m] = -slope / stiffness;
      mass[run] += size_[run] * move[m];
      add_to_hessian(run, size_[run] / stiffness);
    }
    update_residual(mass);
    factor(0.0);
    step_ = residual_;
    apply_inverse(step_);
    sum_columns(step_, step_column_);
    double length = 1.0, error = missed;
    for (std::size_t m = 0; m < count; ++m) {
      const double g = label_[moving[m]], slack = upper - g;
      move[m] += step_column_[moving[m]] / (low[m] / g + high[m] / slack);
      const double turn_low = (1.0 - low[m] * (g + move[m])) / g;
      const double turn_high = std::isinf(upper) ? 0.0 : (1.0 - high[m] * (slack - move[m])) / slack;
      if (move[m] < 0.0) length = std::min(length, -0.99 * g / move[m]);
      if (move[m] > 0.0) length = std::min(length, 0.99 * slack / move[m]);
      if (turn_low < 0.0) length = std::min(length, -0.99 * low[m] / turn_low);
      if (turn_high < 0.0) length = std::min(length, -0.99 * high[m] / turn_high);
      const double turn = std::fabs(move[m]) / std::min(g, slack);
      if (!(turn <= error)) error = turn;
    }
    if (!std::isfinite(error)) return false;  // without an interior, labels end at a bound
    for (std::size_t m = 0; m < count; ++m) {
      double& g = label_[moving[m]];
      const double slack = upper - g;
      low[m] += length * (1.0 - low[m] * (g + move[m])) / g;
      if (!std::isinf(upper)) high[m] += length * (1.0 - high[m] * (slack - move[m])) / slack;
      g += length * move[m];
    }
    if (length == 1.0 && error < kRounding) return true;
  }
  return false;
}

bool DualNewton::solve(const RunProgram& program, bool centered, std::vector<double>& label) {
  program_ = &program;
  setup();
  bool solved = solve_disjoint();
  if (!solved) {
    if (!setup_hessian()) return false;
    prefix_.assign(runs_ + 1, 0.0);
    y_.resize(rows_);
    residual_.resize(rows_);
    setup_multipliers();
    for (int round = 0; round < kMaxRounds && !solved; ++round) {
      if (!newton()) return false;
      solved = certify();
      if (solved) break;
      for (int i = 0; i < rows_; ++i) y_[i] += (kMuGrowth - 1.0) * mu_ * y0_[i];
      mu_ *= kMuGrowth;
    }
    if (solved && centered && !center()) return false;
  }
  label.swap(label_);
  return solved;
}

}  // namespace pyws
