#include "interior_point/box_program.h"

#include <algorithm>
#include <cmath>

namespace pyws {
namespace {

constexpr int kRefinements = 2;
constexpr double kProductWork = 100.0;  // multiplications that the product of two rows is worth

double clip(double x, double low, double high) { return std::min(std::max(x, low), high); }

}  // namespace

void BoxProgram::multiply(const std::vector<double>& u, std::vector<double>& sums) const {
  std::vector<double> before(runs() + 1, 0.0);
  for (std::size_t r = 0; r < runs(); ++r) before[r + 1] = before[r] + u[r];
  sums.resize(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    const double margins = (before[row.start] - before[row.left]) + (before[row.right] - before[row.end]);
    sums[i] = (before[row.end] - before[row.start]) - row.outer * margins;
  }
}

void BoxProgram::multiply_transposed(const std::vector<double>& y, std::vector<double>& columns) const {
  columns.assign(runs() + 1, 0.0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    columns[row.left] -= row.outer * y[i];
    columns[row.start] += (1.0 + row.outer) * y[i];
    columns[row.end] -= (1.0 + row.outer) * y[i];
    columns[row.right] += row.outer * y[i];
  }
  for (std::size_t r = 1; r < runs(); ++r) columns[r] += columns[r - 1];
  columns.resize(runs());
}

double BoxProgram::objective(const std::vector<double>& u) const {
  std::vector<double> sums;
  multiply(u, sums);
  double sum = 0.0;
  for (std::size_t r = 0; r < runs(); ++r) sum += (cost[r] + 0.5 * curvature[r] * u[r]) * u[r];
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double missed = rows[i].score - sums[i];
    sum += std::max(rows[i].high * missed, rows[i].low * missed);
  }
  return sum;
}

double BoxProgram::violation(const std::vector<double>& u, const std::vector<double>& y) const {
  std::vector<double> columns, sums;
  multiply_transposed(y, columns);
  multiply(u, sums);
  double worst = 0.0;
  const auto take = [&worst](double value) {
    worst = std::isnan(value) ? INFINITY : std::max(worst, std::fabs(value));
  };
  for (std::size_t r = 0; r < runs(); ++r)
    take(u[r] - clip(u[r] - (cost[r] + curvature[r] * u[r] - columns[r]), 0.0, limit[r]));
  for (std::size_t i = 0; i < rows.size(); ++i)
    take(y[i] - clip(y[i] + (rows[i].score - sums[i]), rows[i].low, rows[i].high));
  return worst;
}

double BoxProgram::duality_gap(const std::vector<double>& u, const std::vector<double>& y, bool charged) const {
  std::vector<double> columns, sums;
  multiply_transposed(y, columns);
  multiply(u, sums);
  double gap = 0.0;
  for (std::size_t r = 0; r < runs(); ++r) {
    const double gain = columns[r] - cost[r];
    // of mass between 0 and the limit, what pays most
    const double best = curvature[r] > 0.0 ? clip(gain / curvature[r], 0.0, limit[r]) : gain > 0.0 ? limit[r] : 0.0;
    const auto pays = [&](double mass) { return (gain - 0.5 * curvature[r] * mass) * mass; };
    gap += pays(best) - pays(u[r]);
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double missed = rows[i].score - sums[i];
    gap += charged ? std::max(rows[i].high * missed, rows[i].low * missed) - y[i] * missed : std::fabs(y[i] * missed);
  }
  return gap;
}

NewtonEquations::Entries NewtonEquations::entries_of(const BoxProgram::Row& row) {
  const int at[4] = {row.left, row.start, row.end, row.right};
  const double value[4] = {row.outer, -1.0 - row.outer, 1.0 + row.outer, -row.outer};
  Entries entries;
  for (int e = 0; e < 4; ++e) {
    if (entries.count > 0 && entries.at[entries.count - 1] == at[e] - 1)
      entries.value[entries.count - 1] += value[e];
    else if (at[e] > 0)
      entries.at[entries.count] = at[e] - 1, entries.value[entries.count++] = value[e];
  }
  return entries;
}

std::vector<int> NewtonEquations::skyline_of_sums() const {
  std::vector<int> first(program_->runs());
  for (std::size_t v = 0; v < first.size(); ++v) first[v] = std::max(static_cast<int>(v) - 1, 0);
  for (const Entries& row : entries_)
    for (int e = 1; e < row.count; ++e) first[row.at[e]] = std::min(first[row.at[e]], row.at[0]);
  return first;
}

std::vector<int> NewtonEquations::skyline_of_rows() const {
  const std::vector<BoxProgram::Row>& rows = program_->rows;
  std::vector<int> first(rows.size()), reach(rows.size());
  std::size_t j = 0;  // the first row that reaches beyond where row i begins
  for (std::size_t i = 0; i < rows.size(); ++i) {
    reach[i] = std::max(rows[i].right, i > 0 ? reach[i - 1] : 0);
    while (j < i && reach[j] <= rows[i].left) ++j;
    first[i] = static_cast<int>(j);
  }
  return first;
}

void NewtonEquations::reset(const BoxProgram& program, bool by_rows) {
  program_ = &program;
  entries_.clear();
  for (const BoxProgram::Row& row : program.rows) entries_.push_back(entries_of(row));
  skyline_ = skyline_of_rows();
  double products = 0.0;  // pairs of rows that overlap, each a few sums of ranges
  for (std::size_t i = 0; i < skyline_.size(); ++i) products += static_cast<double>(i) - skyline_[i] + 1.0;
  row_work_ = TileCholesky::work(skyline_) + kProductWork * products;
  const std::vector<int> of_sums = skyline_of_sums();
  by_rows_ = by_rows || row_work_ < TileCholesky::work(of_sums);
  if (!by_rows_) skyline_ = of_sums;
  cholesky_.reset(skyline_);
}

void NewtonEquations::add_sums() {
  for (std::size_t r = 0; r < stiffness_u_.size(); ++r) {
    const int v = static_cast<int>(r);
    cholesky_.add(v, v, stiffness_u_[r]);
    if (r == 0) continue;
    cholesky_.add(v - 1, v - 1, stiffness_u_[r]);
    cholesky_.add(v, v - 1, -stiffness_u_[r]);
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entries& row = entries_[i];
    for (int e = 0; e < row.count; ++e)
      for (int f = 0; f <= e; ++f) cholesky_.add(row.at[e], row.at[f], row.value[e] * row.value[f] / stiffness_y_[i]);
  }
}

// The product of two rows is a sum over ranges of runs, of 1 / stiffness_u. Each range begins or ends where a piece of
// row i does, or is a piece of row j: it is looked up among sums from both ends of the pieces, and no sum is the
// difference of two, which would lose the small ones.
void NewtonEquations::add_rows() {
  const std::size_t runs = stiffness_u_.size();
  const std::vector<BoxProgram::Row>& rows = program_->rows;
  pieces_.assign(3 * rows.size(), 0.0);
  from_left_.resize(runs + 1);
  from_right_.resize(runs + 1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const int mine[4] = {rows[i].left, rows[i].start, rows[i].end, rows[i].right};
    for (int a = 0; a < 3; ++a) {
      double sum = 0.0;
      for (int r = mine[a]; r < mine[a + 1]; ++r) from_left_[r + 1] = sum += 1.0 / stiffness_u_[r];
      pieces_[3 * i + a] = sum;
      sum = 0.0;
      for (int r = mine[a + 1]; r-- > mine[a];) from_right_[r] = sum += 1.0 / stiffness_u_[r];
    }
    for (std::size_t j = skyline_[i]; j <= i; ++j) {
      const int other[4] = {rows[j].left, rows[j].start, rows[j].end, rows[j].right};
      double sum = i == j ? stiffness_y_[i] : 0.0;
      for (int a = 0, b = 0; a < 3 && b < 3;) {  // pieces of both: margin, inside, margin
        const int from = std::max(mine[a], other[b]), to = std::min(mine[a + 1], other[b + 1]);
        if (from < to) {
          const double softness = from == mine[a]     ? from_left_[to]
                                  : to == mine[a + 1] ? from_right_[from]
                                                      : pieces_[3 * j + b];
          sum += (a == 1 ? 1.0 : -rows[i].outer) * (b == 1 ? 1.0 : -rows[j].outer) * softness;
        }
        mine[a + 1] <= other[b + 1] ? ++a : ++b;
      }
      cholesky_.add(static_cast<int>(i), static_cast<int>(j), sum);
    }
  }
}

void NewtonEquations::factor(const std::vector<double>& stiffness_u, const std::vector<double>& stiffness_y) {
  stiffness_u_ = stiffness_u;
  stiffness_y_ = stiffness_y;
  cholesky_.clear();
  by_rows_ ? add_rows() : add_sums();
  cholesky_.factor();
}

// du_ and dy_ for the right-hand sides a and b.
void NewtonEquations::solve_once(const std::vector<double>& a, const std::vector<double>& b) {
  const BoxProgram& p = *program_;
  const std::size_t runs = a.size(), rows = b.size();
  if (by_rows_) {
    du_.resize(runs);
    for (std::size_t r = 0; r < runs; ++r) du_[r] = a[r] / stiffness_u_[r];
    p.multiply(du_, sums_);
    dy_.resize(rows);
    for (std::size_t i = 0; i < rows; ++i) dy_[i] = b[i] - sums_[i];
    cholesky_.solve(dy_);
    p.multiply_transposed(dy_, columns_);
    for (std::size_t r = 0; r < runs; ++r) du_[r] = (a[r] + columns_[r]) / stiffness_u_[r];
    return;
  }
  dy_.resize(rows);
  for (std::size_t i = 0; i < rows; ++i) dy_[i] = b[i] / stiffness_y_[i];
  p.multiply_transposed(dy_, columns_);
  right_.resize(runs);
  for (std::size_t r = 0; r < runs; ++r) right_[r] = a[r] + columns_[r];
  for (std::size_t r = 0; r + 1 < runs; ++r) right_[r] -= right_[r + 1];
  cholesky_.solve(right_);
  du_.resize(runs);
  for (std::size_t r = 0; r < runs; ++r) du_[r] = right_[r] - (r > 0 ? right_[r - 1] : 0.0);
  p.multiply(du_, sums_);
  for (std::size_t i = 0; i < rows; ++i) dy_[i] = (b[i] - sums_[i]) / stiffness_y_[i];
}

void NewtonEquations::solve(const std::vector<double>& a, const std::vector<double>& b, std::vector<double>& du,
                            std::vector<double>& dy) {
  du.assign(a.size(), 0.0);
  dy.assign(b.size(), 0.0);
  rest_u_ = a;
  rest_y_ = b;
  for (int pass = 0; pass <= kRefinements; ++pass) {
    if (pass > 0) {
      program_->multiply_transposed(dy, columns_);
      program_->multiply(du, sums_);
      for (std::size_t r = 0; r < a.size(); ++r) rest_u_[r] = a[r] - (stiffness_u_[r] * du[r] - columns_[r]);
      for (std::size_t i = 0; i < b.size(); ++i) rest_y_[i] = b[i] - (sums_[i] + stiffness_y_[i] * dy[i]);
    }
    solve_once(rest_u_, rest_y_);
    for (std::size_t r = 0; r < a.size(); ++r) du[r] += du_[r];
    for (std::size_t i = 0; i < b.size(); ++i) dy[i] += dy_[i];
  }
}

}  // namespace pyws
