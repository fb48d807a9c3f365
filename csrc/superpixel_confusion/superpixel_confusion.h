// superpixel_confusion: refine class maps by superpixels, by the vote of superpixel_select.h, and count what that
// changes and how it agrees with annotations: the two histograms of WS^2's RII and mIoU_PA, in one walk over the pixels.
//
//   votes[p,c], annotated[p,a]  pixels of superpixel p predicted c, annotated a
//   taken[p]                    the most frequent class of 1..classes-1 where votes / |p| > alpha and
//                               |p| / pixels < beta, else 0
//   consistency[c,r] = sum of votes[p,c], agreement[r,a] = sum of annotated[p,a], over superpixels with taken[p] = r
//
// labels        (batch, pixels) int32 or int64, any values: pixels whose label is outside [0, superpixels) are not counted
// prediction    (batch, pixels) uint8, int32 or int64; a class outside [0, num_classes) votes for nothing, but its pixel
//               counts in |p|
// annotation    (batch, pixels) of the type of the prediction; a class outside [0, num_classes) is left out
// area, votes, annotated
//               scratch, (batch, superpixels), then twice (batch, superpixels, num_classes)
// consistency, agreement
//               (batch, num_classes, num_classes)
// invalid       (batch, kInvalidKinds): pixels whose label, whose prediction, and whose annotation is outside; annotations
//               that are `ignored` are not counted here
// Zeroed        by the caller: scratch and all outputs
// Decisions     as in superpixel_select.h; counts are exact, so that every output is the same for any number of threads,
//               batch composition, instruction set and device
// Empty         batch = 0 or pixels = 0: all counts stay 0. pixels < 2^31.
#pragma once

#include "superpixel_select/superpixel_select.h"

namespace pyws {

enum Invalid : int { kInvalidLabel, kInvalidPrediction, kInvalidAnnotation, kInvalidKinds };

struct ConfusionParams {
  Array<const void> labels, prediction, annotation;
  std::int64_t batch, pixels, superpixels, num_classes, ignored;
  double alpha, beta;
  std::uint32_t *area, *votes, *annotated;
  std::int64_t *consistency, *agreement, *invalid;
  PYWS_FIELDS(labels, prediction, annotation, batch, pixels, superpixels, num_classes, ignored, alpha, beta, area,
              votes, annotated, consistency, agreement, invalid)
};
void superpixel_confusion_cpu(const ConfusionParams& params, int threads);
void superpixel_confusion_cuda(const ConfusionParams& params, void* stream);

// The class of a superpixel that may be too large.
PYWS_HD std::int64_t accepted_below(Votes best, std::int64_t area, std::int64_t pixels, double alpha, double beta) {
  return ratio(area, pixels) < beta ? accepted_class(best, area, alpha) : 0;
}

}  // namespace pyws
