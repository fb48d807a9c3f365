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

// Where the first position of a value that is not finite is kept.
__device__ __forceinline__ std::int64_t* first_bad(const CountProposalsParams& p) {
  return p.runs + p.videos * p.classes * p.count + 1;
}

__global__ void no_bad_value(CountProposalsParams p) { *first_bad(p) = kAllFinite; }

// Traffic: each value is read once (a column has the stride of a row; its neighbours in the sector are the columns of
// the blocks beside, which find it in L2); 9 bytes a value are written, and the levels read once a threshold from L1.
// Ownership: one block a group. First a warp takes 32 snippets: lane k adds the values 0..k in turn, then the sums of
// the warps and tiles before. Then a warp takes a threshold and counts the ends of its runs by ballots.
template <class T>
__global__ void __launch_bounds__(kThreads) count_runs(CountProposalsParams p) {
  PYWS_SHARED(double, sums, kWarps);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t group = blockIdx.x;
  const T* tcam = p.tcam.as<T>();
  std::int64_t* counts = p.runs + group * p.count + 1;
  if (p.wanted != nullptr && !p.wanted[group]) {
    for (std::int64_t t = threadIdx.x; t < p.count; t += kThreads) counts[t] = 0;
    return;
  }
  const auto at = proposal_group(p, group);
  const std::int64_t column = at.begin * p.classes + group % p.classes;
  if (threadIdx.x == 0) at.prefix[0] = 0.0;
  double whole = 0.0;
  for (std::int64_t tile = 0; tile < at.length; tile += kThreads) {
    const std::int64_t i = tile + threadIdx.x;
    const double x = i < at.length ? widen(tcam[column + i * p.classes]) : 0.0;
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
      at.prefix[i + 1] = before + sum;
      int level = 0;
      for (std::int64_t t = 0; t < p.count; ++t) level += x > p.thresholds[t] ? 1 : 0;
      at.levels[i] = static_cast<std::uint8_t>(level);
      if (!(x - x == 0.0)) atomicMin(reinterpret_cast<long long*>(first_bad(p)), column + i * p.classes);
    }
    __syncthreads();
  }
  for (std::int64_t t = warp; t < p.count; t += kWarps) {
    std::int64_t found = 0;
    each_run(at.levels, at.length, t, p.min_length,
             [&](unsigned kept, std::int64_t, std::int64_t) { found += __popc(kept); });
    if (lane == 0) counts[t] = found;
  }
}

// Traffic: the levels are read once a threshold, 4 to 6 running sums a segment from L1 or L2, 32 bytes a segment are
// written; the segments of 32 snippets lie side by side. Ownership: one block a group, a warp a threshold; where there
// is no group, one block writes the offset 0.
__global__ void __launch_bounds__(kThreads) fill_runs(FillProposalsParams p) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t group = blockIdx.x, groups = p.videos * p.classes;
  if (threadIdx.x == 0) {
    p.packed_offsets[group] = p.runs[group * p.count];
    if (group + 1 >= groups) p.packed_offsets[groups] = p.runs[groups * p.count];
  }
  if (group >= groups) return;
  const auto at = proposal_group(p, group);
  for (std::int64_t t = warp; t < p.count; t += kWarps) {
    std::int64_t next = p.runs[group * p.count + t];
    const std::int64_t last = p.runs[group * p.count + t + 1];
    if (next == last) continue;
    each_run(at.levels, at.length, t, p.min_length, [&](unsigned kept, std::int64_t s, std::int64_t e) {
      const std::int64_t to = next + __popc(kept & lanes_below());
      if ((kept >> lane & 1u) != 0 && to < last) score_run(p, s, e, at.length, at.prefix, to);
      next += __popc(kept);
    });
  }
}

}  // namespace

void count_proposals_cuda(const CountProposalsParams& p, void* stream) {
  const char* op = "propose_segments";
  launch(op, no_bad_value, dim3(1), dim3(1), 0, stream, p);
  with_singles(op, "tcam", p.tcam.dtype, [&](auto zero) {
    launch(op, count_runs<decltype(zero)>, grid_1d(op, p.videos * p.classes), dim3(kThreads), 0, stream, p);
  });
  launch_scan_counts(op, p.runs, p.videos * p.classes * p.count, stream);
}

void fill_proposals_cuda(const FillProposalsParams& p, void* stream) {
  const char* op = "propose_segments";
  launch(op, fill_runs, grid_1d(op, max64(p.videos * p.classes, 1)), dim3(kThreads), 0, stream, p);
}

}  // namespace pyws
