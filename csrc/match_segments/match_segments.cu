#include <limits>

#include "common/ragged_cuda.h"
#include "match_segments/match_segments.h"

namespace pyws {
namespace {

constexpr int kThreads = 256;
static_assert(kMatchThresholds == 2 * kWarp, "a lane has two thresholds");

struct Ranked {
  std::uint64_t key;
  std::int64_t index;  // row of the prediction
};
static_assert(sizeof(Ranked) == 2 * sizeof(std::int64_t), "the scratch holds two of them a prediction");

// The predictions of a range by falling score, equal scores in the order they came.
__device__ const Ranked* rank(const MatchParams& p, Range range) {
  const std::int64_t count = range.end - range.begin;
  Ranked* values = reinterpret_cast<Ranked*>(p.scratch) + range.begin;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x)
    values[i] = {falling_key(p.score[range.begin + i]), range.begin + i};
  return merge_sort(values, values + p.predictions, count,
                    [](const Ranked& a, const Ranked& b) { return a.key < b.key; });
}

// The free truth segment with the largest IoU that passes a threshold, the first of equals.
struct Found {
  double iou;
  std::int64_t truth;
};

__device__ __forceinline__ void consider(Found* found, double iou, std::int64_t truth, double threshold, bool is_free) {
  if (is_free && iou >= threshold && (found->truth < 0 || iou > found->iou)) *found = {iou, truth};
}

// Traffic: each prediction reads all truth segments of its group and what is taken of them, from L1 or L2; K bytes a
// prediction are written. Ownership: one warp a group, which ranks its predictions and takes them in turn; lane k has
// thresholds k and k + 32, and all that lanes share is the word of thresholds at which a truth segment is taken.
__global__ void __launch_bounds__(kWarp) match_groups(MatchParams p) {
  const Range group = group_range(p.offsets, blockIdx.x, p.predictions);
  const Range truth = group_range(p.truth_offsets, blockIdx.x, p.truths);
  const std::int64_t count = p.threshold_count;
  const int one = threadIdx.x, two = threadIdx.x + kWarp;
  const double threshold_one = one < count ? p.thresholds[one] : 0.0;
  const double threshold_two = two < count ? p.thresholds[two] : 0.0;
  auto* taken = reinterpret_cast<unsigned long long*>(p.scratch + 4 * p.predictions);
  for (std::int64_t t = truth.begin + threadIdx.x; t < truth.end; t += kWarp) taken[t] = 0;
  const Ranked* ranked = rank(p, group);  // ends with a barrier
  for (std::int64_t r = 0; r < group.end - group.begin; ++r) {
    const std::int64_t i = ranked[r].index;
    const double start = p.start[i], end = p.end[i];
    Found found_one = {0.0, -1}, found_two = {0.0, -1};
    for (std::int64_t t = truth.begin; t < truth.end; ++t) {
      const double iou = match_iou(start, end, p.truth_start[t], p.truth_end[t]);
      const unsigned long long at = taken[t];
      consider(&found_one, iou, t, threshold_one, one < count && (at >> one & 1) == 0);
      consider(&found_two, iou, t, threshold_two, two < count && (at >> two & 1) == 0);
    }
    __syncwarp();  // all have read what is taken
    if (found_one.truth >= 0) atomicOr(taken + found_one.truth, 1ull << one);
    if (found_two.truth >= 0) atomicOr(taken + found_two.truth, 1ull << two);
    if (one < count) p.hit[i * count + one] = found_one.truth >= 0;
    if (two < count) p.hit[i * count + two] = found_two.truth >= 0;
    __syncwarp();
  }
}

// Traffic: log2(n) passes over 16 bytes a prediction, mostly in L2, then 8 bytes and twice K bytes a prediction, K side
// by side. Ownership: one block a class, which ranks the predictions of all its groups; then thread k walks the ranking
// back for threshold k, in the order that fixes the rounding.
__global__ void __launch_bounds__(kThreads) average_classes(MatchParams p) {
  const Range owned = group_range(p.class_offsets, blockIdx.x, p.groups);
  const std::int64_t begin = min64(max64(p.offsets[owned.begin], 0), p.predictions);
  const Range range = {begin, min64(max64(p.offsets[owned.end], begin), p.predictions)};
  const std::int64_t size = range.end - range.begin, count = p.threshold_count;
  const Ranked* ranked = rank(p, range);
  for (std::int64_t r = threadIdx.x; r < size; r += kThreads) p.order[range.begin + r] = ranked[r].index;
  const std::int64_t k = threadIdx.x;
  if (k >= count) return;
  std::int64_t hits = 0;
#pragma unroll 1
  for (std::int64_t r = 0; r < size; ++r) hits += p.hit[ranked[r].index * count + k];
  double envelope = 0.0, area = 0.0;
#pragma unroll 1
  for (std::int64_t r = size - 1; r >= 0 && hits > 0; --r) {
    if (!p.hit[ranked[r].index * count + k]) continue;
    const double precision = static_cast<double>(hits--) / static_cast<double>(r + 1);
    envelope = envelope < precision ? precision : envelope;
    area += envelope;
  }
  const std::int64_t positives =  // at most the number of truths
      min64(p.truth_offsets[owned.end], p.truths) - max64(p.truth_offsets[owned.begin], 0);
  p.ap[blockIdx.x * count + k] =
      positives > 0 ? area / static_cast<double>(positives) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

void match_segments_cuda(const MatchParams& p, void* stream) {
  const char* op = "match_segments";
  launch(op, match_groups, grid_1d(op, p.groups), dim3(kWarp), 0, stream, p);
  launch(op, average_classes, grid_1d(op, p.classes), dim3(kThreads), 0, stream, p);
}

}  // namespace pyws
