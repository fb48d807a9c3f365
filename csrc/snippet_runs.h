// The runs of snippets in which no row of W changes, for the segments of one component: a sweep over their bounds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "snippet_rows.h"

namespace pyws {

struct SnippetRuns {
  // Bound `place % 4` of row place / 4: left, start, end, right. It is where run `run` begins.
  struct Bound {
    std::int64_t at;
    int place, run;
  };

  std::vector<std::int64_t> edges;  // run r covers snippets edges[r] .. edges[r+1]-1
  std::vector<Bound> bounds;        // by rising position, then row, then place

  int count() const { return static_cast<int>(edges.size()) - 1; }
  double size(int run) const { return static_cast<double>(edges[run + 1] - edges[run]); }

  // The sign of a row's entries from its bound on, and before it.
  static int sign_after(int place) { return place % 4 == 1 ? 1 : place % 4 == 3 ? 0 : -1; }
  static int sign_before(int place) { return place % 4 == 0 ? 0 : place % 4 == 2 ? 1 : -1; }

  template <class Rows>
  void build(const Rows* rows, int row_count) {
    bounds.clear();
    for (int i = 0; i < row_count; ++i) {
      const RowSpans& s = rows[i].spans;
      const std::int64_t at[4] = {s.left, s.start, s.end, s.right};
      for (int b = 0; b < 4; ++b) bounds.push_back({at[b], 4 * i + b, 0});
    }
    std::sort(bounds.begin(), bounds.end(),
              [](const Bound& a, const Bound& b) { return a.at != b.at ? a.at < b.at : a.place < b.place; });
    edges.clear();
    for (Bound& bound : bounds) {
      if (edges.empty() || edges.back() != bound.at) edges.push_back(bound.at);
      bound.run = static_cast<int>(edges.size()) - 1;
    }
  }
};

}  // namespace pyws
