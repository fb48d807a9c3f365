// match_segments: detections against ground truth, for every temporal IoU threshold in one pass (CPU only).
//
// A group is one pair of a class and a video; class c owns the groups class_offsets[c] .. class_offsets[c+1]-1.
// Within a class the predictions are taken by falling score. Each takes, at each threshold on its own, the free truth
// segment of its group with the largest IoU that is >= the threshold; that one is then no longer free at that
// threshold. AP is the area under the precision envelope (PASCAL VOC 2010 and later).
//
// start, end, score       (P,) predictions; offsets (G+1,) of their groups
// truth_start, truth_end  (N,) ground truth; truth_offsets (G+1,)
// class_offsets           (C+1,) of the groups
// thresholds              (K,), K <= 64, in any order
// ranked                  scratch, 4 P values; taken: scratch, N values; candidates: scratch, 3 N values
// hit                     (P, K) 1 where the prediction is a true positive at the threshold, else 0
// order                   (P,) the predictions of class 0 by falling score, then those of class 1, ...
// ap                      (C, K) in [0, 1]
//
// All offsets start at 0, never fall and end at the number of values (the caller has checked); contents are free.
// Ties      equal scores, -0 and 0 included: the lower index first; equal IoU: the lower index first
// Empty     a union of length 0 has IoU 0; a class without predictions has AP 0; a class without truth has AP NaN
// NaN       a NaN coordinate matches nothing; a NaN score ranks first (positive) or last (negative)
// Sums      of AP from the last hit to the first: same bits for any number of threads
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace pyws {

constexpr int kMatchThresholds = 64;

void match_segments_cpu(const double* start, const double* end, const double* score, const std::int64_t* offsets,
                        const double* truth_start, const double* truth_end, const std::int64_t* truth_offsets,
                        const std::int64_t* class_offsets, const double* thresholds, std::int64_t classes,
                        std::int64_t threshold_count, std::int64_t* ranked, std::int64_t* taken,
                        std::int64_t* candidates, std::uint8_t* hit, std::int64_t* order, double* ap, int threads);

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
