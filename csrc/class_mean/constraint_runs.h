// The runs of snippets in which no row of W changes, for the segments of one component: a sweep over their bounds.
#pragma once

#include <cstddef>
#include <cstdint>

#include "class_mean/constraint_rows.h"
#include "common/team.h"

namespace pyws {

// Bound `place % 4` of row place / 4: left, start, end, right. It is where run `run` begins.
struct RunBound {
  std::int64_t at;
  int place, run;
};

template <class Team>
struct SnippetRuns {
  template <class T>
  using Array = typename Team::template Array<T>;

  Array<std::int64_t> edges;  // run r covers snippets edges[r] .. edges[r+1]-1
  Array<RunBound> bounds;     // by rising position, then row, then place
  Array<int> run_of;          // place -> the run that begins there
  int bound_count, run_count;

  PYWS_TEAM double size(int run) const { return static_cast<double>(edges[run + 1] - edges[run]); }

  // The sign of a row's entries from its bound on, and before it.
  PYWS_TEAM static int sign_after(int place) { return place % 4 == 1 ? 1 : place % 4 == 3 ? 0 : -1; }
  PYWS_TEAM static int sign_before(int place) { return place % 4 == 0 ? 0 : place % 4 == 2 ? 1 : -1; }

  // Of rows by rising `left`: a row's bounds pass only those of rows that it overlaps. False: the team's memory is too
  // small.
  template <class Rows>
  PYWS_TEAM bool build(Team& team, const Rows* rows, int row_count) {
    bound_count = 4 * row_count;
    team.resize(bounds, bound_count);
    team.resize(run_of, bound_count);
    team.resize(edges, bound_count);
    if (!team.fits()) return false;
    run_count = team.in_order([&] {
      for (int i = 0; i < row_count; ++i) insert(rows[i].spans, i);
      int runs = -1;
      for (int b = 0; b < bound_count; ++b) {
        if (b == 0 || edges[runs] != bounds[b].at) edges[++runs] = bounds[b].at;
        bounds[b].run = run_of[bounds[b].place] = runs;
      }
      return runs;
    });
    return true;
  }

 private:
  PYWS_TEAM void insert(const RowSpans& spans, int row) {
    const std::int64_t at[4] = {spans.left, spans.start, spans.end, spans.right};
    RunBound *known = bounds.data() + 4 * row, *free = known + 4;  // ends of what is merged
    for (int b = 4; b-- > 0; *--free = {at[b], 4 * row + b, 0})
      while (known > bounds.data() && known[-1].at > at[b]) *--free = *--known;
  }
};

}  // namespace pyws
