// DualNewton, all but the centre: setup, the Newton iteration, the certificate.
#pragma once

#include "dual_newton/dual_newton.h"

namespace pyws {

// The leaf loops of a team are overloads beside it (dual_newton.cpp, newton_loops_cuda.h); band matrices as described
// in dual_newton_simd.h.

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

// Whether an int tells every place of a band, the rows beyond its end included.
constexpr bool band_fits(int rows, int width) {
  return width <= kMaxWidth && (static_cast<std::int64_t>(rows) + width) * width <= INT32_MAX;
}
static_assert(band_fits(67108831, 32) && !band_fits(67108832, 32) && band_fits(89478461, 24) && !band_fits(1, 40));

template <class Team>
PYWS_TEAM void DualNewton<Team>::fill(Doubles& x, int first, int last, double value) const {
  team_.each(last - first, [&](int i) { x[first + i] = value; });
}

// A row changes at its bounds alone, so the columns are prefix sums over those.
template <class Team>
PYWS_TEAM void DualNewton<Team>::sum_columns(const Doubles& y, Doubles& column) const {
  team_.in_order([&] {
    double sum = 0.0;
    for (int b = 0; b < bounds_; ++b) {
      sum += change_[b] * y[bound_row_[b]];
      column[bound_run_[b]] = sum;
    }
  });
}

template <class Team>
PYWS_TEAM void DualNewton<Team>::setup() {
  const RunProgram<Team>& p = *program_;
  rows_ = p.rows();
  runs_ = p.runs.run_count;
  bounds_ = p.runs.bound_count;
  padded_ = (runs_ + kNewtonLanes) / kNewtonLanes * kNewtonLanes;  // the last bound has no run of its own
  team_.resize(bound_row_, bounds_);
  team_.resize(bound_run_, bounds_);
  team_.resize(change_, bounds_);
  for (Doubles* field : {&size_, &unit_column_, &label_}) team_.resize(*field, padded_);
  for (Ints* field : {&active_, &inside_, &owner_}) team_.resize(*field, padded_);
  team_.resize(own_size_, rows_);
}

// Once over the bounds: the rows of each run, and W^T 1.
template <class Team>
PYWS_TEAM void DualNewton<Team>::sweep() {
  const RunProgram<Team>& p = *program_;
  team_.each(runs_, [&](int run) { size_[run] = p.runs.size(run); });
  fill(own_size_, 0, rows_, 0.0);
  team_.in_order([&] {
    int active = 0, inside = 0, sum = 0;
    double column = 0.0;
    for (int b = 0; b < bounds_; ++b) {
      const RunBound& bound = p.runs.bounds[b];
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
    for (int run = 0; run < runs_; ++run) {
      if (active_[run] == 1 && inside_[run] == 1)
        own_size_[owner_[run]] += size_[run];
      else
        owner_[run] = -1;
    }
  });
}

// Where every score fits into the snippets that its segment has for itself, and no other column pays as much as those,
// that is the answer, and the only one: y0 is 1.
template <class Team>
PYWS_TEAM bool DualNewton<Team>::solve_disjoint() {
  const RunProgram<Team>& p = *program_;
  bool fits = true;
  for (int i = team_.lane(); i < rows_ && fits; i += Team::kLanes)
    fits = p.q[i] >= 0.0 && p.q[i] <= p.upper * own_size_[i] && own_size_[i] > 0.0;
  if (!team_.all(fits)) return false;
  for (int run = team_.lane(); run < runs_ && fits; run += Team::kLanes) {
    const int owner = owner_[run];
    fits = owner >= 0 || !(unit_column_[run] > 1.0 - kRounding);
    label_[run] = owner < 0 ? 0.0 : p.q[owner] / own_size_[owner];
  }
  return team_.all(fits);
}

// The rows of each run and their entries; returns the width of the Hessian's band.
template <class Team>
PYWS_TEAM int DualNewton<Team>::list_entries() {
  const RunProgram<Team>& p = *program_;
  return team_.in_order([&] {
    int b = 0, e = 0, width = 1, count = 0;
    for (int run = 0; run < runs_; ++run) {
      for (; b < bounds_ && bound_run_[b] == run; ++b) {
        const int place = p.runs.bounds[b].place, row = place / 4;
        if (place % 4 == 0) present_[count++] = row;  // rows begin in order
        if (place % 4 != 3) continue;
        int at = 0;
        while (present_[at] != row) ++at;
        for (--count; at < count; ++at) present_[at] = present_[at + 1];
      }
      first_[run] = e;
      for (int k = 0; k < count; ++k, ++e) {
        const int row = present_[k];
        const bool inside = run >= p.runs.run_of[4 * row + 1] && run < p.runs.run_of[4 * row + 2];
        row_[e] = row;
        entry_[e] = inside ? 1.0 : -p.outer[row];
      }
      if (count > 0 && width < present_[count - 1] - present_[0] + 1) width = present_[count - 1] - present_[0] + 1;
    }
    first_[runs_] = e;
    return width;
  });
}

// The entries of every run, the width of the Hessian's band, and the arrays of the iteration.
template <class Team>
PYWS_TEAM bool DualNewton<Team>::setup_hessian() {
  const std::int64_t entries = team_.in_order([&] {
    std::int64_t sum = 0;
    for (int run = 0; run < runs_; ++run) {
      if (active_[run] > kMaxWidth) return std::int64_t{-1};
      sum += active_[run];
    }
    return sum;
  });
  if (entries < 0) return false;
  team_.resize(first_, runs_ + 1);
  team_.resize(row_, entries);
  team_.resize(entry_, entries);
  team_.resize(present_, rows_);
  if (!team_.fits()) return false;
  width_ = (list_entries() + kNewtonLanes - 1) / kNewtonLanes * kNewtonLanes;
  if (!band_fits(rows_, width_)) return false;
  const std::int64_t size = (static_cast<std::int64_t>(rows_) + width_) * width_;
  for (Doubles* field : {&hessian_, &factor_}) team_.resize(*field, size);
  team_.resize(scratch_, 2 * width_);
  for (Doubles* field : {&column_, &step_column_, &step_weight_, &mass_, &y0_column_, &y0_residual_})
    team_.resize(*field, padded_);
  team_.resize(prefix_, runs_ + 1);
  for (Doubles* field : {&y_, &residual_, &y0_, &ridge_, &shared_size_, &inside_size_}) team_.resize(*field, rows_);
  for (Doubles* field : {&step_, &refinement_, &y0_step_}) team_.resize(*field, rows_ + width_);
  for (Chars* field : {&free_, &flip_}) team_.resize(*field, runs_);
  if (!team_.fits()) return false;
  fill(hessian_, 0, static_cast<int>(size), 0.0);
  for (Doubles* field : {&column_, &step_column_, &step_weight_, &mass_, &y0_column_, &y0_residual_})
    fill(*field, runs_, padded_, 0.0);
  team_.each(runs_, [&](int run) { free_[run] = 0; });
  fill(ridge_, 0, rows_, 1e-300);
  team_.in_order([&] {
    for (int run = 0; run < runs_; ++run)
      for (int e = first_[run]; e < first_[run + 1]; ++e) ridge_[row_[e]] += size_[run] * entry_[e] * entry_[e];
  });
  return true;
}

// A row with snippets of its own starts from its score there; the others from an even share of it.
template <class Team>
PYWS_TEAM void DualNewton<Team>::setup_multipliers() {
  const RunProgram<Team>& p = *program_;
  double mu = 0.0;
  for (int i = team_.lane(); i < rows_; i += Team::kLanes) {
    double shared = 0.0, inside = 0.0;
    for (int run = p.runs.run_of[4 * i + 1]; run < p.runs.run_of[4 * i + 2]; ++run) {
      shared += size_[run] * inside_[run];
      inside += size_[run];
    }
    shared_size_[i] = shared;
    inside_size_[i] = inside;
    if (inside > 0.0) mu = most_of(mu, kMuStart * fabs(p.q[i]) / inside);
  }
  mu_ = team_.greatest(mu);
  if (mu_ == 0.0) mu_ = 1.0;
  team_.each(rows_, [&](int i) {
    if (p.q[i] < 0.0 || inside_size_[i] == 0.0)
      y_[i] = -mu_;
    else if (own_size_[i] > 0.3 * inside_size_[i])
      y_[i] = mu_ + least_of(p.q[i] / own_size_[i], p.upper);
    else
      y_[i] = (mu_ * inside_size_[i] + p.q[i]) / shared_size_[i];
  });
}

// W times the masses of the runs, by prefix sums.
template <class Team>
PYWS_TEAM void DualNewton<Team>::sum_rows(const Doubles& mass, Doubles& sums) {
  team_.in_order([&] {
    double sum = prefix_[0] = 0.0;
    for (int run = 0; run < runs_; ++run) prefix_[run + 1] = sum += mass[run];
  });
  team_.each(rows_, [&](int i) { sums[i] = program_->row_sum(i, prefix_); });
}

template <class Team>
PYWS_TEAM void DualNewton<Team>::update_residual(const Doubles& mass) {
  sum_rows(mass, residual_);
  team_.each(rows_, [&](int i) { residual_[i] = program_->q[i] - residual_[i]; });
}

template <class Team>
PYWS_TEAM double DualNewton<Team>::max_residual() const {
  double worst = 0.0;
  for (int i = team_.lane(); i < rows_; i += Team::kLanes) worst = greater_of(worst, fabs(residual_[i]));
  return team_.greatest(worst);
}

// The labels at y and what the rows miss.
template <class Team>
PYWS_TEAM void DualNewton<Team>::evaluate() {
  const double upper = program_->upper;
  team_.each(runs_, [&](int run) {
    label_[run] = least_of(most_of(column_[run] - mu_, 0.0), upper);
    mass_[run] = size_[run] * label_[run];
  });
  update_residual(mass_);
}

// Each lane adds to rows of its own, so that runs need no barrier between them.
template <class Team>
PYWS_TEAM void DualNewton<Team>::add_to_hessian(int run, double weight) {
  for (int e = first_[run]; e < first_[run + 1]; ++e) {
    if (row_[e] % Team::kLanes != team_.lane()) continue;
    double* target = hessian_.data() + static_cast<std::int64_t>(row_[e]) * width_;
    for (int f = e; f < first_[run + 1]; ++f) target[row_[f] - row_[e]] += weight * entry_[e] * entry_[f];
  }
}

// Takes in the runs that became free, takes out those that a bound holds now. False: there were none.
template <class Team>
PYWS_TEAM bool DualNewton<Team>::update_hessian() {
  const double upper = program_->upper;
  bool changed = false;
  for (int run = team_.lane(); run < runs_; run += Team::kLanes) {
    const double raw = column_[run] - mu_;
    const char now = raw >= 0.0 && raw <= upper;
    flip_[run] = static_cast<char>(now - free_[run]);
    changed |= flip_[run] != 0;
    free_[run] = now;
  }
  if (!team_.any(changed)) return false;
  for (int run = 0; run < runs_; ++run)
    if (flip_[run] != 0) add_to_hessian(run, flip_[run] > 0 ? size_[run] : -size_[run]);
  team_.barrier();
  return true;
}

// The inverse of the Hessian with a ridge, a share of its diagonal over all runs: for rows that no free run touches.
template <class Team>
PYWS_TEAM void DualNewton<Team>::factor(double ridge) {
  team_.each((rows_ + width_) * width_, [&](int k) { factor_[k] = hessian_[k]; });
  double max_pivot = 1e-300;
  for (int i = team_.lane(); i < rows_; i += Team::kLanes) {
    double& diagonal = factor_[static_cast<std::int64_t>(i) * width_];
    diagonal += ridge * ridge_[i];
    max_pivot = most_of(max_pivot, diagonal);
  }
  factor_band(team_, factor_.data(), rows_, width_, kMinPivot * team_.greatest(max_pivot), scratch_.data());
}

// x has width_ values more than rows.
template <class Team>
PYWS_TEAM void DualNewton<Team>::apply_inverse(Doubles& x) const {
  fill(x, rows_, rows_ + width_, 0.0);
  solve_band(team_, factor_.data(), rows_, width_, x.data());
}

template <class Team>
PYWS_TEAM double DualNewton<Team>::dot(const Doubles& x, const Doubles& y) const {
  return team_.in_order([&] {
    double sum = 0.0;
    for (int i = 0; i < rows_; ++i) sum += x[i] * y[i];
    return sum;
  });
}

template <class Team>
PYWS_TEAM double DualNewton<Team>::slope_at(double step, double base) const {
  return base - clipped_sum(team_, column_.data(), step_column_.data(), step_weight_.data(), step, mu_, program_->upper,
                            padded_);
}

// The length at which the dual objective, concave along the step, has lost nine tenths of its slope or more (Illinois).
template <class Team>
PYWS_TEAM double DualNewton<Team>::line_search(double slope) const {
  const double base = dot(program_->q, step_);
  double near = 0.0, slope_near = slope, far = 1.0, slope_far = slope_at(far, base);
  while (slope_far > 0.3 * slope && far < kMaxLength) {
    near = far, slope_near = slope_far;
    far *= 4.0;
    slope_far = slope_at(far, base);
  }
  double length = far, reached = slope_far;
  for (int i = 0, side = 0; i < 30 && fabs(reached) > 0.1 * slope; ++i) {
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

template <class Team>
PYWS_TEAM bool DualNewton<Team>::newton() {
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
    team_.each(rows_, [&](int i) { step_[i] = residual_[i]; });
    apply_inverse(step_);
    if (exact) {  // on the right piece only the ridge is in the way: take back what it held
      team_.each(rows_, [&](int i) { refinement_[i] = ridge * ridge_[i] * step_[i]; });
      apply_inverse(refinement_);
      team_.each(rows_, [&](int i) { step_[i] += refinement_[i]; });
    }
    sum_columns(step_, step_column_);
    fill(step_column_, runs_, runs_ + 1, 0.0);
    team_.each(runs_, [&](int run) { step_weight_[run] = size_[run] * step_column_[run]; });
    length = line_search(dot(step_, residual_));
    if (!(length < kMaxLength)) return false;
    if (length > 0.5)
      ridge = most_of(kMinRidge, 1e-3 * ridge);
    else if (length < 0.01)
      ridge = least_of(kMaxRidge, 1e3 * ridge);
    team_.each(rows_, [&](int i) { y_[i] += length * step_[i]; });
    sum_columns(y_, column_);
  }
  return false;
}

// By how much y0 is no certificate; `y0_column_` are its columns.
template <class Team>
PYWS_TEAM double DualNewton<Team>::gap() const {
  double worst = 0.0;
  for (int run = team_.lane(); run < runs_; run += Team::kLanes) {
    const double gain = y0_column_[run] - 1.0;
    const double excess = free_[run] ? fabs(gain) : label_[run] > 0.0 ? -gain : gain;
    if (!(excess <= worst)) worst = greater_of(worst, excess);  // NaN is no certificate
  }
  return team_.greatest(worst);
}

// Multipliers of the linear program, from W_F^T y0 = 1 over the free runs, refined against the ridge.
template <class Team>
PYWS_TEAM bool DualNewton<Team>::certify() {
  fill(y0_column_, 0, padded_, 0.0);
  fill(y0_, 0, rows_, 0.0);
  double excess = 1.0;
  for (int pass = 0; pass < 3 && !(excess <= kRefinedTolerance); ++pass) {
    team_.each(runs_, [&](int run) { y0_residual_[run] = free_[run] ? size_[run] * (1.0 - y0_column_[run]) : 0.0; });
    sum_rows(y0_residual_, y0_step_);
    apply_inverse(y0_step_);
    team_.each(rows_, [&](int i) { y0_[i] += y0_step_[i]; });
    sum_columns(y0_, y0_column_);
    excess = gap();
  }
  return excess <= kGapTolerance;
}

template <class Team>
PYWS_TEAM bool DualNewton<Team>::solve(const RunProgram<Team>& program, bool centered) {
  program_ = &program;
  setup();
  if (!team_.fits()) return false;
  sweep();
  if (solve_disjoint()) return true;
  if (!setup_hessian()) return false;
  setup_multipliers();
  for (int round = 0; round < kMaxRounds; ++round) {
    if (!newton()) return false;
    if (certify()) return !centered || center();
    team_.each(rows_, [&](int i) { y_[i] += (kMuGrowth - 1.0) * mu_ * y0_[i]; });
    mu_ *= kMuGrowth;
  }
  return false;
}

}  // namespace pyws
