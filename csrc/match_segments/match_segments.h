// match_segments: detections against ground truth, for every temporal IoU threshold in one pass.
//
// A group is one pair of a class and a video; class c owns the groups class_offsets[c] .. class_offsets[c+1]-1.
// Within a class the predictions are taken by falling score. Each takes, at each threshold on its own, the free truth
// segment of its group with the largest IoU that is >= the threshold; that one is then no longer free at that
// threshold. AP is the area under the precision envelope (PASCAL VOC 2010 and later).
//
// start, end, score       (predictions,); offsets (groups+1,) of their groups
// truth_start, truth_end  (truths,) ground truth; truth_offsets (groups+1,)
// class_offsets           (classes+1,) of the groups
// thresholds              (K,), K <= kMatchThresholds, in any order
// scratch                 match_segments_scratch(predictions, truths) numbers
// hit                     (predictions, K) 1 where the prediction is a true positive at the threshold, else 0
// order                   (predictions,) the predictions of class 0 by falling score, then those of class 1, ...
// ap                      (classes, K) in [0, 1]
//
// Contents  any: offsets are clamped to what there is; the CPU reads them once and takes falling ones as flat
// Ties      equal scores, -0 and 0 included: the lower index first; equal IoU: the lower index first
// Empty     a union of length 0 has IoU 0; a class without predictions has AP 0; a class without truth has AP NaN
// NaN       a NaN coordinate matches nothing; a NaN score ranks first (positive) or last (negative)
// Sums      of AP from the last hit to the first: same bits for any number of threads, and on CUDA
#pragma once

#include <cstdint>

#include "common/params.h"

namespace pyws {

constexpr int kMatchThresholds = 64;

struct MatchParams {
  const double *start, *end, *score;
  const std::int64_t* offsets;
  const double *truth_start, *truth_end;
  const std::int64_t *truth_offsets, *class_offsets;
  const double* thresholds;
  std::int64_t predictions, truths, groups, classes, threshold_count;
  std::int64_t* scratch;
  std::uint8_t* hit;
  std::int64_t* order;
  double* ap;
  PYWS_FIELDS(start, end, score, offsets, truth_start, truth_end, truth_offsets, class_offsets, thresholds, predictions,
              truths, groups, classes, threshold_count, scratch, hit, order, ap)
};
void match_segments_cpu(const MatchParams& params, int threads);
void match_segments_cuda(const MatchParams& params, void* stream);

// Of the scratch: what is ranked, the truth that is taken, and the candidates of a prediction.
PYWS_HD std::int64_t match_segments_scratch(std::int64_t predictions, std::int64_t truths) {
  return 4 * predictions + truths + 3 * truths;
}

// IoU of two half-open segments. On integers this is the IoU of the sets of snippets.
PYWS_HD double match_iou(double start, double end, double other_start, double other_end) {
  const double shared = (end < other_end ? end : other_end) - (start > other_start ? start : other_start);
  if (!(shared > 0)) return 0;
  return shared / ((end - start) + (other_end - other_start) - shared);
}

// Rises as the score falls, so that ranking is an order of integers.
PYWS_HD std::uint64_t falling_key(double score) {
  const std::uint64_t bits = bit_cast<std::uint64_t>(score + 0.0);  // -0 becomes 0
  const std::uint64_t sign = std::uint64_t{1} << 63;
  return bits & sign ? bits : ~bits ^ sign;
}

}  // namespace pyws
