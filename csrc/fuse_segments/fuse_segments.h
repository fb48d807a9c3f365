// fuse_segments: Gaussian weighted fusion of GauFuse (eq. 1-4), and plain suppression from the same greedy walk.
//
// The walk, in each group: the best candidate left is the seed; candidates that overlap it by more than the threshold
// are its members (the seed always is) and leave with it; and so on until none is left.
//   fuse      a cluster becomes one segment: start, end, score and weight each become the location of a distribution
//             fitted to the members under the weights g = exp((w - max w) / temperature)
//             or, signed, as released: sum(g x) / sum(sign(w) g), summed from the seed on and then by rising score, one
//             by one, g = exp(w / temperature) to the last bit: ends that int() cuts afterwards depend on it. Where the
//             signs cancel to nothing the divisor is sum(g); max w is subtracted where exp would leave its range
//   suppress  the seeds stay, in the order picked; or, soft, nothing leaves: scores fall by exp(-overlap^2 / sigma)
//
// start, end, score, weight   (total,) float64 each, finite, end >= start
// offsets   (groups+1,) int64; group g owns offsets[g] .. offsets[g+1]-1; read clamped to 0..total
// scratch   fuse_segments_scratch(total, groups) float64: what the walk works on, then FuseKept
// packed    (4, total) float64, of which (4, n) is written without gaps, n = packed_offsets[groups]: the rows
//           start, end, score, weight of the answer
// packed_offsets   (groups+1,) int64: the groups of the answer
// membership       (total,) int64: the fused segment that took the candidate
// index            (total,) int64, of which (n,) is written: where each kept segment stood in the input
// Ties      equal scores: the lowest index; equal fused scores: the cluster picked first.
// Sums      (but the signed) over members in rising order, member r in lane r % 8, the lanes in a tree: the same bits
//           on CPU and CUDA
// Contents  finite numbers are the contract; anything else gives unspecified values, never a bad access or a hang
// Empty     a group without candidates gives none
#pragma once

#include <limits>

#include "common/params.h"
#include "common/ragged.h"
#include "common/segment_rows.h"
#include "fuse_segments/exact_exp.h"

namespace pyws {

enum Overlap : int { kOverlapIou, kOverlapOwn };
PYWS_NAMES(Overlap, "iou", "own")
enum Distribution : int { kGaussian, kUniform, kExponential, kStudent, kSigned };
PYWS_NAMES(Distribution, "gaussian", "uniform", "exponential", "t", "signed")
constexpr int kFuseRows = kSegmentRows;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kFuseBlock = 16;  // candidates that the CPU's walk tests together
constexpr int kFuseLanes = 8;

struct FuseParams {
  const double *start, *end, *score, *weight;
  const std::int64_t* offsets;
  std::int64_t groups, total;
  Overlap overlap;
  double iou_threshold;
  Distribution distribution;
  double temperature, dof;
  double *scratch, *packed;
  std::int64_t *packed_offsets, *membership;
  PYWS_FIELDS(start, end, score, weight, offsets, groups, total, overlap, iou_threshold, distribution, temperature, dof,
              scratch, packed, packed_offsets, membership)
};
void fuse_segments_cpu(const FuseParams& params, int threads);
void fuse_segments_cuda(const FuseParams& params, void* stream);

// sigma = 0 is hard suppression. The scores in packed are those at which segments were picked.
struct SuppressParams {
  const double *start, *end, *score, *weight;
  const std::int64_t* offsets;
  std::int64_t groups, total;
  Overlap overlap;
  double iou_threshold, sigma, min_score;
  double *scratch, *packed;
  std::int64_t *packed_offsets, *index;
  PYWS_FIELDS(start, end, score, weight, offsets, groups, total, overlap, iou_threshold, sigma, min_score, scratch,
              packed, packed_offsets, index)
};
void suppress_segments_cpu(const SuppressParams& params, int threads);
void suppress_segments_cuda(const SuppressParams& params, void* stream);

// An index read back from scratch. Where offsets fall, groups overlap and may overwrite each other's: keep it inside.
PYWS_HD std::int64_t within(std::int64_t index, std::int64_t size) { return max64(0, min64(index, size - 1)); }

PYWS_HD double lower(double a, double b) { return a < b ? a : b; }
PYWS_HD double higher(double a, double b) { return a > b ? a : b; }

// The scratch has kWalkRows numbers for each of the walk's places, a place a candidate and kFuseBlock more a group.
constexpr int kWalkRows = 13;

PYWS_HD std::int64_t walk_places(std::int64_t total, std::int64_t groups) { return total + kFuseBlock * groups; }

// The last part of the scratch, of each group from its own offset on, in the order of the seeds.
struct FuseKept {
  double* fused;        // (kFuseRows, total); of suppression the first row alone, the scores kept
  std::int64_t* order;  // (total,): in which they are packed
};

PYWS_HD FuseKept fuse_kept(double* scratch, std::int64_t groups, std::int64_t total) {
  double* fused = scratch + kWalkRows * walk_places(total, groups);
  return {fused, reinterpret_cast<std::int64_t*>(fused + kFuseRows * total)};
}

PYWS_HD std::int64_t fuse_segments_scratch(std::int64_t total, std::int64_t groups) {
  return kWalkRows * walk_places(total, groups) + (kFuseRows + 1) * total;
}

// How much of the candidate [start, end) the seed covers: intersection over union, or (the released rule, on inclusive
// ends) over the candidate's own area. Two empty segments give NaN, which passes no threshold.
PYWS_HD double overlap_with(Overlap rule, double start, double end, double seed_start, double seed_end) {
  const double one = rule == kOverlapOwn ? 1.0 : 0.0;
  const double shared = higher(0.0, lower(end, seed_end) - higher(start, seed_start) + one);
  const double own = end - start + one;
  return shared / (rule == kOverlapOwn ? own : own + (seed_end - seed_start) - shared);
}

// exp(x) for x <= 0, within 1 ulp, 0 below -708. The library's exp is neither vectorised nor the same on CPU and CUDA.
PYWS_HD double exp_nonpositive(double x) {
  const double rounder = 6755399441055744.0;  // 1.5 * 2^52: what is added to it is rounded to an integer
  const double bounded = higher(lower(x, 0.0), -708.0);
  const double shifted = bounded * 1.4426950408889634 + rounder;
  const double powers = shifted - rounder;
  const double r = bounded - powers * 6.93147180369123816490e-01 - powers * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;  // Taylor of degree 13: below 1e-17 for |r| <= ln(2) / 2
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const std::uint64_t exponent = bit_cast<std::uint64_t>(shifted) << 52;
  return x >= -708.0 ? bit_cast<double>(bit_cast<std::uint64_t>(p) + exponent) : 0.0;
}

// Orders doubles as integers, NaN included, and back; both zeros are one.
PYWS_HD std::int64_t sort_key(double x) {
  const std::int64_t bits = bit_cast<std::int64_t>(x + 0.0);
  return bits < 0 ? bits ^ INT64_MAX : bits;
}
PYWS_HD double from_sort_key(std::int64_t key) { return bit_cast<double>(key < 0 ? key ^ INT64_MAX : key); }

// The score of a candidate after a segment that overlaps it was picked (soft suppression).
PYWS_HD double decayed(double score, double overlap, double sigma) {
  return score * exp_nonpositive(overlap > 0.0 ? -(overlap * overlap) / sigma : 0.0);
}

// Weights of a weighted median, as integers: their sums are exact in any order, so that every device finds the same.
PYWS_HD std::int64_t median_weight(double g) { return static_cast<std::int64_t>(g * 1099511627776.0); }

// What the signed rule subtracts from all weights before exp: nothing, as released, where exp stays within its range.
PYWS_HD double signed_origin(double highest, double temperature) {
  const double exponent = highest / temperature;
  return exponent > -700.0 && exponent < 700.0 ? 0.0 : highest;
}

// The signed rule, member by member.
struct SignedMean {
  double moment, divisor, whole;
};

PYWS_HD SignedMean add_signed(SignedMean sums, double x, double weight, double g) {
  return {sums.moment + g * x, sums.divisor + (weight > 0.0 ? g : weight < 0.0 ? -g : 0.0), sums.whole + g};
}
PYWS_HD double signed_value(SignedMean sums) { return sums.moment / (sums.divisor != 0.0 ? sums.divisor : sums.whole); }

// Student's t: the share of a member at distance x - m, and when its iteration rests.
constexpr double kVarianceFloor = 1e-6;
constexpr double kStudentTolerance = 1e-12;
constexpr int kStudentSteps = 50;

PYWS_HD double student_share(double x, double m, double variance, double dof) {
  return (dof + 1.0) / (dof + (x - m) * (x - m) / variance);
}
PYWS_HD bool student_settled(double step, double variance, double variance_before) {
  const double moved = variance - variance_before;
  return step * step <= kStudentTolerance * kStudentTolerance * variance &&
         (moved < 0 ? -moved : moved) <= kStudentTolerance * variance;
}

}  // namespace pyws
