// linpro: snippet labels from scored segments by linear programming (GauFuse eq. 5-6). CPU only.
//
// For one group (a video and a class) with n segments of scores q over l snippets:
//
//   minimise sum g   subject to   W g = q,  0 <= g <= upper          W: constraint_rows.h
//
// and, in this order, (1) the least l1 residual |q - W g|, zero where the constraints can be met, (2) the least sum of
// g among those, (3) the tie-break: least sum of squares of g, which is unique ("canonical"), or the analytic centre of
// what (2) leaves ("center": most sum of log g + log(upper - g)).
//
// rows_mean      false: W holds +1 and -1; true: a row is the mean inside minus the mean over its margins
// start .. score (N,) float64, offsets (groups+1,), lengths (groups,) snippets
// labels         (sum of lengths,) float64, 0 where no segment reaches; never NaN for finite scores
// label_offsets  (groups+1,) of the labels
// objective      (groups,) sum g of the answer;  residual (groups,) l1, in the units of the scores
// status         (groups,) LinproStatus;  components (groups,) parts that share no snippet
// unsolved       (N,) -1, or the number within its group of the component that is left to the caller: one of more than
//                entry_limit tableau entries, or whose certificate failed. Its labels stay 0, and objective, residual
//                and status leave it out.
// left_over      (groups,) such components; their sum is returned
//
// How        snippets with equal columns of W are one variable; segments that share no snippet do not meet; one segment
//            alone has a closed form; what couples goes to dual_newton.h, and where that gives no certificate, as
//            for rows that contradict each other, to the simplex of simplex.h.
// Order      the segments of a component are sorted by position and score before anything is computed: the same bits
//            for any order of the segments, any batch composition and any number of threads.
// Contents   any; spans are clipped to the snippets that exist. offsets are read once and clamped.
// Empty      no segments: zeros and kEmpty. length 0: the residual is the sum of |q|.
#pragma once

#include <cstdint>

#include "class_mean/constraint_rows.h"
#include "common/params.h"

namespace pyws {

enum LinproStatus : std::int64_t { kOptimal = 0, kRelaxed = 1, kEmpty = 2 };

struct LinproParams {
  const double *start, *end, *score;
  const std::int64_t *offsets, *lengths;
  std::int64_t groups, total, snippets;  // segments and labels that there is room for
  RowGeometry geometry;
  double margin, upper;
  bool rows_mean, center;
  std::int64_t entry_limit;
  double* labels;
  std::int64_t* label_offsets;
  double *objective, *residual;
  std::int64_t *status, *components, *unsolved, *left_over;
  PYWS_FIELDS(start, end, score, offsets, lengths, groups, total, snippets, geometry, margin, upper, rows_mean, center,
              entry_limit, labels, label_offsets, objective, residual, status, components, unsolved, left_over)
};

std::int64_t linpro_cpu(const LinproParams& p, int threads);

// The spans of every row, for the caller's own solver: spans (N, 4) int64, see RowSpans.
struct LinproRowsParams {
  const double *start, *end;
  const std::int64_t *offsets, *lengths;
  std::int64_t groups, total;
  RowGeometry geometry;
  double margin;
  std::int64_t* spans;
  PYWS_FIELDS(start, end, offsets, lengths, groups, total, geometry, margin, spans)
};

void linpro_rows_cpu(const LinproRowsParams& p, int threads);

}  // namespace pyws
