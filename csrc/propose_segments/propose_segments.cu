#include "common/ragged_cuda.h"
#include "propose_segments/propose_segments.h"

namespace pyws {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
static_assert(kProposalBlock == kWarp, "a warp holds one block of the running sums");

// Calls emit(kept, s, e) in every lane for each 32 snippets, where `kept` has the lanes whose snippet e ends a run
// [s, e) of at least min_length above threshold t. All lanes of the warp take part.
template <class Emit>
__device__ __forceinline__ void each_run(const std::uint8_t* levels, std::int64_t length, std::int64_t t,
                                         std::int64_t min_length, const Emit& emit) {
  const int lane = threadIdx.x % kWarp;
  std::int64_t open = 0;
  unsigned carry = 0;  // whether the snippet before this word is above
  for (std::int64_t base = 0; base <= length; base += kWarp) {
    const std::int64_t i = base + lane;
    const unsigned above = __ballot_sync(kWholeWarp, i < length && levels[i] > t);
    const unsigned before = (above << 1) | carry;
    const unsigned starts = above & ~before, nearer = starts & lanes_below();
    const std::int64_t s = nearer != 0 ? base + 31 - __clz(static_cast<int>(nearer)) : open;
    const bool ends = ((~above & before) >> lane & 1u) != 0;
    emit(__ballot_sync(kWholeWarp, ends && i - s >= min_length), s, i);
    if (starts != 0) open = base + 31 - __clz(static_cast<int>(starts));
    carry = above >> 31;
  }
}

__global__ void no_bad_value(std::int64_t* first_bad) { *first_bad = kAllFinite; }

// Traffic: each value is read once (a column has the stride of a row; its neighbours in the sector are the columns of
// the blocks beside, which find it in L2); 9 bytes a value are written, and the levels read once a threshold from L1.
// Ownership: one block a group. First a warp takes 32 snippets: lane k adds the values 0..k in turn, then the sums of
// the warps and tiles before. Then a warp takes a threshold and counts the ends of its runs by ballots.
template <class T>
__global__ void __launch_bounds__(kThreads)
    count_runs(const T* tcam, const std::int64_t* offsets, std::int64_t classes, std::int64_t snippets,
               const double* thresholds, std::int64_t count, const bool* wanted, std::int64_t min_length,
               double* all_prefix, std::uint8_t* all_levels, std::int64_t* runs, std::int64_t* first_bad) {
  PYWS_SHARED(double, sums, kWarps);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t group = blockIdx.x;
  std::int64_t* counts = runs + group * count + 1;
  if (wanted != nullptr && !wanted[group]) {
    for (std::int64_t t = threadIdx.x; t < count; t += kThreads) counts[t] = 0;
    return;
  }
  const ProposalGroup at = proposal_group(offsets, classes, snippets, group);
  const std::int64_t column = at.begin * classes + group % classes;
  double* prefix = all_prefix + at.prefix;
  std::uint8_t* levels = all_levels + at.levels;
  if (threadIdx.x == 0) prefix[0] = 0.0;
  double whole = 0.0;
  for (std::int64_t tile = 0; tile < at.length; tile += kThreads) {
    const std::int64_t i = tile + threadIdx.x;
    const double x = i < at.length ? widen(tcam[column + i * classes]) : 0.0;
    double sum = 0.0;
    for (int k = 0; k < kWarp; ++k) {
      const double other = __shfl_sync(kWholeWarp, x, k);
      if (k <= lane) sum += other;
    }
    if (lane == kWarp - 1) sums[warp] = sum;
    __syncthreads();
    double before = whole;
    for (int w = 0; w < warp; ++w) before += sums[w];
    for (int w = 0; w < kWarps; ++w) whole += sums[w];
    if (i < at.length) {
      prefix[i + 1] = before + sum;
      int level = 0;
      for (std::int64_t t = 0; t < count; ++t) level += x > thresholds[t] ? 1 : 0;
      levels[i] = static_cast<std::uint8_t>(level);
      if (!(x - x == 0.0)) atomicMin(reinterpret_cast<long long*>(first_bad), column + i * classes);
    }
    __syncthreads();
  }
  for (std::int64_t t = warp; t < count; t += kWarps) {
    std::int64_t found = 0;
    each_run(levels, at.length, t, min_length,
             [&](unsigned kept, std::int64_t, std::int64_t) { found += __popc(kept); });
    if (lane == 0) counts[t] = found;
  }
}

// Traffic: the levels are read once a threshold, 4 to 6 running sums a segment from L1 or L2, 32 bytes a segment are
// written; the segments of 32 snippets lie side by side. Ownership: one block a group, a warp a threshold; where there
// is no group, one block writes the offset 0.
__global__ void __launch_bounds__(kThreads)
    fill_runs(const std::int64_t* offsets, std::int64_t groups, std::int64_t classes, std::int64_t snippets,
              std::int64_t count, std::int64_t min_length, const std::int32_t* margins, std::int64_t margin_sizes,
              std::int64_t past, const double* prefix, const std::uint8_t* levels, const std::int64_t* runs,
              std::int64_t total, double* packed, std::int64_t* packed_offsets) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t group = blockIdx.x;
  if (threadIdx.x == 0) {
    packed_offsets[group] = runs[group * count];
    if (group + 1 >= groups) packed_offsets[groups] = runs[groups * count];
  }
  if (group >= groups) return;
  const ProposalGroup at = proposal_group(offsets, classes, snippets, group);
  for (std::int64_t t = warp; t < count; t += kWarps) {
    std::int64_t next = runs[group * count + t];
    const std::int64_t last = runs[group * count + t + 1];
    if (next == last) continue;
    each_run(levels + at.levels, at.length, t, min_length, [&](unsigned kept, std::int64_t s, std::int64_t e) {
      const std::int64_t to = next + __popc(kept & lanes_below());
      if ((kept >> lane & 1u) != 0 && to < last)
        score_run(s, e, at.length, prefix + at.prefix, margins, margin_sizes, past, packed, total, to);
      next += __popc(kept);
    });
  }
}

}  // namespace

void count_proposals_cuda(const CountProposalsParams& p, void* stream) {
  const char* op = "propose_segments";
  auto* levels = reinterpret_cast<std::uint8_t*>(p.scratch + proposal_levels(p.videos, p.classes, p.snippets));
  std::int64_t* first_bad = p.runs + p.videos * p.classes * p.count + 1;
  const dim3 grid = grid_1d(op, p.videos * p.classes);
  launch(op, no_bad_value, dim3(1), dim3(1), 0, stream, first_bad);
  with_singles(op, "tcam", p.tcam.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(op, count_runs<T>, grid, dim3(kThreads), 0, stream, p.tcam.as<T>(), p.offsets, p.classes, p.snippets,
           p.thresholds, p.count, p.wanted.data, p.min_length, p.scratch, levels, p.runs, first_bad);
  });
  launch_scan_counts(op, p.runs, p.videos * p.classes * p.count, stream);
}

void fill_proposals_cuda(const FillProposalsParams& p, void* stream) {
  const char* op = "propose_segments";
  const std::int64_t groups = p.videos * p.classes;
  const auto* levels =
      reinterpret_cast<const std::uint8_t*>(p.scratch + proposal_levels(p.videos, p.classes, p.snippets));
  launch(op, fill_runs, grid_1d(op, max64(groups, 1)), dim3(kThreads), 0, stream, p.offsets, groups, p.classes,
         p.snippets, p.count, p.min_length, p.margins, p.margin_sizes, p.past, p.scratch, levels, p.runs, p.total,
         p.packed, p.packed_offsets);
}

}  // namespace pyws
