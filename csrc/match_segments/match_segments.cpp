#include "match_segments/match_segments.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "common/ragged.h"

namespace pyws {
namespace {

struct Ranked {
  std::uint64_t key;
  std::int32_t position;  // position of the prediction within its class
  std::int32_t group;     // within the class
};
static_assert(sizeof(Ranked) == 2 * sizeof(std::int64_t), "the scratch holds two of them a prediction");

struct Candidate {
  double iou;
  std::uint64_t passed;  // thresholds at which it is free and its IoU is enough
  std::int64_t truth;

  bool operator<(const Candidate& other) const { return iou != other.iou ? iou > other.iou : truth < other.truth; }
};
static_assert(sizeof(Candidate) == 3 * sizeof(std::int64_t), "the scratch holds one of them a truth segment");

struct Problem : MatchParams {  // with offsets that stay within the tensors
  double lowest;                // the least threshold
};

// Sorts by rising key, equal keys in the order they came: a radix sort, byte by byte from the lowest, which skips the
// bytes that all keys share. Returns where the result lies, `values` or `other`.
Ranked* sort_by_key(Ranked* values, Ranked* other, std::int64_t count) {
  constexpr int kBytes = sizeof(values->key), kValues = 256;
  std::int32_t places[kBytes][kValues] = {};
  const auto byte = [](std::uint64_t key, int b) { return key >> (8 * b) & (kValues - 1); };
  for (std::int64_t i = 0; i < count; ++i)
    for (int b = 0; b < kBytes; ++b) ++places[b][byte(values[i].key, b)];
  for (int b = 0; b < kBytes && count > 1; ++b) {
    std::int32_t* place = places[b];
    if (place[byte(values[0].key, b)] == count) continue;
    std::int32_t before = 0;
    for (int v = 0; v < kValues; ++v) before += std::exchange(place[v], before);
    for (std::int64_t i = 0; i < count; ++i) other[place[byte(values[i].key, b)]++] = values[i];
    std::swap(values, other);
  }
  return values;
}

// The predictions of groups first .. last-1 by falling score.
const Ranked* rank(const Problem& p, std::int64_t first, std::int64_t last, Ranked* ranked) {
  const std::int64_t origin = p.offsets[first], count = p.offsets[last] - origin;
  for (std::int64_t group = first; group < last; ++group)
    for (std::int64_t i = p.offsets[group]; i < p.offsets[group + 1]; ++i)
      ranked[i - origin] = {falling_key(p.score[i]), static_cast<std::int32_t>(i - origin),
                            static_cast<std::int32_t>(group - first)};
  return sort_by_key(ranked, ranked + count, count);
}

// The thresholds at which prediction i is a true positive; what it takes is marked in `taken`.
std::uint64_t match(const Problem& p, std::int64_t i, std::int64_t group, std::uint64_t* taken, Candidate* candidates) {
  std::int64_t count = 0;
  for (std::int64_t truth = p.truth_offsets[group]; truth < p.truth_offsets[group + 1]; ++truth) {
    const double iou = match_iou(p.start[i], p.end[i], p.truth_start[truth], p.truth_end[truth]);
    if (!(iou >= p.lowest)) continue;
    std::uint64_t passed = 0;
    for (std::int64_t k = 0; k < p.threshold_count; ++k)
      passed |= static_cast<std::uint64_t>(iou >= p.thresholds[k]) << k;
    passed &= ~taken[truth];
    if (passed) candidates[count++] = {iou, passed, truth};
  }
  if (count > 1) std::sort(candidates, candidates + count);
  std::uint64_t hit = 0;
  for (std::int64_t c = 0; c < count; ++c) {
    const std::uint64_t takes = candidates[c].passed & ~hit;
    taken[candidates[c].truth] |= takes;
    hit |= takes;
  }
  return hit;
}

// Average precision at threshold k of a class with `positives` truth segments: precision changes its envelope only at
// hits, so the last hit's precision is carried to the front.
double average_precision(const Problem& p, const std::int64_t* order, std::int64_t count, std::int64_t k,
                         std::int64_t positives) {
  std::int64_t hits = 0;
  for (std::int64_t rank = 0; rank < count; ++rank) hits += p.hit[order[rank] * p.threshold_count + k];
  double envelope = 0, area = 0;
  for (std::int64_t rank = count - 1; hits > 0; --rank) {
    if (!p.hit[order[rank] * p.threshold_count + k]) continue;
    envelope = std::max(envelope, static_cast<double>(hits--) / static_cast<double>(rank + 1));
    area += envelope;
  }
  return area / static_cast<double>(positives);
}

void match_class(const Problem& p, std::int64_t c) {
  const std::int64_t first = p.class_offsets[c], last = p.class_offsets[c + 1];
  const std::int64_t origin = p.offsets[first], count = p.offsets[last] - origin;
  const std::int64_t truth = p.truth_offsets[first], positives = p.truth_offsets[last] - truth;
  auto* taken = reinterpret_cast<std::uint64_t*>(p.scratch + 4 * p.predictions);
  auto* candidates = reinterpret_cast<Candidate*>(p.scratch + 4 * p.predictions + p.truths) + truth;
  std::int64_t* order = p.order + origin;
  const Ranked* ranking = rank(p, first, last, reinterpret_cast<Ranked*>(p.scratch) + 2 * origin);
  std::fill_n(taken + truth, positives, std::uint64_t{0});
  for (std::int64_t r = 0; r < count; ++r) {
    order[r] = origin + ranking[r].position;
    const std::uint64_t hits = match(p, order[r], first + ranking[r].group, taken, candidates);
    for (std::int64_t k = 0; k < p.threshold_count; ++k) p.hit[order[r] * p.threshold_count + k] = hits >> k & 1;
  }
  for (std::int64_t k = 0; k < p.threshold_count; ++k)
    p.ap[c * p.threshold_count + k] =
        positives > 0 ? average_precision(p, order, count, k, positives) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

void match_segments_cpu(const MatchParams& p, int threads) {
  const std::vector<std::int64_t> offsets = clamped_offsets(p.offsets, p.groups, p.predictions);
  const std::vector<std::int64_t> truth_offsets = clamped_offsets(p.truth_offsets, p.groups, p.truths);
  const std::vector<std::int64_t> class_offsets = clamped_offsets(p.class_offsets, p.classes, p.groups);
  const double* last = p.thresholds + p.threshold_count;
  Problem problem{p, p.threshold_count > 0 ? *std::min_element(p.thresholds, last) : 0.0};
  problem.offsets = offsets.data();
  problem.truth_offsets = truth_offsets.data();
  problem.class_offsets = class_offsets.data();
  const double cost = 100 * static_cast<double>(p.predictions) / static_cast<double>(max64(p.classes, 1));
  parallel_for(p.classes, cost, threads, [&](std::int64_t begin, std::int64_t stop) {
    for (std::int64_t c = begin; c < stop; ++c) match_class(problem, c);
  });
}

}  // namespace pyws
