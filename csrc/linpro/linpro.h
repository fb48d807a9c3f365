// linpro: snippet labels from scored segments by linear programming (GauFuse eq. 5-6).
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
// start .. score (total,) float64, offsets (groups+1,), lengths (groups,) snippets
// known          null, or (snippets,) float64 labels that are fixed, NaN where a label is free: constraints g_s = known_s
//                that always hold, see known.h; negative ones count as 0, those above upper as upper
// labels         (snippets,) float64, the sum of lengths; 0 where no segment reaches and nothing is known
// label_offsets  (groups+1,) of the labels
// objective      (groups,) sum g of the answer;  residual (groups,) l1, in the units of the scores
// gap            (groups,) by how much residual and sum may exceed the least, by duality: of the components that only
//                lexicographic.h solved, rounding unless the status is kApproximate, and there of limited masses
// status         (groups,) LinproStatus;  components (groups,) parts that share no snippet
// left           (groups,) 1 where CUDA left a component of the group to the CPU: the group's answer is of no use. 0 on
//                the CPU
// scratch, memory   CUDA alone: linpro_scratch(total, groups) numbers, and kWarpMemory numbers for each of `warps`
//                warps, linpro_warps(total) of them
//
// How        snippets with equal columns of W are one variable; segments that share no snippet do not meet; one segment
//            alone has a closed form; what couples goes to dual_newton.h; where that gives no certificate, as for rows
//            that contradict each other, to simplex.h, up to entry_limit entries of a tableau; what is left, to
//            lexicographic.h, which always answers; with entry_limit 0 all that couples.
// CUDA       components of one segment, and those that dual_newton.h solves in the memory of a warp; known is null.
// Order      the segments of a component are sorted by position and score before anything is computed: the same bits
//            for any order of the segments, any batch composition and any number of threads, and on CUDA, but that its
//            d^0.9 (released rows) may round otherwise.
// Contents   any: offsets and lengths are read once and clamped, spans are clipped to the snippets that exist, scores
//            count up to 1e300 in magnitude, NaN as 0. Always an answer, never NaN.
// Empty      no segments: what is known, zeros elsewhere, and kEmpty. length 0: the residual is the sum of |q|.
#pragma once

#include <cstdint>

#include "class_mean/constraint_rows.h"
#include "common/params.h"

namespace pyws {

constexpr double kLpTolerance = 1e-9;  // what a row may miss where the greatest score of its component is 1

enum LinproStatus : std::int64_t { kOptimal = 0, kRelaxed = 1, kEmpty = 2, kApproximate = 3 };

struct LinproParams {
  const double *start, *end, *score;
  const std::int64_t *offsets, *lengths;
  Optional<const double> known;
  std::int64_t groups, total, snippets;  // capacity of the outputs: segments and labels
  RowGeometry geometry;
  double margin, upper;
  bool rows_mean, center;
  std::int64_t entry_limit;
  double* labels;
  std::int64_t* label_offsets;
  double *objective, *residual, *gap;
  std::int64_t *status, *components;
  std::uint8_t* left;
  Optional<std::int64_t> scratch;
  Optional<double> memory;
  std::int64_t warps;
  PYWS_FIELDS(start, end, score, offsets, lengths, known, groups, total, snippets, geometry, margin, upper, rows_mean,
              center, entry_limit, labels, label_offsets, objective, residual, gap, status, components, left, scratch,
              memory, warps)
};

void linpro_cpu(const LinproParams& p, int threads);
void linpro_cuda(const LinproParams& p, void* stream);

constexpr std::int64_t kWarpMemory = 1 << 14;  // in float64

inline std::int64_t linpro_warps(std::int64_t total) { return max64(1, min64(total, 1024)); }
inline std::int64_t linpro_scratch(std::int64_t total, std::int64_t groups) { return 22 * total + groups + 3; }

}  // namespace pyws
