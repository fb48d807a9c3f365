#include "linpro/linpro.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include "class_mean/constraint_rows.h"
#include "common/parallel.h"
#include "common/ragged.h"
#include "dual_newton/dual_newton.h"
#include "linpro/known.h"
#include "linpro/lexicographic.h"
#include "simplex/simplex.h"

namespace pyws {
namespace {

constexpr double kMaxScore = 1e300;  // in magnitude, times the row's scale: sums stay finite

struct Rule {
  RowGeometry geometry;
  double margin, upper;
  bool mean, center;
  std::int64_t entry_limit;
};

// A segment as a row of the linear program, scaled so that W is 1 inside and -outer in the margins.
struct Row {
  RowSpans spans;
  double score;         // right-hand side, in the units of the caller
  double scale, outer;  // row = scale x the caller's row

  std::int64_t inside() const { return spans.end - spans.start; }
  std::int64_t outside() const { return spans.right - spans.left - inside(); }
  bool operator<(const Row& other) const {
    const auto key = [](const Row& row) {
      return std::tie(row.spans.left, row.spans.right, row.spans.start, row.spans.end, row.score);
    };
    return key(*this) < key(other);
  }
};

// d^0.9 from a table: pow takes longer than all else that a row needs.
double power(double d) {
  constexpr std::size_t kKnown = 512;
  static const std::vector<double> known = [] {
    std::vector<double> values(kKnown);
    for (std::size_t i = 0; i < kKnown; ++i) values[i] = std::pow(static_cast<double>(i), 0.9);
    return values;
  }();
  return d < kKnown ? known[static_cast<std::size_t>(d)] : std::pow(d, 0.9);
}

Row make_row(const Rule& rule, double start, double end, double score, std::int64_t length) {
  Row row{row_spans(rule.geometry, rule.margin, start, end, length, power), 0.0, 1.0, 1.0};
  if (rule.mean) {
    row.scale = static_cast<double>(max64(row.inside() > 0 ? row.inside() : row.outside(), 1));
    row.outer = row.outside() > 0 ? row.scale / static_cast<double>(row.outside()) : 1.0;
  }
  const double limit = kMaxScore / row.scale;
  row.score = std::isnan(score) ? 0.0 : std::min(std::max(score, -limit), limit);
  return row;
}

struct Answer {
  double objective = 0.0, residual = 0.0, gap = 0.0;
  bool relaxed = false, approximate = false;

  void add(double mass, double missing, double scale) {
    objective += mass;
    residual += missing;
    relaxed |= missing > kLpTolerance * scale;
  }
};

// The classes of one component: runs of snippets of equal columns are one.
class Classes {
 public:
  std::vector<int> of_run;

  // Fills sizes and columns of lp; its rows are those of the component, in order.
  void build(const SnippetRuns& runs, const std::vector<double>& outer, CoupledLp& lp) {
    of_run.clear();
    lp.size.clear();
    lp.row.clear();
    lp.entry.clear();
    lp.first.assign(1, 0);
    lp.own.assign(outer.size(), -1);
    active_.clear();
    buckets_.assign(table_size(runs.edges.size()), -1);
    hashes_.clear();
    std::uint64_t hash = 0;
    std::size_t b = 0;
    for (int run = 0; run < runs.count(); ++run) {
      for (; b < runs.bounds.size() && runs.bounds[b].run == run; ++b) apply(runs.bounds[b].place, hash);
      const int k = find_or_add(outer, hash, lp);
      lp.size[k] += runs.size(run);
      of_run.push_back(k);
    }
  }

 private:
  struct Active {
    int row, sign;
  };

  static std::size_t table_size(std::size_t runs) {
    std::size_t size = 16;
    while (size < 2 * runs) size *= 2;
    return size;
  }

  // A column's hash is the sum of its entries' keys, so that a bound changes it in one addition. Equal hashes are
  // compared entry by entry.
  static std::uint64_t key(int row, int sign) {
    if (sign == 0) return 0;
    std::uint64_t z = (2 * static_cast<std::uint64_t>(row) + (sign > 0 ? 1 : 2)) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  void apply(int place, std::uint64_t& hash) {
    const int row = place / 4, sign = SnippetRuns::sign_after(place);
    hash += key(row, sign) - key(row, SnippetRuns::sign_before(place));
    const auto found = std::lower_bound(active_.begin(), active_.end(), row,
                                        [](const Active& active, int wanted) { return active.row < wanted; });
    if (place % 4 == 0)
      active_.insert(found, {row, sign});
    else if (sign == 0)
      active_.erase(found);
    else
      found->sign = sign;
  }

  bool equal(const CoupledLp& lp, int k) const {
    if (lp.first[k + 1] - lp.first[k] != static_cast<int>(active_.size())) return false;
    for (std::size_t a = 0; a < active_.size(); ++a) {
      const int e = lp.first[k] + static_cast<int>(a);
      if (lp.row[e] != active_[a].row || (lp.entry[e] > 0.0) != (active_[a].sign > 0)) return false;
    }
    return true;
  }

  int find_or_add(const std::vector<double>& outer, std::uint64_t hash, CoupledLp& lp) {
    const std::size_t mask = buckets_.size() - 1;
    std::size_t slot = hash & mask;
    for (; buckets_[slot] >= 0; slot = (slot + 1) & mask)
      if (hashes_[buckets_[slot]] == hash && equal(lp, buckets_[slot])) return buckets_[slot];
    const int k = static_cast<int>(lp.size.size());
    buckets_[slot] = k;
    hashes_.push_back(hash);
    lp.size.push_back(0.0);
    for (const Active& a : active_) {
      lp.row.push_back(a.row);
      lp.entry.push_back(a.sign > 0 ? 1.0 : -outer[a.row]);
    }
    lp.first.push_back(static_cast<int>(lp.row.size()));
    if (active_.size() == 1 && active_[0].sign > 0) lp.own[active_[0].row] = k;
    return k;
  }

  std::vector<Active> active_;  // by rising row
  std::vector<int> buckets_;
  std::vector<std::uint64_t> hashes_;
};

class Group {
 public:
  explicit Group(const Rule& rule) : rule_(rule) {}

  std::vector<Row> rows;
  std::vector<double> lost;  // scores of segments that no snippet can answer for
  KnownLabels known;

  // Components in order of position; `labels` are those of the group, all 0. Returns their number.
  std::int64_t solve(double* labels, Answer& answer) {
    std::sort(lost.begin(), lost.end());
    for (double score : lost) answer.add(0.0, std::fabs(score), std::fabs(score));
    sort_rows();
    std::int64_t components = 0;
    for (std::size_t first = 0; first < rows.size(); ++components) {
      std::size_t last = first + 1;
      std::int64_t reach = rows[first].spans.right;
      for (; last < rows.size() && rows[last].spans.left < reach; ++last)
        reach = std::max(reach, rows[last].spans.right);
      if (last - first == 1)
        solve_lone(rows[first], labels, answer);
      else
        solve_coupled(&rows[first], static_cast<int>(last - first), labels, answer);
      first = last;
    }
    return components;
  }

 private:
  // What is moved about while sorting is short.
  void sort_rows() {
    order_.clear();
    for (std::size_t i = 0; i < rows.size(); ++i) order_.emplace_back(rows[i].spans.left, i);
    std::sort(order_.begin(), order_.end(), [this](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : rows[a.second] < rows[b.second];
    });
    sorted_.clear();
    for (const auto& [left, i] : order_) sorted_.push_back(rows[i]);
    rows.swap(sorted_);
  }

  static void fill(double* labels, std::int64_t begin, std::int64_t end, double value) {
    for (std::int64_t i = begin; i < end; ++i) labels[i] = value;
  }

  // One segment alone: the score spread over the inside, or where it is negative over the margins.
  void solve_lone(const Row& row, double* labels, Answer& answer) const {
    const bool inside = row.score > 0.0;
    const double capacity = static_cast<double>(inside ? row.inside() : row.outside());
    const double wanted = std::fabs(row.score) * (row.scale / (inside ? 1.0 : row.outer));
    const double label = capacity > 0.0 ? std::min(wanted / capacity, rule_.upper) : 0.0;
    if (inside) {
      fill(labels, row.spans.start, row.spans.end, label);
    } else {
      fill(labels, row.spans.left, row.spans.start, label);
      fill(labels, row.spans.end, row.spans.right, label);
    }
    const bool reached = capacity > 0.0 && wanted / capacity <= rule_.upper;
    answer.add(label * capacity, reached ? 0.0 : std::fabs(row.score) * std::max(0.0, 1.0 - label * capacity / wanted),
               std::fabs(row.score));
  }

  void solve_coupled(const Row* component, int count, double* labels, Answer& answer) {
    double scale = 0.0;
    for (int i = 0; i < count; ++i) scale = std::max(scale, std::fabs(component[i].score * component[i].scale));
    if (scale == 0.0) return;  // all scores 0: so are the labels
    program_.runs.build(component, count);
    program_.q.resize(count);
    program_.outer.resize(count);
    program_.upper = rule_.upper / scale;
    weight_.resize(count);
    for (int i = 0; i < count; ++i) {
      program_.q[i] = component[i].score * component[i].scale / scale;
      program_.outer[i] = component[i].outer;
      weight_[i] = 1.0 / component[i].scale;
    }
    const bool solved =
        rule_.entry_limit > 0 && (dual_newton_.solve(program_, rule_.center, label_) || solve_by_simplex());
    if (!solved) {
      lexicographic_.solve(program_, weight_, rule_.center, label_);
      answer.gap += lexicographic_.gap() * scale;
      answer.approximate |= !lexicographic_.certified();
    }
    write_answer(component, count, scale, labels, answer);
  }

  // For what the Newton iteration leaves: rows that contradict each other, a centre without an interior.
  bool solve_by_simplex() {
    const SnippetRuns& runs = program_.runs;
    if (static_cast<std::int64_t>(runs.edges.size()) * program_.rows() > rule_.entry_limit) return false;
    classes_.build(runs, program_.outer, lp_);
    lp_.q = program_.q;
    lp_.weight = weight_;
    lp_.limit.resize(lp_.size.size());
    for (std::size_t k = 0; k < lp_.size.size(); ++k) lp_.limit[k] = lp_.size[k] * program_.upper;
    if (!simplex_.solve(lp_, rule_.center, mass_)) return false;
    label_.resize(classes_.of_run.size());
    for (std::size_t run = 0; run < label_.size(); ++run) {
      const int k = classes_.of_run[run];
      label_[run] = mass_[k] / lp_.size[k];
    }
    return true;
  }

  void write_answer(const Row* component, int count, double scale, double* labels, Answer& answer) {
    const SnippetRuns& runs = program_.runs;
    double total = 0.0, missing = 0.0;
    mass_.resize(runs.edges.size());  // mass of the runs before
    for (int run = 0; run < runs.count(); ++run) {
      mass_[run] = total;
      total += label_[run] * runs.size(run);
      fill(labels, runs.edges[run], runs.edges[run + 1], std::min(label_[run] * scale, rule_.upper));
    }
    mass_.back() = total;
    for (int i = 0; i < count; ++i)
      missing += std::fabs(program_.q[i] - program_.row_sum(i, mass_)) / component[i].scale;
    answer.add(total * scale, missing * scale, scale);
  }

  const Rule& rule_;
  std::vector<std::pair<std::int64_t, std::size_t>> order_;
  std::vector<Row> sorted_;
  RunProgram program_;
  std::vector<double> weight_;  // rows: of what they miss
  DualNewton dual_newton_;
  Classes classes_;
  CoupledLp lp_;
  Simplex simplex_;
  Lexicographic lexicographic_;
  std::vector<double> label_, mass_;
};

}  // namespace

void linpro_cpu(const LinproParams& p, int threads) {
  const std::vector<std::int64_t> offsets = clamped_offsets(p.offsets, p.groups, p.total);
  p.label_offsets[0] = 0;
  for (std::int64_t g = 0; g < p.groups; ++g)
    p.label_offsets[g + 1] = p.label_offsets[g] + min64(max64(p.lengths[g], 0), p.snippets - p.label_offsets[g]);
  if (p.groups == 0) return;
  const Rule rule{p.geometry, p.margin, p.upper, p.rows_mean, p.center, p.entry_limit};
  const auto solve = [&](Group& group, std::int64_t g) {
    group.rows.clear();
    group.lost.clear();
    const std::int64_t length = p.label_offsets[g + 1] - p.label_offsets[g];
    group.known.read(p.known != nullptr ? p.known + p.label_offsets[g] : nullptr, length, rule.upper);
    for (std::int64_t i = offsets[g]; i < offsets[g + 1]; ++i) {
      const Row row = group.known.without(make_row(rule, p.start[i], p.end[i], p.score[i], length));
      if (row.spans.left < row.spans.right)
        group.rows.push_back(row);
      else
        group.lost.push_back(row.score);
    }
    Answer answer;
    std::fill(p.labels + p.label_offsets[g], p.labels + p.label_offsets[g + 1], 0.0);
    p.components[g] = group.solve(p.labels + p.label_offsets[g], answer);
    p.objective[g] = answer.objective + group.known.put_back(p.labels + p.label_offsets[g]);
    p.residual[g] = answer.residual;
    p.gap[g] = answer.gap;
    p.status[g] = offsets[g] == offsets[g + 1] ? kEmpty
                  : answer.approximate         ? kApproximate
                  : answer.relaxed             ? kRelaxed
                                               : kOptimal;
  };
  const double work = 1000.0 * static_cast<double>(offsets[p.groups]) + static_cast<double>(p.label_offsets[p.groups]);
  const std::int64_t workers = min64(threads, p.groups);
  std::atomic<std::int64_t> next{0};  // a group may be a hundred times the work of another: whoever is free takes one
  parallel_for(workers, work / static_cast<double>(workers), threads, [&](std::int64_t, std::int64_t) {
    Group group(rule);
    for (std::int64_t g = next++; g < p.groups; g = next++) solve(group, g);
  });
}

}  // namespace pyws
