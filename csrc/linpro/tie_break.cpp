#include "linpro/tie_break.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pyws {
namespace {

constexpr double kZero = 1e-9;  // smaller entries are rounding

// Solves H p = g in place of g for a symmetric positive definite H (n x n, row-major). A pivot that rounding has
// emptied takes its direction out.
void solve_cholesky(std::vector<double>& h, std::vector<double>& g) {
  const std::size_t n = g.size();
  for (std::size_t i = 0; i < n; ++i) {
    const double diagonal = h[i * n + i];
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = h[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= h[i * n + k] * h[j * n + k];
      if (i > j)
        h[i * n + j] = h[j * n + j] > 0.0 ? sum / h[j * n + j] : 0.0;
      else
        h[i * n + i] = sum > 1e-14 * diagonal ? std::sqrt(sum) : 0.0;
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) g[i] -= h[i * n + k] * g[k];
    g[i] = h[i * n + i] > 0.0 ? g[i] / h[i * n + i] : 0.0;
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) g[i] -= h[k * n + i] * g[k];
    g[i] = h[i * n + i] > 0.0 ? g[i] / h[i * n + i] : 0.0;
  }
}

bool fixed(const FaceBlock& block, int v) { return !(block.low[v] < block.high[v]); }

// Fixed dependent variables become columns, where a fixed variable costs nothing.
void exchange_fixed(FaceBlock& block) {
  for (int i = 0; i < block.rows; ++i) {
    if (!fixed(block, i)) continue;
    int best = -1;
    for (int j = 0; j < block.columns; ++j)
      if (!fixed(block, block.rows + j) && std::fabs(block.row(i)[j]) > kZero &&
          (best < 0 || std::fabs(block.row(i)[j]) > std::fabs(block.row(i)[best])))
        best = j;
    if (best >= 0) block.exchange(i, best);
  }
}

struct ActiveSet {
  FaceBlock& block;
  std::vector<char> free;  // columns
  std::vector<int> set;    // free columns, rising
  std::vector<double> gradient, hessian, direction;
  double tolerance = 0.0;

  explicit ActiveSet(FaceBlock& b) : block(b), free(b.columns, 0), gradient(b.columns) {
    for (int j = 0; j < block.columns; ++j) {
      const int v = block.rows + j;
      free[j] = block.value[v] > block.low[v] && block.value[v] < block.high[v];
    }
  }

  void differentiate() {
    double scale = 0.0;
    for (int j = 0; j < block.columns; ++j) {
      gradient[j] = block.weight[block.rows + j] * block.value[block.rows + j];
      scale = std::max(scale, std::fabs(gradient[j]));
    }
    for (int i = 0; i < block.rows; ++i) {
      const double slope = block.weight[i] * block.value[i];
      scale = std::max(scale, std::fabs(slope));
      if (slope != 0.0)
        for (int j = 0; j < block.columns; ++j) gradient[j] -= slope * block.row(i)[j];
    }
    tolerance = 1e-11 * scale;
  }

  // The column at a bound that most wants to leave it, or in Bland's order the first; -1: none does.
  int release(bool first_found) const {
    int best = -1;
    double best_gain = tolerance;
    for (int j = 0; j < block.columns; ++j) {
      const int v = block.rows + j;
      if (free[j] || fixed(block, v)) continue;
      const double gain = block.value[v] <= block.low[v] ? -gradient[j] : gradient[j];
      if (gain <= tolerance) continue;
      if (first_found ? best < 0 || block.id[v] < block.id[block.rows + best] : gain > best_gain)
        best = j, best_gain = gain;
    }
    return best;
  }

  // Newton's direction over the free columns; false where they are optimal already.
  bool aim() {
    set.clear();
    direction.clear();
    double steepest = 0.0;
    for (int j = 0; j < block.columns; ++j)
      if (free[j]) {
        set.push_back(j);
        direction.push_back(-gradient[j]);
        steepest = std::max(steepest, std::fabs(gradient[j]));
      }
    if (steepest <= tolerance) return false;
    const std::size_t n = set.size();
    hessian.assign(n * n, 0.0);
    for (std::size_t a = 0; a < n; ++a) hessian[a * n + a] = block.weight[block.rows + set[a]];
    for (int i = 0; i < block.rows; ++i) {
      const double* entries = block.row(i);
      if (block.weight[i] == 0.0) continue;
      for (std::size_t a = 0; a < n; ++a) {
        const double entry = block.weight[i] * entries[set[a]];
        if (entry != 0.0)
          for (std::size_t b = 0; b <= a; ++b) hessian[a * n + b] += entry * entries[set[b]];
      }
    }
    solve_cholesky(hessian, direction);
    return true;
  }

  // Goes along the direction as far as the bounds allow; returns the length, 1 for the whole.
  double move() {
    std::vector<double> rate(block.rows + set.size(), 0.0);
    double step = 1.0, bound = 0.0;
    std::size_t blocker = rate.size();
    const auto variable = [&](std::size_t r) {
      return static_cast<int>(r) < block.rows ? static_cast<int>(r) : block.rows + set[r - block.rows];
    };
    for (std::size_t r = 0; r < rate.size(); ++r) {
      const int v = variable(r);
      if (v < block.rows) {
        for (std::size_t a = 0; a < set.size(); ++a) rate[r] -= block.row(v)[set[a]] * direction[a];
      } else {
        rate[r] = direction[r - block.rows];
      }
      if (std::fabs(rate[r]) < 1e-14) continue;
      const double wall = rate[r] > 0.0 ? block.high[v] : block.low[v];
      const double length = std::max(0.0, (wall - block.value[v]) / rate[r]);
      if (length < step) step = length, bound = wall, blocker = r;
    }
    for (std::size_t r = 0; r < rate.size(); ++r) block.value[variable(r)] += step * rate[r];
    if (blocker == rate.size()) return 1.0;

    const int v = variable(blocker);
    block.value[v] = bound;
    if (v >= block.rows) {
      free[v - block.rows] = 0;
      return step;
    }
    int best = set[0];
    for (int j : set)
      if (std::fabs(block.row(v)[j]) > std::fabs(block.row(v)[best])) best = j;
    block.exchange(v, best);
    free[best] = 0;
    return step;
  }
};

// One slack of the centre: distance to a bound, with its multiplier.
struct Slack {
  int variable;
  double sign, size, length, multiplier;  // sign +1: value - low, -1: high - value
  double move = 0.0, turn = 0.0;
};

struct Center {
  FaceBlock& block;
  std::vector<int> set;  // columns that are not fixed
  std::vector<Slack> slacks;
  std::vector<double> hessian, step;

  explicit Center(FaceBlock& b) : block(b) {
    for (int j = 0; j < block.columns; ++j)
      if (!fixed(block, block.rows + j)) set.push_back(j);
    double scale = 0.0;
    for (double value : block.value) scale = std::max(scale, std::fabs(value));
    for (int i = 0; i < block.rows; ++i)
      if (std::any_of(set.begin(), set.end(), [&](int j) { return block.row(i)[j] != 0.0; })) add(i, 0.1 * scale);
    for (int j : set) add(block.rows + j, 0.1 * scale);
  }

  void add(int v, double min_length) {
    const double size = 1.0 / block.weight[v];
    for (double sign : {1.0, -1.0}) {
      const double gap = sign > 0.0 ? block.value[v] - block.low[v] : block.high[v] - block.value[v];
      if (std::isinf(gap)) continue;
      const double length = std::max(gap, std::min(min_length, 0.5 * (block.high[v] - block.low[v])));
      slacks.push_back({v, sign, size, length, size / length});
    }
  }

  double gap(const Slack& s) const {
    return s.sign > 0.0 ? block.value[s.variable] - block.low[s.variable]
                        : block.high[s.variable] - block.value[s.variable];
  }

  // d variable / d set[a]
  double slope(int v, std::size_t a) const {
    return v < block.rows ? -block.row(v)[set[a]] : (v - block.rows == set[a] ? 1.0 : 0.0);
  }

  void newton() {
    const std::size_t n = set.size();
    hessian.assign(n * n, 0.0);
    step.assign(n, 0.0);
    for (const Slack& s : slacks) {
      const double stiffness = s.multiplier / s.length;
      const double force = s.sign * (s.size / s.length - stiffness * (gap(s) - s.length));
      for (std::size_t a = 0; a < n; ++a) {
        const double at = slope(s.variable, a);
        if (at == 0.0) continue;
        step[a] += at * force;
        for (std::size_t b = 0; b <= a; ++b) hessian[a * n + b] += stiffness * at * slope(s.variable, b);
      }
    }
    solve_cholesky(hessian, step);
    for (Slack& s : slacks) {
      double change = 0.0;
      for (std::size_t a = 0; a < n; ++a) change += slope(s.variable, a) * step[a];
      s.move = s.sign * change + (gap(s) - s.length);
      s.turn = (s.size - s.multiplier * (s.length + s.move)) / s.length;
    }
  }

  // True once the slacks are what they stand for and every product is its class's size.
  bool advance() {
    newton();
    double length = 1.0, error = 0.0;
    for (const Slack& s : slacks) {
      if (s.move < 0.0) length = std::min(length, -0.99 * s.length / s.move);
      if (s.turn < 0.0) length = std::min(length, -0.99 * s.multiplier / s.turn);
    }
    std::vector<double> change(block.value.size(), 0.0);
    for (std::size_t v = 0; v < change.size(); ++v)
      for (std::size_t a = 0; a < set.size(); ++a) change[v] += slope(static_cast<int>(v), a) * step[a];
    for (std::size_t v = 0; v < change.size(); ++v) block.value[v] += length * change[v];
    for (Slack& s : slacks) {
      s.length += length * s.move;
      s.multiplier += length * s.turn;
      error = std::max({error, std::fabs(s.multiplier * s.length / s.size - 1.0), std::fabs(gap(s) / s.length - 1.0)});
    }
    return length == 1.0 && error < 1e-9;
  }
};

}  // namespace

void FaceBlock::resize(int new_rows, int new_columns) {
  rows = new_rows;
  columns = new_columns;
  matrix.resize(static_cast<std::size_t>(rows) * columns);
  const std::size_t variables = static_cast<std::size_t>(rows) + columns;
  for (std::vector<double>* field : {&value, &low, &high, &weight}) field->resize(variables);
  id.resize(variables);
}

void FaceBlock::exchange(int i, int j) {
  double* pivot = row(i);
  const double inverse = 1.0 / pivot[j];
  for (int c = 0; c < columns; ++c) pivot[c] *= inverse;
  pivot[j] = inverse;
  for (int other = 0; other < rows; ++other) {
    double* entries = row(other);
    const double factor = entries[j];
    if (other == i || factor == 0.0) continue;
    for (int c = 0; c < columns; ++c) {
      const double entry = entries[c] - factor * pivot[c];
      entries[c] = std::fabs(entry) < 1e-13 ? 0.0 : entry;
    }
    entries[j] = -factor * inverse;
  }
  const int v = rows + j;
  for (std::vector<double>* field : {&value, &low, &high, &weight}) std::swap((*field)[i], (*field)[v]);
  std::swap(id[i], id[v]);
}

bool least_squares(FaceBlock& block) {
  exchange_fixed(block);
  ActiveSet active(block);
  const int limit = 50 * (block.rows + block.columns) + 50;
  bool settled = false, stalled = false;  // the free columns are optimal; the last step had no length
  for (int iteration = 0; iteration < limit; ++iteration) {
    active.differentiate();
    if (!settled && active.aim()) {
      const double step = active.move();
      settled = step == 1.0;
      stalled = step < 1e-12;
      continue;
    }
    const int column = active.release(stalled);
    if (column < 0) return true;
    active.free[column] = 1;
    settled = false;
  }
  return false;
}

bool analytic_center(FaceBlock& block) {
  FaceBlock trial = block;
  for (std::size_t v = 0; v < trial.value.size(); ++v)
    if (trial.weight[v] == 0.0) trial.low[v] = trial.high[v] = trial.value[v];
  exchange_fixed(trial);
  Center center(trial);
  if (center.set.empty()) return true;
  for (int iteration = 0; iteration < 100; ++iteration)
    if (center.advance()) {
      block = std::move(trial);
      return true;
    }
  return false;
}

}  // namespace pyws
