#include "propose_segments/propose_segments.h"

#include <atomic>

#include "common/parallel.h"
#include "propose_segments/propose_segments_simd.h"

namespace pyws {
namespace {

constexpr double kNanosecondsPerSnippet = 8.0;
constexpr std::int64_t kTile = 1024;  // values of one class, gathered from the rows of the video
static_assert(kTile % kProposalBlock == 0, "a block of the running sums lies in one tile");

// Reads one column, leaves its running sums and levels; returns the first row that is not finite, or length.
template <class T>
std::int64_t read_column(const ProposalLoops& loops, const T* column, std::int64_t stride, std::int64_t length,
                         const double* thresholds, std::int64_t count, double* prefix, std::uint8_t* levels) {
  double values[kTile];
  std::int64_t bad = length;
  double whole = 0.0;
  prefix[0] = 0.0;
  for (std::int64_t from = 0; from < length; from += kTile) {
    const std::int64_t n = min64(kTile, length - from);
    for (std::int64_t i = 0; i < n; ++i) values[i] = widen(column[(from + i) * stride]);
    const std::int64_t finite = loops.levels(values, n, thresholds, count, levels + from);
    if (finite < n && bad == length) bad = from + finite;
    for (std::int64_t block = 0; block < n; block += kProposalBlock) {
      double sum = 0.0;
      const std::int64_t last = min64(n, block + kProposalBlock);
      for (std::int64_t i = block; i < last; ++i) {
        sum += values[i];
        prefix[from + i + 1] = whole + sum;
      }
      whole += sum;
    }
  }
  return bad;
}

// Calls emit(s, e) for every run of levels above the threshold, from left to right.
template <class Emit>
void each_run(const ProposalLoops& loops, const std::uint8_t* levels, std::int64_t length, int threshold,
              const Emit& emit) {
  std::int32_t crossings[kTile + kProposalSlack];
  std::int64_t start = -1;  // start of the run that is open
  for (std::int64_t from = 0; from < length; from += kTile) {
    const std::int64_t n = min64(kTile, length - from);
    const std::int64_t count = loops.crossings(levels + from, n, threshold, start >= 0, crossings);
    std::int64_t k = 0;
    if (start >= 0 && count > 0) emit(start, from + crossings[k++]), start = -1;
    for (; k + 1 < count; k += 2) emit(from + crossings[k], from + crossings[k + 1]);
    if (k < count) start = from + crossings[k];
  }
  if (start >= 0) emit(start, length);
}

void lower_to(std::atomic<std::int64_t>* lowest, std::int64_t value) {
  std::int64_t seen = lowest->load();
  while (value < seen && !lowest->compare_exchange_weak(seen, value)) {
  }
}

template <class T>
void count_runs(const CountProposalsParams& p, int threads) {
  const ProposalLoops& loops = proposal_loops();
  const std::int64_t groups = p.videos * p.classes;
  std::atomic<std::int64_t> bad{kAllFinite};
  const double cost =
      kNanosecondsPerSnippet * static_cast<double>(p.snippets) / static_cast<double>(max64(p.videos, 1));
  parallel_for(groups, cost, threads, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t group = first; group < last; ++group) {
      std::int64_t* counts = p.runs + group * p.count + 1;
      for (std::int64_t t = 0; t < p.count; ++t) counts[t] = 0;
      if (p.wanted != nullptr && !p.wanted[group]) continue;
      const auto at = proposal_group(p, group);
      if (at.length == 0) continue;
      const std::int64_t column = at.begin * p.classes + group % p.classes;
      const std::int64_t row = read_column(loops, p.tcam.as<T>() + column, p.classes, at.length, p.thresholds, p.count,
                                           at.prefix, at.levels);
      if (row < at.length) lower_to(&bad, column + row * p.classes);
      loops.drop_short(at.levels, at.length, p.min_length);
      for (std::int64_t t = 0; t < p.count; ++t) counts[t] = loops.runs(at.levels, at.length, static_cast<int>(t));
    }
  });
  scan_counts(p.runs, groups * p.count);
  p.runs[groups * p.count + 1] = bad.load();
}

}  // namespace

void count_proposals_cpu(const CountProposalsParams& p, int threads) {
  with_singles("propose_segments", "tcam", p.tcam.dtype, [&](auto zero) { count_runs<decltype(zero)>(p, threads); });
}

void fill_proposals_cpu(const FillProposalsParams& p, int threads) {
  const ProposalLoops& loops = proposal_loops();
  for (std::int64_t group = 0; group <= p.videos * p.classes; ++group)
    p.packed_offsets[group] = p.runs[group * p.count];
  const double cost =
      kNanosecondsPerSnippet * static_cast<double>(p.snippets) / static_cast<double>(max64(p.videos, 1));
  parallel_for(p.videos * p.classes, cost, threads, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t group = first; group < last; ++group) {
      const std::int64_t* begins = p.runs + group * p.count;
      if (begins[0] == begins[p.count]) continue;
      const auto at = proposal_group(p, group);
      for (std::int64_t t = 0; t < p.count; ++t) {
        std::int64_t to = begins[t];
        each_run(loops, at.levels, at.length, static_cast<int>(t), [&](std::int64_t s, std::int64_t e) {
          if (to < begins[t + 1]) score_run(p, s, e, at.length, at.prefix, to++);
        });
      }
    }
  });
}

}  // namespace pyws
