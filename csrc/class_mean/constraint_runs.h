// The runs of snippets in which no row of W changes, for the segments of one component: a sweep over their bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "class_mean/constraint_rows.h"

namespace pyws {

struct SnippetRuns {
  // Bound `place % 4` of row place / 4: left, start, end, right. It is where run `run` begins.
  struct Bound {
    std::int64_t at;
    int place, run;
  };

  std::vector<std::int64_t> edges;  // run r covers snippets edges[r] .. edges[r+1]-1
  std::vector<Bound> bounds;        // by rising position, then row, then place
  std::vector<int> run_of;          // place -> the run that begins there

  int count() const { return static_cast<int>(edges.size()) - 1; }
  double size(int run) const { return static_cast<double>(edges[run + 1] - edges[run]); }

  // The sign of a row's entries from its bound on, and before it.
  static int sign_after(int place) { return place % 4 == 1 ? 1 : place % 4 == 3 ? 0 : -1; }
  static int sign_before(int place) { return place % 4 == 0 ? 0 : place % 4 == 2 ? 1 : -1; }

  // Of rows by rising `left`: a row's bounds pass only those of rows that it overlaps.
  template <class Rows>
  void build(const Rows* rows, int row_count) {
    bounds.resize(4 * static_cast<std::size_t>(row_count));
    run_of.resize(bounds.size());
    for (int i = 0; i < row_count; ++i) {
      const RowSpans& s = rows[i].spans;
      const std::int64_t at[4] = {s.left, s.start, s.end, s.right};
      Bound *known = bounds.data() + 4 * i, *free = known + 4;  // ends of what is merged
      for (int b = 4; b-- > 0; *--free = {at[b], 4 * i + b, 0})
        while (known > bounds.data() && known[-1].at > at[b]) *--free = *--known;
    }
    edges.clear();
    for (Bound& bound : bounds) {
      if (edges.empty() || edges.back() != bound.at) edges.push_back(bound.at);
      bound.run = run_of[bound.place] = static_cast<int>(edges.size()) - 1;
    }
  }
};

}  // namespace pyws
