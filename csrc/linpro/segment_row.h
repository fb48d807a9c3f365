// What a component of segments comes to, on one thread or a warp: its rows, the closed form of one alone, the scaled
// program of several and the answer from its labels.
#pragma once

#include "class_mean/constraint_rows.h"
#include "dual_newton/dual_newton.h"
#include "linpro/linpro.h"

namespace pyws {

constexpr double kMaxScore = 1e300;  // in magnitude, times the row's scale: sums stay finite

// A segment as a row of the linear program, scaled so that W is 1 inside and -outer in the margins.
struct Row {
  RowSpans spans;
  double score;         // right-hand side, in the units of the caller
  double scale, outer;  // row = scale x the caller's row

  PYWS_TEAM std::int64_t inside() const { return spans.end - spans.start; }
  PYWS_TEAM std::int64_t outside() const { return spans.right - spans.left - inside(); }
  PYWS_TEAM bool is_empty() const { return spans.left >= spans.right; }  // no snippet can answer for its score
};

// Empty rows first, by rising score; then by position and score.
PYWS_HD bool operator<(const Row& a, const Row& b) {
  const bool empty = a.spans.left >= a.spans.right;
  if (empty != (b.spans.left >= b.spans.right)) return empty;
  if (!empty) {
    if (a.spans.left != b.spans.left) return a.spans.left < b.spans.left;
    if (a.spans.right != b.spans.right) return a.spans.right < b.spans.right;
    if (a.spans.start != b.spans.start) return a.spans.start < b.spans.start;
    if (a.spans.end != b.spans.end) return a.spans.end < b.spans.end;
  }
  return a.score < b.score;
}

PYWS_HD Row make_row(const RowSpans& spans, bool mean, double score) {
  const std::int64_t inside = spans.end - spans.start, outside = spans.right - spans.left - inside;
  Row row{spans, 0.0, 1.0, 1.0};
  if (mean) {
    row.scale = static_cast<double>(max64(inside > 0 ? inside : outside, 1));
    row.outer = outside > 0 ? row.scale / static_cast<double>(outside) : 1.0;
  }
  const double limit = kMaxScore / row.scale;
  row.score = score != score ? 0.0 : score < -limit ? -limit : score > limit ? limit : score;
  return row;
}

// What a component adds to the answer of its group.
struct Share {
  double mass, missing, scale;

  PYWS_TEAM bool is_relaxed() const { return missing > kLpTolerance * scale; }
};

PYWS_HD Share share_of_empty(const Row& row) { return {0.0, fabs(row.score), fabs(row.score)}; }

template <class Team>
PYWS_TEAM void fill_labels(const Team& team, double* labels, std::int64_t begin, std::int64_t end, double value) {
  team.each(static_cast<int>(end - begin), [&](int i) { labels[begin + i] = value; });
}

// One segment alone: the score spread over the inside, or where it is negative over the margins.
template <class Team>
PYWS_TEAM Share solve_lone(const Team& team, const Row& row, double upper, double* labels) {
  const bool inside = row.score > 0.0;
  const double capacity = static_cast<double>(inside ? row.inside() : row.outside());
  const double wanted = fabs(row.score) * (row.scale / (inside ? 1.0 : row.outer));
  const double label = capacity > 0.0 ? least_of(wanted / capacity, upper) : 0.0;
  if (inside) {
    fill_labels(team, labels, row.spans.start, row.spans.end, label);
  } else {
    fill_labels(team, labels, row.spans.left, row.spans.start, label);
    fill_labels(team, labels, row.spans.end, row.spans.right, label);
  }
  const bool reached = capacity > 0.0 && wanted / capacity <= upper;
  const double missing = reached ? 0.0 : fabs(row.score) * most_of(0.0, 1.0 - label * capacity / wanted);
  return {label * capacity, missing, fabs(row.score)};
}

// The greatest score of a component, in magnitude and in the units of its rows.
template <class Team>
PYWS_TEAM double scale_of(const Team& team, const Row* component, int count) {
  double scale = 0.0;
  for (int i = team.lane(); i < count; i += Team::kLanes)
    scale = most_of(scale, fabs(component[i].score * component[i].scale));
  return team.greatest(scale);
}

// The program of a component, in units in which the greatest score is 1. False: the team's memory is too small.
template <class Team>
PYWS_TEAM bool build_program(Team& team, const Row* component, int count, double scale, double upper,
                             RunProgram<Team>& program) {
  if (!program.runs.build(team, component, count)) return false;
  team.resize(program.q, count);
  team.resize(program.outer, count);
  program.upper = upper / scale;
  if (!team.fits()) return false;
  team.each(count, [&](int i) {
    program.q[i] = component[i].score * component[i].scale / scale;
    program.outer[i] = component[i].outer;
  });
  return true;
}

// Writes the labels from those of the runs. mass: scratch of the masses of the runs before each.
template <class Team, class Doubles>
PYWS_TEAM Share write_answer(const Team& team, const Row* component, double scale, double upper,
                             const RunProgram<Team>& program, const Doubles& label, Doubles& mass, double* labels) {
  const SnippetRuns<Team>& runs = program.runs;
  const double total = team.in_order([&] {
    double sum = 0.0;
    for (int run = 0; run < runs.run_count; ++run) {
      mass[run] = sum;
      sum += label[run] * runs.size(run);
    }
    mass[runs.run_count] = sum;
    return sum;
  });
  for (int run = 0; run < runs.run_count; ++run)
    fill_labels(team, labels, runs.edges[run], runs.edges[run + 1], least_of(label[run] * scale, upper));
  const double missing = team.in_order([&] {
    double sum = 0.0;
    for (int i = 0; i < program.rows(); ++i) sum += fabs(program.q[i] - program.row_sum(i, mass)) / component[i].scale;
    return sum;
  });
  return {total * scale, missing * scale, scale};
}

}  // namespace pyws
