#include "segments/propose_segments.h"

#include <atomic>

#include "common/parallel.h"
#include "segments/propose_segments_simd.h"

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
  std::int64_t start = -1;  // of the run that is open
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
void count_runs(const T* tcam, const std::int64_t* offsets, std::int64_t videos, std::int64_t classes,
                std::int64_t snippets, const double* thresholds, std::int64_t count, const bool* wanted,
                std::int64_t min_length, double* prefix, std::int64_t* runs, int threads) {
  const ProposalLoops& loops = proposal_loops();
  std::uint8_t* levels = reinterpret_cast<std::uint8_t*>(prefix + proposal_levels(videos, classes, snippets));
  const std::int64_t groups = videos * classes;
  std::atomic<std::int64_t> bad{kAllFinite};
  const double cost = kNanosecondsPerSnippet * static_cast<double>(snippets) / static_cast<double>(max64(videos, 1));
  parallel_for(groups, cost, threads, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t group = first; group < last; ++group) {
      std::int64_t* counts = runs + group * count + 1;
      for (std::int64_t t = 0; t < count; ++t) counts[t] = 0;
      if (wanted != nullptr && !wanted[group]) continue;
      const ProposalGroup at = proposal_group(offsets, classes, snippets, group);
      const std::int64_t column = at.begin * classes + group % classes;
      const std::int64_t row = read_column(loops, tcam + column, classes, at.length, thresholds, count,
                                           prefix + at.prefix, levels + at.levels);
      if (row < at.length) lower_to(&bad, column + row * classes);
      loops.drop_short(levels + at.levels, at.length, min_length);
      for (std::int64_t t = 0; t < count; ++t)
        counts[t] = loops.runs(levels + at.levels, at.length, static_cast<int>(t));
    }
  });
  scan_counts(runs, groups * count);
  runs[groups * count + 1] = bad.load();
}

}  // namespace

void count_proposals_cpu(int dtype, const void* tcam, const std::int64_t* offsets, std::int64_t videos,
                         std::int64_t classes, std::int64_t snippets, const double* thresholds, std::int64_t count,
                         const bool* wanted, std::int64_t min_length, double* scratch, std::int64_t* runs,
                         int threads) {
  if (dtype == kFloat32) {
    count_runs(static_cast<const float*>(tcam), offsets, videos, classes, snippets, thresholds, count, wanted,
               min_length, scratch, runs, threads);
  } else {
    count_runs(static_cast<const double*>(tcam), offsets, videos, classes, snippets, thresholds, count, wanted,
               min_length, scratch, runs, threads);
  }
}

void fill_proposals_cpu(const std::int64_t* offsets, std::int64_t videos, std::int64_t classes, std::int64_t snippets,
                        std::int64_t count, std::int64_t /*min_length*/, const std::int32_t* margins,
                        std::int64_t margin_sizes, int past, const double* scratch, const std::int64_t* runs,
                        std::int64_t total, double* packed, std::int64_t* packed_offsets, int threads) {
  const ProposalLoops& loops = proposal_loops();
  const auto* levels = reinterpret_cast<const std::uint8_t*>(scratch + proposal_levels(videos, classes, snippets));
  for (std::int64_t group = 0; group <= videos * classes; ++group) packed_offsets[group] = runs[group * count];
  const double cost = kNanosecondsPerSnippet * static_cast<double>(snippets) / static_cast<double>(max64(videos, 1));
  parallel_for(videos * classes, cost, threads, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t group = first; group < last; ++group) {
      const std::int64_t* begins = runs + group * count;
      if (begins[0] == begins[count]) continue;
      const ProposalGroup at = proposal_group(offsets, classes, snippets, group);
      for (std::int64_t t = 0; t < count; ++t) {
        std::int64_t to = begins[t];
        each_run(loops, levels + at.levels, at.length, static_cast<int>(t), [&](std::int64_t s, std::int64_t e) {
          if (to < begins[t + 1])
            score_run(s, e, at.length, scratch + at.prefix, margins, margin_sizes, past, packed, total, to++);
        });
      }
    }
  });
}

}  // namespace pyws
