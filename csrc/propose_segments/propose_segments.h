// propose_segments: the runs of a temporal class activation map above each of several thresholds, and their scores.
//
// A group is a video and a class, in the order video * classes + class. At each threshold every maximal run [s, e) of
// snippets with tcam > threshold and e - s >= min_length becomes a segment. With d = e - s and past = 0 or 1:
//   inner      mean over [s, min(e + past, l))
//   outer      mean over [max(0, s - left[d]), s) and [e + past, min(l - past, e + past + right[d])) together, or 0
//   segment    start s, end e + past, score inner - outer, weight inner
// past = 1 is the released rule, which scores one snippet beyond the run.
//
// Two calls, because the number of segments depends on the contents: count_proposals, then (the caller reads the total
// and allocates) fill_proposals.
//
// tcam       (snippets, classes) float32 or float64, contiguous
// offsets    (videos+1,) int64, read clamped to 0..snippets
// thresholds (count,) float64, rising, at most 255; compared in float64
// wanted     (videos, classes) bool or null: groups to propose for
// margins    (2, margin_sizes) int32: left and right by run length, made once on the host, so that all devices agree
// scratch    propose_segments_scratch(...) float64: running sums of each group, contiguous; then snippets * classes
//            bytes: how many thresholds each value passes (its level; on the CPU only those that a run of at least
//            min_length around it passes)
// runs       propose_segments_runs(...) int64: where the segments of each group and threshold begin; the last but one
//            number is their total, the last the first position snippet * classes + class whose value is not finite,
//            or kAllFinite
// packed     (4, total) float64: start, end, score, weight, ordered by group, threshold, start
// packed_offsets   (videos * classes + 1,) int64: the groups of the answer
// Sums       running sums over blocks of 32 snippets, the blocks added in rising order: the same bits everywhere.
// Contents   any; no run is written beyond the capacity that was counted for it.
#pragma once

#include "common/params.h"
#include "common/ragged.h"
#include "common/segment_rows.h"

namespace pyws {

constexpr int kProposalBlock = 32;
constexpr int kMaxThresholds = 255;  // a level is a byte
constexpr std::int64_t kAllFinite = INT64_MAX;

struct CountProposalsParams {
  Array<const void> tcam;
  const std::int64_t* offsets;
  std::int64_t videos, classes, snippets;
  const double* thresholds;
  std::int64_t count;
  Optional<const bool> wanted;
  std::int64_t min_length;
  double* scratch;
  std::int64_t* runs;
  PYWS_FIELDS(tcam, offsets, videos, classes, snippets, thresholds, count, wanted, min_length, scratch, runs)
};
void count_proposals_cpu(const CountProposalsParams& params, int threads);
void count_proposals_cuda(const CountProposalsParams& params, void* stream);

struct FillProposalsParams {
  const std::int64_t* offsets;
  std::int64_t videos, classes, snippets, count, min_length;
  const std::int32_t* margins;
  std::int64_t margin_sizes, past;
  const double* scratch;
  const std::int64_t* runs;
  std::int64_t total;
  double* packed;
  std::int64_t* packed_offsets;
  PYWS_FIELDS(offsets, videos, classes, snippets, count, min_length, margins, margin_sizes, past, scratch, runs, total,
              packed, packed_offsets)
};
void fill_proposals_cpu(const FillProposalsParams& params, int threads);
void fill_proposals_cuda(const FillProposalsParams& params, void* stream);

PYWS_HD std::int64_t propose_segments_scratch(std::int64_t videos, std::int64_t classes, std::int64_t snippets) {
  return (snippets + videos) * classes + ceil_div(snippets * classes, 8);
}

PYWS_HD std::int64_t propose_segments_runs(std::int64_t videos, std::int64_t classes, std::int64_t count) {
  return videos * classes * count + 2;
}

// A group: its snippets in the video, its running sums (length + 1) and its levels (length) in the scratch.
template <class Sums, class Levels>
struct ProposalGroup {
  std::int64_t begin, length;
  Sums* prefix;
  Levels* levels;
};

template <class Params>
PYWS_HD auto proposal_group(const Params& p, std::int64_t group) {
  using Sums = std::remove_pointer_t<decltype(p.scratch)>;
  using Levels = std::conditional_t<std::is_const_v<Sums>, const std::uint8_t, std::uint8_t>;
  const std::int64_t video = group / p.classes, c = group % p.classes;
  const Range range = group_range(p.offsets, video, p.snippets);
  const std::int64_t length = range.end - range.begin;
  auto* levels = reinterpret_cast<Levels*>(p.scratch + (p.snippets + p.videos) * p.classes);
  return ProposalGroup<Sums, Levels>{range.begin, length,
                                     p.scratch + (range.begin + video) * p.classes + c * (length + 1),
                                     levels + range.begin * p.classes + c * length};
}

// Writes the segment of the run [s, e) to column `at` of packed.
PYWS_HD void score_run(const FillProposalsParams& p, std::int64_t s, std::int64_t e, std::int64_t length,
                       const double* prefix, std::int64_t at) {
  const std::int64_t d = min64(e - s, p.margin_sizes - 1);
  const std::int64_t inner_end = min64(e + p.past, length);
  const double inner = (prefix[inner_end] - prefix[s]) / static_cast<double>(inner_end - s);
  const std::int64_t left = max64(0, s - p.margins[d]);
  const std::int64_t right = max64(inner_end, min64(length - p.past, e + p.past + p.margins[p.margin_sizes + d]));
  const std::int64_t outer_size = s - left + right - inner_end;
  const double outer = prefix[s] - prefix[left] + (prefix[right] - prefix[inner_end]);
  p.packed[kStart * p.total + at] = static_cast<double>(s);
  p.packed[kEnd * p.total + at] = static_cast<double>(e + p.past);
  p.packed[kScore * p.total + at] = inner - outer / static_cast<double>(max64(outer_size, 1));
  p.packed[kWeight * p.total + at] = inner;
}

}  // namespace pyws
