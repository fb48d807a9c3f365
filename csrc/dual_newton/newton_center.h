// DualNewton: the analytic centre of the labels that y0 allows, the most sum of log g + log(upper - g), by a primal-dual
// Newton iteration with multipliers `low` = 1/g and `high` = 1/(upper - g).
#pragma once

#include "dual_newton/newton_iteration.h"

namespace pyws {

// The runs that may move, inside their bounds; returns their number.
template <class Team>
PYWS_TEAM int DualNewton<Team>::setup_center() {
  const double upper = program_->upper;
  const int count = team_.in_order([&] {
    int found = 0;
    for (int run = 0; run < runs_; ++run)
      if (fabs(y0_column_[run] - 1.0) <= kRounding) moving_[found++] = run;
    return found;
  });
  double most = 0.0;
  for (int m = team_.lane(); m < count; m += Team::kLanes) most = most_of(most, label_[moving_[m]]);
  const double margin = least_of(0.1 * team_.greatest(most), 0.5 * upper);
  team_.each(count, [&](int m) {
    double& g = label_[moving_[m]];
    g = least_of(most_of(g, margin), upper - margin);
    low_[m] = 1.0 / g;
    high_[m] = 1.0 / (upper - g);
  });
  return count;
}

// The Newton step of the labels in `move_`; returns by how much the conditions are missed, infinite for no number.
template <class Team>
PYWS_TEAM double DualNewton<Team>::turn_center(int count) {
  const double upper = program_->upper;
  fill(hessian_, 0, (rows_ + width_) * width_, 0.0);
  team_.each(runs_, [&](int run) { mass_[run] = size_[run] * label_[run]; });
  update_residual(mass_);
  double error = max_residual();
  team_.each(count, [&](int m) {
    const int run = moving_[m];
    const double g = label_[run], slack = upper - g, slope = 1.0 / slack - 1.0 / g;
    const double stiffness = low_[m] / g + high_[m] / slack;
    move_[m] = -slope / stiffness;
    mass_[run] += size_[run] * move_[m];
    step_weight_[m] = size_[run] / stiffness;
  });
  for (int m = 0; m < count; ++m) add_to_hessian(moving_[m], step_weight_[m]);
  update_residual(mass_);
  factor(0.0);
  team_.each(rows_, [&](int i) { step_[i] = residual_[i]; });
  apply_inverse(step_);
  sum_columns(step_, step_column_);
  for (int m = team_.lane(); m < count; m += Team::kLanes) {
    const double g = label_[moving_[m]], slack = upper - g;
    move_[m] += step_column_[moving_[m]] / (low_[m] / g + high_[m] / slack);
    error = greater_of(error, fabs(move_[m]) / least_of(g, slack));
  }
  return team_.greatest(error);
}

// How far the step may go, next to the first bound at most.
template <class Team>
PYWS_TEAM double DualNewton<Team>::center_length(int count) const {
  const double upper = program_->upper;
  double length = 1.0;
  for (int m = team_.lane(); m < count; m += Team::kLanes) {
    const double g = label_[moving_[m]], slack = upper - g;
    const double turn_low = (1.0 - low_[m] * (g + move_[m])) / g;
    const double turn_high = upper == HUGE_VAL ? 0.0 : (1.0 - high_[m] * (slack - move_[m])) / slack;
    if (move_[m] < 0.0) length = least_of(length, -0.99 * g / move_[m]);
    if (move_[m] > 0.0) length = least_of(length, 0.99 * slack / move_[m]);
    if (turn_low < 0.0) length = least_of(length, -0.99 * low_[m] / turn_low);
    if (turn_high < 0.0) length = least_of(length, -0.99 * high_[m] / turn_high);
  }
  return team_.least(length);
}

// False where the labels that y0 allows have no interior: some end at a bound.
template <class Team>
PYWS_TEAM bool DualNewton<Team>::center() {
  const double upper = program_->upper;
  team_.resize(moving_, runs_);
  for (Doubles* field : {&low_, &high_, &move_}) team_.resize(*field, runs_);
  if (!team_.fits()) return false;
  const int count = setup_center();
  for (int iteration = 0; iteration < kMaxIterations; ++iteration) {
    const double error = turn_center(count);
    if (!(error < HUGE_VAL)) return false;
    const double length = center_length(count);
    team_.each(count, [&](int m) {
      double& g = label_[moving_[m]];
      const double slack = upper - g;
      low_[m] += length * (1.0 - low_[m] * (g + move_[m])) / g;
      if (upper != HUGE_VAL) high_[m] += length * (1.0 - high_[m] * (slack - move_[m])) / slack;
      g += length * move_[m];
    });
    if (length == 1.0 && error < kRounding) return true;
  }
  return false;
}

}  // namespace pyws
