#include "linpro/linpro.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

#include "class_mean/constraint_rows.h"
#include "common/parallel.h"
#include "common/ragged.h"
#include "dual_newton/dual_newton.h"
#include "linpro/known.h"
#include "linpro/lexicographic.h"
#include "linpro/segment_row.h"
#include "simplex/simplex.h"

namespace pyws {
namespace {

using Runs = SnippetRuns<OneThread>;

struct Rule {
  RowGeometry geometry;
  double margin, upper;
  bool mean, center;
  std::int64_t entry_limit;
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
  return make_row(row_spans(rule.geometry, rule.margin, start, end, length, power), rule.mean, score);
}

struct Answer {
  double objective = 0.0, residual = 0.0, gap = 0.0;
  bool relaxed = false, approximate = false;

  void add(const Share& share) {
    objective += share.mass;
    residual += share.missing;
    relaxed |= share.is_relaxed();
  }
};

// The classes of one component: runs of snippets of equal columns are one.
class Classes {
 public:
  std::vector<int> of_run;

  // Fills sizes and columns of lp; its rows are those of the component, in order.
  void build(const Runs& runs, const std::vector<double>& outer, CoupledLp& lp) {
    of_run.clear();
    lp.size.clear();
    lp.row.clear();
    lp.entry.clear();
    lp.first.assign(1, 0);
    lp.own.assign(outer.size(), -1);
    active_.clear();
    buckets_.assign(table_size(runs.run_count + 1), -1);
    hashes_.clear();
    std::uint64_t hash = 0;
    std::size_t b = 0;
    for (int run = 0; run < runs.run_count; ++run) {
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

  static std::size_t table_size(int runs) {
    std::size_t size = 16;
    while (size < 2 * static_cast<std::size_t>(runs)) size *= 2;
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
    const int row = place / 4, sign = Runs::sign_after(place);
    hash += key(row, sign) - key(row, Runs::sign_before(place));
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
  explicit Group(const Rule& rule) : rule_(rule), dual_newton_(team_) {}

  std::vector<Row> rows;
  KnownLabels known;

  // Components in order of position; `labels` are those of the group, all 0. Returns their number.
  std::int64_t solve(double* labels, Answer& answer) {
    sort_rows();
    std::size_t first = 0;
    for (; first < rows.size() && rows[first].is_empty(); ++first) answer.add(share_of_empty(rows[first]));
    std::int64_t components = 0;
    for (; first < rows.size(); ++components) {
      std::size_t last = first + 1;
      std::int64_t reach = rows[first].spans.right;
      for (; last < rows.size() && rows[last].spans.left < reach; ++last)
        reach = std::max(reach, rows[last].spans.right);
      if (last - first == 1)
        answer.add(solve_lone(team_, rows[first], rule_.upper, labels));
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
    for (std::size_t i = 0; i < rows.size(); ++i) order_.emplace_back(rows[i].is_empty() ? -1 : rows[i].spans.left, i);
    std::sort(order_.begin(), order_.end(), [this](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : rows[a.second] < rows[b.second];
    });
    sorted_.clear();
    for (const auto& [left, i] : order_) sorted_.push_back(rows[i]);
    rows.swap(sorted_);
  }

  void solve_coupled(const Row* component, int count, double* labels, Answer& answer) {
    const double scale = scale_of(team_, component, count);
    if (scale == 0.0) return;  // all scores 0: so are the labels
    build_program(team_, component, count, scale, rule_.upper, program_);
    const std::vector<double>* label = &label_;
    if (rule_.entry_limit > 0 && dual_newton_.solve(program_, rule_.center)) {
      label = &dual_newton_.label();
    } else {
      weight_.resize(count);
      for (int i = 0; i < count; ++i) weight_[i] = 1.0 / component[i].scale;
      if (!solve_by_simplex()) {
        lexicographic_.solve(program_, weight_, rule_.center, label_);
        answer.gap += lexicographic_.gap() * scale;
        answer.approximate |= !lexicographic_.certified();
      }
    }
    mass_.resize(program_.runs.run_count + 1);
    answer.add(write_answer(team_, component, scale, rule_.upper, program_, *label, mass_, labels));
  }

  // For what the Newton iteration leaves: rows that contradict each other, a centre without an interior.
  bool solve_by_simplex() {
    const Runs& runs = program_.runs;
    if (static_cast<std::int64_t>(runs.run_count + 1) * program_.rows() > rule_.entry_limit) return false;
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

  const Rule& rule_;
  OneThread team_;
  std::vector<std::pair<std::int64_t, std::size_t>> order_;
  std::vector<Row> sorted_;
  RunProgram<OneThread> program_;
  std::vector<double> weight_;  // rows: of what they miss
  DualNewton<OneThread> dual_newton_;
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
    const std::int64_t length = p.label_offsets[g + 1] - p.label_offsets[g];
    group.known.read(p.known != nullptr ? p.known + p.label_offsets[g] : nullptr, length, rule.upper);
    for (std::int64_t i = offsets[g]; i < offsets[g + 1]; ++i)
      group.rows.push_back(group.known.without(make_row(rule, p.start[i], p.end[i], p.score[i], length)));
    Answer answer;
    std::fill(p.labels + p.label_offsets[g], p.labels + p.label_offsets[g + 1], 0.0);
    p.components[g] = group.solve(p.labels + p.label_offsets[g], answer);
    p.objective[g] = answer.objective + group.known.put_back(p.labels + p.label_offsets[g]);
    p.residual[g] = answer.residual;
    p.gap[g] = answer.gap;
    p.left[g] = 0;
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
