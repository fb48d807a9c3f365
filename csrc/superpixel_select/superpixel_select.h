// superpixel_select: refine masks and class maps by whole superpixels (WS^2 Alg. 2).
//
//   select: superpixel p passes iff overlap(p, mask) > alpha and |p| / pixels < beta; refined = union of those that pass
//   vote:   table[p,c] = pixels of p with class c; the winner is the most frequent class of 1..classes-1; p takes it iff
//           table[p,winner] / |p| > alpha, else class 0
//
// labels        (batch, pixels) int32 or int64, any values: a label outside [0, superpixels) belongs to no superpixel
// mask          (batch, pixels) bytes, zero or not; refined likewise, 0 or 1
// classes       (batch, pixels) uint8, int32 or int64; one outside [0, num_classes) votes for nothing, but its pixel
//               counts in |p|; refined has its type
// counts        (2, batch, superpixels): the area |p|, then the intersection |p & mask|
// area, table   (batch, superpixels) and (batch, superpixels, num_classes), of the vote
// passes        scratch of CUDA, (batch, superpixels) bytes: does p pass
// winner        (batch, superpixels): the class that p takes, 0 where it takes none
// summary       (batch, kSummary), see SuperpixelSummary
// Zeroed        by the caller: counts, area, table, summary
// Decisions     on int64 counts and float64 ratios, both strict; ties of classes go to the lowest. Counts are exact, so
//               every output is the same for any number of threads, batch composition, instruction set and device.
// Empty         batch = 0 or pixels = 0: counts are zero, masks empty. pixels < 2^31.
#pragma once

#include <cstdint>

#include "common/params.h"
#include "components/pixel_runs.h"

namespace pyws {

enum MaskOverlap : int { kOfSuperpixel, kOfUnion, kOfSmaller };
PYWS_NAMES(MaskOverlap, "superpixel", "iou", "min")

enum SuperpixelSummary : int {
  kUsed,     // the highest label below `superpixels`, plus one
  kOutside,  // pixels whose label is outside
  kUnknown,  // pixels whose class is outside and not `ignored`; 0 of select
  kSummary
};

struct SelectParams {
  Array<const void> labels;
  const std::uint8_t* mask;
  std::int64_t batch, pixels, superpixels;
  double alpha, beta;
  MaskOverlap overlap;
  std::int64_t* counts;
  std::uint8_t *passes, *refined;
  std::int64_t* summary;
  PYWS_FIELDS(labels, mask, batch, pixels, superpixels, alpha, beta, overlap, counts, passes, refined, summary)
};
void superpixel_select_cpu(const SelectParams& params, int threads);
void superpixel_select_cuda(const SelectParams& params, void* stream);

struct VoteParams {
  Array<const void> labels, classes;
  std::int64_t batch, pixels, superpixels, num_classes, ignored;
  double alpha;
  std::int64_t *area, *table, *winner;
  Array<void> refined;
  std::int64_t* summary;
  PYWS_FIELDS(labels, classes, batch, pixels, superpixels, num_classes, ignored, alpha, area, table, winner, refined,
              summary)
};
void superpixel_vote_cpu(const VoteParams& params, int threads);
void superpixel_vote_cuda(const VoteParams& params, void* stream);

// Ratios are divided, not multiplied out: the quotient of two integers is rounded once, so a ratio that equals alpha as
// written (55 of 100 and 0.55) compares equal.
PYWS_HD double ratio(std::int64_t part, std::int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

PYWS_HD bool superpixel_passes(std::int64_t area, std::int64_t intersection, std::int64_t mask_area,
                               std::int64_t pixels, double alpha, double beta, MaskOverlap overlap) {
  if (area == 0 || intersection == 0) return false;
  const std::int64_t whole = overlap == kOfSuperpixel ? area
                             : overlap == kOfUnion    ? area + mask_area - intersection
                                                      : min64(area, mask_area);
  return ratio(intersection, whole) > alpha && ratio(area, pixels) < beta;
}

// The most frequent class of a superpixel so far; of equally frequent ones the lowest.
struct Votes {
  std::int64_t count, kind;
};

PYWS_HD Votes max_votes(Votes a, Votes b) {
  return b.count > a.count || (b.count == a.count && b.kind < a.kind) ? b : a;
}

PYWS_HD std::int64_t accepted_class(Votes best, std::int64_t area, double alpha) {
  return best.count > 0 && ratio(best.count, area) > alpha ? best.kind : 0;
}

}  // namespace pyws
