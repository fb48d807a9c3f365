#include "simplex/simplex.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "components/forest.h"
#include "simplex/simplex_simd.h"

namespace pyws {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kPivotTolerance = 1e-9;  // smaller entries of the tableau are rounding
constexpr double kTie = 1e-11;

}  // namespace

// The all-residual basis: v = q, every other class at 0.
void Simplex::begin(const CoupledLp& lp) {
  lp_ = &lp;
  rows_ = lp.rows();
  class_.assign(lp.own.begin(), lp.own.end());
  std::vector<char> owned(lp.classes(), 0);
  for (int k : lp.own)
    if (k >= 0) owned[k] = 1;
  for (int k = 0; k < lp.classes(); ++k)
    if (!owned[k]) class_.push_back(k);
  const int ids = static_cast<int>(class_.size());
  columns_ = ids - rows_;

  x_.assign(ids, 0.0);
  low_.assign(ids, 0.0);
  high_.assign(ids, 0.0);
  soft_.assign(ids, kInfinity);
  cost_.assign(ids, 0.0);
  column_of_.assign(ids, -1);
  for (int id = 0; id < ids; ++id) high_[id] = class_[id] >= 0 ? lp.limit[class_[id]] : 0.0;
  basic_.resize(rows_);
  nonbasic_.resize(columns_);
  std::iota(basic_.begin(), basic_.end(), 0);
  std::iota(nonbasic_.begin(), nonbasic_.end(), rows_);

  tableau_.assign(static_cast<std::size_t>(rows_) * columns_, 0.0);
  for (int j = 0; j < columns_; ++j) {
    column_of_[rows_ + j] = j;
    const int k = class_[rows_ + j];
    for (int e = lp.first[k]; e < lp.first[k + 1]; ++e) row(lp.row[e])[j] = lp.entry[e];
  }
  price_.assign(columns_, 0.0);
  devex_.assign(columns_, 1.0);
  up_.resize(columns_);
  down_.resize(columns_);
  for (int j = 0; j < columns_; ++j) set_walls(j);
  for (int i = 0; i < rows_; ++i) {
    x_[i] = lp.q[i];
    soft_[i] = lp.weight[i];
    change_cost(i, x_[i] < 0.0 ? -soft_[i] : x_[i] > high_[i] ? soft_[i] : 0.0);
  }
}

void Simplex::set_walls(int column) {
  const int id = nonbasic_[column];
  up_[column] = x_[id] < high_[id] ? 0.0 : soft_[id];
  down_[column] = x_[id] > low_[id] ? 0.0 : soft_[id];
}

void Simplex::change_cost(int i, double cost) {
  const double change = cost - cost_[basic_[i]];
  if (change == 0.0) return;
  cost_[basic_[i]] = cost;
  const double* entries = row(i);
  for (int j = 0; j < columns_; ++j) price_[j] -= change * entries[j];
}

// The column that pays most for a unit step, or with first_found (Bland's rule) the one of the lowest id; -1: optimal.
int Simplex::enter(bool first_found) const {
  int best = -1;
  double best_merit = 0.0;
  for (int j = 0; j < columns_; ++j) {
    const double gain = std::max(-price_[j] - up_[j], price_[j] - down_[j]);
    if (gain <= kLpTolerance) continue;
    const double merit = gain * gain / devex_[j];
    if (first_found ? best < 0 || nonbasic_[j] < nonbasic_[best] : merit > best_merit) best = j, best_merit = merit;
  }
  return best;
}

void Simplex::collect_breaks(int column, double sign) {
  breaks_.clear();
  const auto meet = [&](int id, int i, double rate, bool upper) {
    const double bound = upper ? high_[id] : low_[id];
    if (!std::isinf(bound))
      breaks_.push_back({std::max(0.0, (bound - x_[id]) / rate), soft_[id] * std::fabs(rate), rate, bound, i});
  };
  for (int i = 0; i < rows_; ++i) {
    const double entry = row(i)[column];
    if (std::fabs(entry) < kPivotTolerance) continue;
    const int id = basic_[i];
    const bool rises = sign * entry < 0.0;
    // On which side of its bounds a soft variable is, its cost says: on a bound it may be on either side.
    const double side = std::isinf(soft_[id]) ? 0.0 : cost_[id];
    if (rises ? side < 0.0 : side > 0.0) meet(id, i, -sign * entry, !rises);
    if (rises ? side <= 0.0 : side >= 0.0) meet(id, i, -sign * entry, rises);
  }
  const int id = nonbasic_[column];
  if (sign > 0.0 ? up_[column] == 0.0 : down_[column] == 0.0) meet(id, -1, sign, sign > 0.0);
}

// Walks the breaks in rising order while the objective still falls; among equal steps the greatest pivot stops. With
// first_found (Bland's rule) the first break stops, among equal steps the lowest id.
std::size_t Simplex::stop(double gain, bool first_found) {
  const auto id = [&](const Break& b) { return b.row < 0 ? -1 : basic_[b.row]; };
  std::sort(breaks_.begin(), breaks_.end(),
            [&](const Break& a, const Break& b) { return a.step != b.step ? a.step < b.step : id(a) < id(b); });
  for (std::size_t b = 0; b < breaks_.size(); ++b) {
    gain -= breaks_[b].slope;
    if (gain > kLpTolerance && !first_found) continue;
    std::size_t best = b;
    for (std::size_t c = b + 1; c < breaks_.size() && breaks_[c].step <= breaks_[b].step + kTie; ++c)
      if (first_found ? id(breaks_[c]) < id(breaks_[best]) : std::fabs(breaks_[c].rate) > std::fabs(breaks_[best].rate))
        best = c;
    std::swap(breaks_[b], breaks_[best]);
    return b;
  }
  return breaks_.size();
}

// One step along a column. False: the objective falls without end, which only rounding can make of this problem.
bool Simplex::advance(int column, bool first_found) {
  const double sign = -price_[column] - up_[column] >= price_[column] - down_[column] ? 1.0 : -1.0;
  const double wall = sign > 0.0 ? up_[column] : down_[column];
  collect_breaks(column, sign);
  const std::size_t walked = stop(-sign * price_[column] - wall, first_found);
  if (walked == breaks_.size()) return false;
  const Break last = breaks_[walked];

  const int entering = nonbasic_[column];
  x_[entering] += sign * last.step;
  for (int i = 0; i < rows_; ++i) x_[basic_[i]] -= sign * last.step * row(i)[column];
  double entering_cost = cost_[entering] + sign * wall;
  for (std::size_t b = 0; b < walked; ++b) {  // soft variables that changed sides
    const int i = breaks_[b].row;
    const int id = i < 0 ? entering : basic_[i];
    const double change = std::copysign(soft_[id], breaks_[b].rate);
    if (i < 0)
      entering_cost += change;
    else
      change_cost(i, cost_[id] + change);
  }
  if (last.row < 0) {
    x_[entering] = last.bound;
  } else {
    const int leaving = basic_[last.row];
    x_[leaving] = last.bound;
    if (!std::isinf(soft_[leaving])) change_cost(last.row, 0.0);
    pivot(last.row, column);
    change_cost(last.row, entering_cost);
  }
  set_walls(column);
  return true;
}

void Simplex::pivot(int i, int column) {
  double* pivot_row = row(i);
  const double inverse = 1.0 / pivot_row[column];
  nonzero_.clear();
  for (int j = 0; j < columns_; ++j)
    if (pivot_row[j] != 0.0 && j != column) {
      pivot_row[j] *= inverse;
      nonzero_.push_back(j);
    }
  pivot_row[column] = inverse;
  const double reference = devex_[column];
  for (int j : nonzero_) devex_[j] = std::max(devex_[j], pivot_row[j] * pivot_row[j] * reference);
  devex_[column] = std::max(reference * inverse * inverse, 1.0);
  const bool dense = 8 * nonzero_.size() > static_cast<std::size_t>(columns_);
  const auto eliminate = [&](double* entries) {
    const double factor = entries[column];
    if (factor == 0.0) return;
    if (dense) {
      simplex_loops().eliminate(entries, pivot_row, factor, columns_);
    } else {
      for (int j : nonzero_) {
        const double entry = entries[j] - factor * pivot_row[j];
        entries[j] = std::fabs(entry) < kTableauZero ? 0.0 : entry;
      }
    }
    entries[column] = -factor * inverse;
  };
  for (int other = 0; other < rows_; ++other)
    if (other != i) eliminate(row(other));
  eliminate(price_.data());
  std::swap(basic_[i], nonbasic_[column]);
  column_of_[basic_[i]] = -1;
  column_of_[nonbasic_[column]] = column;
}

bool Simplex::minimise() {
  const long limit = 20L * (rows_ + columns_) + 200;
  const int patience = 2 * rows_ + 20;  // steps of length 0 before Bland's rule, which cannot cycle
  int stalled = 0;
  for (long iteration = 0; iteration < limit; ++iteration) {
    const bool first_found = stalled > patience;
    const int column = enter(first_found);
    if (column < 0) return true;
    const double before = x_[nonbasic_[column]];
    const int entering = nonbasic_[column];
    if (!advance(column, first_found)) return false;
    stalled = std::fabs(x_[entering] - before) < 1e-12 ? stalled + 1 : 0;
  }
  return false;
}

// The multiplier of row i, read from v_i, whose column is e_i.
double Simplex::dual(int i) const {
  const int column = column_of_[i];
  return column < 0 ? cost_[i] : cost_[i] - price_[column];
}

// Optimality from the original data: reduced costs recomputed from the multipliers, and every variable where they put
// it.
bool Simplex::certify() const {
  constexpr double kTolerance = 1e-7;
  const CoupledLp& lp = *lp_;
  for (std::size_t id = 0; id < x_.size(); ++id) {
    double price = cost_[id];
    if (static_cast<int>(id) < rows_) {
      price -= dual(static_cast<int>(id));
    } else {
      for (int e = lp.first[class_[id]]; e < lp.first[class_[id] + 1]; ++e) price -= lp.entry[e] * dual(lp.row[e]);
    }
    const bool below = x_[id]<high_[id] - kTolerance, above = x_[id]> low_[id] + kTolerance;
    const double up = below ? 0.0 : soft_[id], down = above ? 0.0 : soft_[id];
    if (!(-price - up <= kTolerance && price - down <= kTolerance)) return false;
    if (!std::isinf(soft_[id]) && (cost_[id] < 0.0 ? above : cost_[id] > 0.0 && below)) return false;
  }
  return true;
}

// After step 1: bounds that hold exactly the answers of least residual (complementary slackness), all of them hard.
// False: the certificate of step 1 fails.
bool Simplex::fix_min_residual() {
  double residual = 0.0;
  for (int i = 0; i < rows_; ++i) residual += soft_[i] * std::max({0.0, low_[i] - x_[i], x_[i] - high_[i]});
  relaxed_ = residual > kLpTolerance;
  if (relaxed_) {
    if (!certify()) return false;
    for (int j = 0; j < columns_; ++j) {
      const int id = nonbasic_[j];
      if (id >= rows_ && std::fabs(price_[j]) > kLpTolerance) low_[id] = high_[id] = x_[id];
    }
    for (int i = 0; i < rows_; ++i) {
      const double y = dual(i), near = kLpTolerance;
      const double low = low_[i], high = high_[i];
      if (y <= near - soft_[i]) {
        low_[i] = -kInfinity, high_[i] = low;
      } else if (y < -near) {
        high_[i] = low;
      } else if (y >= soft_[i] - near) {
        low_[i] = high, high_[i] = kInfinity;
      } else if (y > near) {
        low_[i] = high;
      }
    }
  }
  std::fill(soft_.begin(), soft_.end(), kInfinity);
  return true;
}

void Simplex::price_masses() {
  const int ids = static_cast<int>(x_.size());
  for (int id = 0; id < ids; ++id) {
    const bool residual = id < rows_ && (class_[id] < 0 || std::isinf(low_[id]) || low_[id] > 0.0);
    cost_[id] = residual ? 0.0 : 1.0;
  }
  devex_.assign(columns_, 1.0);
  for (int j = 0; j < columns_; ++j) price_[j] = cost_[nonbasic_[j]];
  for (int i = 0; i < rows_; ++i) {
    const double cost = cost_[basic_[i]];
    const double* entries = row(i);
    if (cost != 0.0)
      for (int j = 0; j < columns_; ++j) price_[j] -= cost * entries[j];
  }
  for (int j = 0; j < columns_; ++j) set_walls(j);
}

// Splits the columns that may move without cost into parts that share no dependent variable, and settles each.
bool Simplex::break_ties(bool center) {
  std::vector<int> moving;
  for (int j = 0; j < columns_; ++j)
    if (low_[nonbasic_[j]] < high_[nonbasic_[j]] && std::fabs(price_[j]) <= kLpTolerance) moving.push_back(j);
  if (moving.empty()) return true;
  std::vector<int> parent(moving.size()), part_of_row(rows_, -1);
  std::iota(parent.begin(), parent.end(), 0);
  const auto parent_of = [&](int m) -> int& { return parent[m]; };
  const auto root = [&](int m) { return find_first(m, parent_of); };
  for (int i = 0; i < rows_; ++i)
    for (std::size_t m = 0; m < moving.size(); ++m) {
      if (std::fabs(row(i)[moving[m]]) < kPivotTolerance) continue;
      const int mine = static_cast<int>(m);
      part_of_row[i] = part_of_row[i] < 0 ? root(mine) : join_sets(mine, part_of_row[i], parent_of).into;
    }
  for (std::size_t m = 0; m < moving.size(); ++m)
    if (parent[m] == static_cast<int>(m)) {
      std::vector<int> rows, columns;
      for (int i = 0; i < rows_; ++i)
        if (part_of_row[i] >= 0 && root(part_of_row[i]) == static_cast<int>(m)) rows.push_back(i);
      for (std::size_t other = m; other < moving.size(); ++other)
        if (root(static_cast<int>(other)) == static_cast<int>(m)) columns.push_back(moving[other]);
      if (!settle(rows, columns, center)) return false;
    }
  return true;
}

bool Simplex::settle(const std::vector<int>& rows, const std::vector<int>& columns, bool center) {
  const int dependent = static_cast<int>(rows.size());
  block_.resize(dependent, static_cast<int>(columns.size()));
  for (int i = 0; i < dependent; ++i)
    for (int j = 0; j < block_.columns; ++j) {
      const double entry = row(rows[i])[columns[j]];
      block_.row(i)[j] = std::fabs(entry) < kPivotTolerance ? 0.0 : entry;
    }
  for (std::size_t v = 0; v < block_.id.size(); ++v) {
    const int id = static_cast<int>(v) < dependent ? basic_[rows[v]] : nonbasic_[columns[v - dependent]];
    block_.id[v] = id;
    block_.value[v] = x_[id];
    block_.low[v] = std::min(low_[id], x_[id]);
    block_.high[v] = std::max(high_[id], x_[id]);
    block_.weight[v] = cost_[id] != 0.0 ? 1.0 / lp_->size[class_[id]] : 0.0;
  }
  if (!least_squares(block_)) return false;
  if (center) analytic_center(block_);  // keeps the least squares where the face has no interior
  for (std::size_t v = 0; v < block_.id.size(); ++v) x_[block_.id[v]] = block_.value[v];
  return true;
}

// Every row holds, every variable is within its bounds, and the mass is what step 2 found.
bool Simplex::certify_answer(double mass) const {
  const CoupledLp& lp = *lp_;
  std::vector<double> rest = lp.q;
  for (std::size_t id = 0; id < x_.size(); ++id) {
    if (!(x_[id] >= low_[id] - 2 * kLpTolerance && x_[id] <= high_[id] + 2 * kLpTolerance)) return false;
    mass -= cost_[id] * x_[id];
    if (static_cast<int>(id) < rows_) {
      rest[id] -= x_[id];
    } else {
      for (int e = lp.first[class_[id]]; e < lp.first[class_[id] + 1]; ++e) rest[lp.row[e]] -= lp.entry[e] * x_[id];
    }
  }
  double worst = std::fabs(mass) / (1.0 + rows_);
  for (double r : rest) worst = std::max(worst, std::fabs(r));
  return worst <= kLpTolerance;
}

bool Simplex::solve(const CoupledLp& lp, bool center, std::vector<double>& mass) {
  begin(lp);
  if (!minimise() || !fix_min_residual()) return false;
  price_masses();
  if (!minimise() || !certify()) return false;
  double objective = 0.0;
  for (std::size_t id = 0; id < x_.size(); ++id) objective += cost_[id] * x_[id];
  if (!break_ties(center) || !certify_answer(objective)) return false;
  mass.assign(lp.classes(), 0.0);
  for (std::size_t id = 0; id < x_.size(); ++id) {
    const int k = class_[id];
    if (k >= 0) mass[k] = std::min(std::max(x_[id], 0.0), lp.limit[k]);
  }
  return true;
}

}  // namespace pyws
