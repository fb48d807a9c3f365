#include "even_spread.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace pyws {

// The dual objective at y; leaves value and what the rows miss, which is its gradient.
double EvenSpread::evaluate(const std::vector<double>& y) {
  missing_ = rest;
  double objective = 0.0;
  for (int i = 0; i < rows; ++i) objective += rest[i] * y[i];
  for (std::size_t k = 0; k < size.size(); ++k) {
    double slope = 0.0;
    for (int e = first[k]; e < first[k + 1]; ++e) slope += entry[e] * y[row[e]];
    const double u = std::min(std::max(size[k] * slope, low[k]), high[k]);
    slope_[k] = slope;
    value[k] = u;
    objective -= slope * u - 0.5 * u * u / size[k];
    for (int e = first[k]; e < first[k + 1]; ++e) missing_[row[e]] -= entry[e] * u;
  }
  return objective;
}

// The Hessian of the piece: variables strictly between their bounds. The ridge takes rows that none of them touches.
void EvenSpread::assemble() {
  std::fill(envelope_.begin(), envelope_.end(), 0.0);
  double most = 0.0;
  for (std::size_t k = 0; k < size.size(); ++k) {
    const double free = size[k] * slope_[k];
    if (free < low[k] || free > high[k]) continue;
    for (int e = first[k]; e < first[k + 1]; ++e) {
      const int i = row[e];
      double* target = &envelope_[start_[i]] - left_[i];
      for (int f = first[k]; f <= e; ++f) target[row[f]] += size[k] * entry[e] * entry[f];
      most = std::max(most, target[i]);
    }
  }
  for (int i = 0; i < rows; ++i) envelope_[start_[i] + i - left_[i]] += 1e-12 * most + 1e-300;
}

void EvenSpread::factor_and_solve() {
  step_ = missing_;
  for (int i = 0; i < rows; ++i) {
    double* mine = &envelope_[start_[i]] - left_[i];
    for (int j = left_[i]; j < i; ++j) {
      const double* other = &envelope_[start_[j]] - left_[j];
      double sum = mine[j];
      for (int k = std::max(left_[i], left_[j]); k < j; ++k) sum -= mine[k] * other[k];
      mine[j] = sum / other[j];
      step_[i] -= mine[j] * step_[j];
    }
    double sum = mine[i];
    const double diagonal = sum;
    for (int k = left_[i]; k < i; ++k) sum -= mine[k] * mine[k];
    mine[i] = std::sqrt(std::max(sum, 1e-13 * diagonal + 1e-300));
    step_[i] /= mine[i];
  }
  for (int i = rows; i-- > 0;) {
    const double* mine = &envelope_[start_[i]] - left_[i];
    step_[i] /= mine[i];
    for (int j = left_[i]; j < i; ++j) step_[j] -= mine[j] * step_[i];
  }
}

bool EvenSpread::solve() {
  left_.resize(rows);
  start_.resize(rows);
  for (int i = 0; i < rows; ++i) left_[i] = i;
  for (std::size_t k = 0; k < size.size(); ++k)
    for (int e = first[k]; e < first[k + 1]; ++e) left_[row[e]] = std::min(left_[row[e]], row[first[k]]);
  std::size_t total = 0;
  for (int i = 0; i < rows; ++i) {
    start_[i] = total;
    total += static_cast<std::size_t>(i - left_[i] + 1);
  }
  envelope_.resize(total);
  y_.assign(rows, 0.0);
  value.resize(size.size());
  slope_.resize(size.size());

  double objective = evaluate(y_);
  for (int iteration = 0; iteration < 60; ++iteration) {
    double worst = 0.0, rise = 0.0;
    for (double m : missing_) worst = std::max(worst, std::fabs(m));
    if (worst <= 1e-13 * (1.0 + rows)) return true;
    assemble();
    factor_and_solve();
    for (int i = 0; i < rows; ++i) rise += step_[i] * missing_[i];
    double length = 1.0, reached = objective;
    for (int half = 0; half < 40; ++half, length *= 0.5) {
      trial_ = y_;
      for (int i = 0; i < rows; ++i) trial_[i] += length * step_[i];
      reached = evaluate(trial_);
      if (reached >= objective + 1e-4 * length * rise - 1e-15 * std::fabs(objective)) break;
    }
    std::swap(y_, trial_);
    objective = reached;
  }
  return false;
}

}  // namespace pyws
