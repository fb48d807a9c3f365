#include "common/ragged_cuda.h"
#include "fuse_segments/fuse_segments.h"

namespace pyws {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocksPerSm = 4;  // leaves the fitting of clusters 128 registers
static_assert(kFuseRows * kFuseLanes == kWarp, "one warp fits the four rows, eight lanes a row");

// The scratch rows of one group; `left` is what the walk has not taken yet, in rising index order.
struct Walk {
  double *start, *end, *score;
  std::int64_t* index;
  double* member;  // the members' rows, `stride` apart
  double* g;
  std::int64_t *members, *rank;
  std::int64_t candidates, stride;
};

__device__ __forceinline__ Walk walk_of(double* scratch, std::int64_t total, Range group) {
  double* row = scratch + group.begin;
  return {row,
          row + total,
          row + 2 * total,
          reinterpret_cast<std::int64_t*>(row + 3 * total),
          row + 4 * total,
          row + 8 * total,
          reinterpret_cast<std::int64_t*>(row + 9 * total),
          reinterpret_cast<std::int64_t*>(row + 10 * total),
          group.end - group.begin,
          total};
}

// Segments; the row is chosen by comparison, since an array of pointers would live in local memory.
struct Rows {
  const double *start, *end, *score, *weight;

  __device__ __forceinline__ double at(int row, std::int64_t i) const {
    return row == kStart ? start[i] : row == kEnd ? end[i] : row == kScore ? score[i] : weight[i];
  }
};

template <class Params>
__device__ __forceinline__ Rows group_rows(const Params& p, Range group) {
  return {p.start + group.begin, p.end + group.begin, p.score + group.begin, p.weight + group.begin};
}

// The best candidate that a thread has seen: the highest score, the first of equals.
struct Best {
  double score;
  std::int64_t position;
};

__device__ __forceinline__ Best better(Best a, Best b) {
  return b.score > a.score || (b.score == a.score && b.position < a.position) ? b : a;
}

struct Split {
  std::int64_t left, taken, best;
};

// The position of the best of all threads, in every thread; 0 where no score compares.
__device__ std::int64_t block_best(Best best, std::int64_t size) {
  PYWS_SHARED(double, scores, kWarps);
  PYWS_SHARED(std::int64_t, positions, kWarps);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Best other = {__shfl_xor_sync(kWholeWarp, best.score, offset),
                        __shfl_xor_sync(kWholeWarp, best.position, offset)};
    best = better(best, other);
  }
  __syncthreads();
  if (threadIdx.x % kWarp == 0) {
    scores[threadIdx.x / kWarp] = best.score;
    positions[threadIdx.x / kWarp] = best.position;
  }
  __syncthreads();
  best = {scores[0], positions[0]};
  for (int warp = 1; warp < kWarps; ++warp) best = better(best, {scores[warp], positions[warp]});
  return best.position < size ? best.position : 0;
}

constexpr Best kNothing = {-kInfinity, INT64_MAX};

// The stable partition of the candidates left: stays(i, start, end, &score) keeps one, perhaps with a new score; the
// others are listed in members. A tile is read by all threads before any of it is overwritten.
template <class Stays>
__device__ Split partition(const Walk& walk, std::int64_t size, const Stays& stays) {
  PYWS_SHARED(int, kept_counts, kWarps);
  PYWS_SHARED(int, taken_counts, kWarps);
  const int warp = threadIdx.x / kWarp;
  std::int64_t kept = 0, taken = 0;
  Best best = kNothing;
  for (std::int64_t tile = 0; tile < size; tile += kThreads) {
    const std::int64_t i = tile + threadIdx.x;
    const bool valid = i < size;
    const double start = valid ? walk.start[i] : 0.0, end = valid ? walk.end[i] : 0.0;
    double score = valid ? walk.score[i] : 0.0;
    const std::int64_t index = valid ? walk.index[i] : 0;
    const bool stay = valid && stays(i, start, end, &score);
    const unsigned stay_bits = __ballot_sync(kWholeWarp, stay), take_bits = __ballot_sync(kWholeWarp, valid && !stay);
    if (threadIdx.x % kWarp == 0) {
      kept_counts[warp] = __popc(stay_bits);
      taken_counts[warp] = __popc(take_bits);
    }
    __syncthreads();
    std::int64_t stay_at = kept + __popc(stay_bits & lanes_below());
    std::int64_t take_at = taken + __popc(take_bits & lanes_below());
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) {
        stay_at += kept_counts[w];
        take_at += taken_counts[w];
      }
      kept += kept_counts[w];
      taken += taken_counts[w];
    }
    if (stay) {
      walk.start[stay_at] = start;
      walk.end[stay_at] = end;
      walk.score[stay_at] = score;
      walk.index[stay_at] = index;
      best = better(best, {score, stay_at});
    } else if (valid) {
      walk.members[take_at] = index;
    }
    __syncthreads();
  }
  return {kept, taken, block_best(best, kept)};
}

// Copies the candidates into the scratch; returns the first seed, when all threads have copied theirs.
__device__ std::int64_t fill(const Walk& walk, const Rows& rows) {
  Best best = kNothing;
  for (std::int64_t i = threadIdx.x; i < walk.candidates; i += kThreads) {
    walk.start[i] = rows.start[i];
    walk.end[i] = rows.end[i];
    walk.score[i] = rows.score[i];
    walk.index[i] = i;
    best = better(best, {rows.score[i], i});
  }
  return block_best(best, walk.candidates);
}

// Sum of term(r) over members r: lane k of eight adds r = k, k + 8, ..., then the lanes meet in a tree. Same in all
// eight lanes, and the same bits as the CPU's.
template <class Term>
__device__ __forceinline__ double lane_sum(std::int64_t size, const Term& term) {
  double sum = 0.0;
  for (std::int64_t r = threadIdx.x % kFuseLanes; r < size; r += kFuseLanes) sum += term(r);
  for (int offset = kFuseLanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, offset);
  return sum;
}

__device__ double midrange(const double* x, std::int64_t size) {
  double low = x[0], high = x[0];
  for (std::int64_t r = threadIdx.x % kFuseLanes; r < size; r += kFuseLanes) {
    low = lower(x[r], low);
    high = higher(x[r], high);
  }
  for (int offset = kFuseLanes / 2; offset > 0; offset /= 2) {
    low = lower(__shfl_xor_sync(kWholeWarp, low, offset), low);
    high = higher(__shfl_xor_sync(kWholeWarp, high, offset), high);
  }
  return 0.5 * (low + high);
}

// As the CPU's; the rows that have settled wait for the others.
__device__ double student_location(const double* x, const double* g, std::int64_t size, double origin, double whole,
                                   double dof) {
  double m = origin + lane_sum(size, [&](std::int64_t r) { return g[r] * (x[r] - origin); }) / whole;
  const double spread = lane_sum(
      size, [&](std::int64_t r) { return g[r] * student_share(x[r], m, kInfinity, dof) * ((x[r] - m) * (x[r] - m)); });
  double variance = higher(spread * dof / (dof + 1.0) / whole, kVarianceFloor);
  bool settled = false;
  for (int step = 0; step < kStudentSteps && !__all_sync(kWholeWarp, settled); ++step) {
    const double share = lane_sum(size, [&](std::int64_t r) { return g[r] * student_share(x[r], m, variance, dof); });
    const double moment =
        lane_sum(size, [&](std::int64_t r) { return g[r] * student_share(x[r], m, variance, dof) * (x[r] - origin); });
    const double next = origin + moment / share;
    const double square = lane_sum(size, [&](std::int64_t r) {
      return g[r] * student_share(x[r], m, variance, dof) * ((x[r] - next) * (x[r] - next));
    });
    if (settled) continue;
    const double moved = next - m, before = variance;
    variance = higher(square / whole, kVarianceFloor);
    m = next;
    settled = student_settled(moved, variance, before);
  }
  return m;
}

// The middle of the weighted medians of one row, by counting: integers in any order. In every thread.
__device__ double weighted_median(const double* x, const double* g, std::int64_t size) {
  PYWS_SHARED(long long, low, 1);
  PYWS_SHARED(long long, high, 1);
  if (threadIdx.x == 0) {
    low[0] = INT64_MAX;
    high[0] = INT64_MIN;
  }
  __syncthreads();
  for (std::int64_t r = threadIdx.x; r < size; r += kThreads) {
    const std::int64_t key = sort_key(x[r]);
    std::int64_t below = 0, upto = 0, whole = 0;
    for (std::int64_t other = 0; other < size; ++other) {
      const std::int64_t weight = median_weight(g[other]), at = sort_key(x[other]);
      whole += weight;
      below += at < key ? weight : 0;
      upto += at <= key ? weight : 0;
    }
    if (2 * below < whole && whole <= 2 * upto) atomicMin(&low[0], static_cast<long long>(key));
    if (2 * below <= whole && whole < 2 * upto) atomicMax(&high[0], static_cast<long long>(key));
  }
  __syncthreads();
  const double middle = 0.5 * (from_sort_key(low[0]) + from_sort_key(high[0]));
  __syncthreads();
  return middle;
}

// Gathers the members' rows and, where weights count, their g.
__device__ void gather_members(const Walk& walk, const FuseParams& p, const Rows& rows, std::int64_t size) {
  PYWS_SHARED(double, tops, kWarps);
  double top = -kInfinity;
  for (std::int64_t r = threadIdx.x; r < size; r += kThreads) {
    const std::int64_t index = within(walk.members[r], walk.candidates);
    for (int row = 0; row < kFuseRows; ++row) walk.member[row * walk.stride + r] = rows.at(row, index);
    top = higher(rows.weight[index], top);
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2) top = higher(__shfl_xor_sync(kWholeWarp, top, offset), top);
  if (threadIdx.x % kWarp == 0) tops[threadIdx.x / kWarp] = top;
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) top = higher(tops[warp], top);
  const bool is_signed = p.distribution == kSigned;
  const double origin = is_signed ? signed_origin(top, p.temperature) : top;
  for (std::int64_t r = threadIdx.x; r < size; r += kThreads) {
    const double exponent = (walk.member[kWeight * walk.stride + r] - origin) / p.temperature;
    walk.g[r] = is_signed ? exact_exp(exponent) : exp_nonpositive(exponent);
  }
  __syncthreads();
}

// As the CPU's: members are lined up by counting who comes before each, then one thread a row adds them up.
__device__ void fuse_signed(const Walk& walk, std::int64_t size, std::int64_t seed, double* fused, std::int64_t total) {
  PYWS_SHARED(double, places, kFuseRows);
  const double* score = walk.member + kScore * walk.stride;
  const double* weight = walk.member + kWeight * walk.stride;
  for (std::int64_t r = threadIdx.x; r < size; r += kThreads) {
    const std::int64_t key = sort_key(score[r]);
    std::int64_t before = walk.members[r] == seed ? 0 : 1;
    for (std::int64_t other = 0; before > 0 && other < size; ++other) {
      if (walk.members[other] == seed) continue;
      const std::int64_t at = sort_key(score[other]);
      before += at < key || (at == key && other < r) ? 1 : 0;
    }
    walk.rank[within(before, size)] = r;
  }
  __syncthreads();
  if (threadIdx.x < kFuseRows) {
    SignedMean sums{0.0, 0.0, 0.0};
    for (std::int64_t k = 0; k < size; ++k) {
      const std::int64_t r = within(walk.rank[k], size);
      sums = add_signed(sums, walk.member[threadIdx.x * walk.stride + r], weight[r], walk.g[r]);
    }
    places[threadIdx.x] = signed_value(sums);
  }
  __syncthreads();
  if (threadIdx.x < kFuseRows)
    fused[threadIdx.x * total] = threadIdx.x == kEnd ? higher(places[kStart], places[kEnd]) : places[threadIdx.x];
}

// Warp 0 fits all four rows at once, eight lanes a row.
__device__ void fuse_members(const Walk& walk, const FuseParams& p, const Rows& rows, std::int64_t size,
                             std::int64_t seed, double* fused) {
  if (size == 1 && p.distribution != kSigned) {
    if (threadIdx.x < kFuseRows) fused[threadIdx.x * p.total] = rows.at(threadIdx.x, seed);
    return;
  }
  gather_members(walk, p, rows, size);
  if (p.distribution == kSigned) {
    fuse_signed(walk, size, seed, fused, p.total);
    return;
  }
  if (p.distribution == kExponential) {
#pragma unroll 1
    for (int row = 0; row < kFuseRows; ++row) {
      const double median = weighted_median(walk.member + row * walk.stride, walk.g, size);
      if (threadIdx.x == 0) fused[row * p.total] = median;
    }
    return;
  }
  if (threadIdx.x >= kWarp) return;
  const int row = threadIdx.x / kFuseLanes;
  const double* x = walk.member + row * walk.stride;
  const double* g = walk.g;
  const double origin = rows.at(row, seed);
  const double whole = lane_sum(size, [&](std::int64_t r) { return g[r]; });
  double place;
  if (p.distribution == kUniform) {
    place = midrange(x, size);
  } else if (p.distribution == kStudent) {
    place = student_location(x, g, size, origin, whole, p.dof);
  } else {
    place = origin + lane_sum(size, [&](std::int64_t r) { return g[r] * (x[r] - origin); }) / whole;
  }
  const double start = __shfl_sync(kWholeWarp, place, 0);
  if (row == kEnd) place = higher(start, place);
  if (threadIdx.x % kFuseLanes == 0) fused[row * p.total] = place;
}

// Traffic: a candidate is read and written once for every cluster made before its own: 56 bytes, coalesced, from L1 or
// L2 (a group's scratch is 88 bytes a candidate). Ownership: one block a group, each with its own slice of all arrays.
//
//   seed = best of left -> all threads test the overlap -> stable partition of left -> members
//   members -> g by all threads -> warp 0: rows start, end, score, weight, eight lanes each -> fused
//
// Afterwards clusters are ranked by counting those before them.
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) fuse_groups(FuseParams p) {
  const FuseKept kept = fuse_kept(p.scratch, p.groups, p.total);
  const Range group = group_range(p.offsets, blockIdx.x, p.total);
  const Walk walk = walk_of(p.scratch, p.total, group);
  const Rows rows = group_rows(p, group);
  std::int64_t best = fill(walk, rows);
  std::int64_t left = walk.candidates, clusters = 0;
  while (left > 0) {
    const double seed_start = walk.start[best], seed_end = walk.end[best];
    const std::int64_t seed = within(walk.index[best], walk.candidates);
    const Split split =
        partition(walk, left, [&](std::int64_t i, double candidate_start, double candidate_end, double*) {
          return i != best &&
                 !(overlap_with(p.overlap, candidate_start, candidate_end, seed_start, seed_end) > p.iou_threshold);
        });
    fuse_members(walk, p, rows, split.taken, seed, kept.fused + group.begin + clusters);
    for (std::int64_t r = threadIdx.x; r < split.taken; r += kThreads)
      p.membership[group.begin + within(walk.members[r], walk.candidates)] = clusters;
    ++clusters;
    left = split.left;
    best = split.best;
    __syncthreads();
  }
  const double* fused_score = kept.fused + kScore * p.total + group.begin;
  for (std::int64_t c = threadIdx.x; c < clusters; c += kThreads) {
    const std::int64_t key = sort_key(fused_score[c]);
    std::int64_t rank = 0;
#pragma unroll 1
    for (std::int64_t other = 0; other < clusters; ++other) {
      const std::int64_t at = sort_key(fused_score[other]);
      rank += at > key || (at == key && other < c) ? 1 : 0;
    }
    walk.rank[c] = rank;
    kept.order[group.begin + rank] = c;
  }
  __syncthreads();
  for (std::int64_t i = group.begin + threadIdx.x; i < group.end; i += kThreads)
    p.membership[i] = walk.rank[within(p.membership[i], clusters)];
  if (threadIdx.x == 0) p.packed_offsets[blockIdx.x + 1] = clusters;
}

// Traffic and ownership as in fuse_groups, without the members' part; soft suppression reads and writes all that is
// left for each segment kept.
__global__ void __launch_bounds__(kThreads) suppress_groups(SuppressParams p) {
  const FuseKept kept = fuse_kept(p.scratch, p.groups, p.total);
  const Range group = group_range(p.offsets, blockIdx.x, p.total);
  const Walk walk = walk_of(p.scratch, p.total, group);
  std::int64_t best = fill(walk, group_rows(p, group));
  std::int64_t left = walk.candidates, seeds = 0;
  while (left > 0) {
    const double seed_start = walk.start[best], seed_end = walk.end[best];
    if (threadIdx.x == 0) {
      const std::int64_t index = within(walk.index[best], walk.candidates);
      kept.fused[group.begin + index] = walk.score[best];
      kept.order[group.begin + seeds] = index;
    }
    ++seeds;
    const Split split =
        partition(walk, left, [&](std::int64_t i, double candidate_start, double candidate_end, double* value) {
          const double shared = overlap_with(p.overlap, candidate_start, candidate_end, seed_start, seed_end);
          if (p.sigma <= 0.0) return i != best && !(shared > p.iou_threshold);
          *value = decayed(*value, shared, p.sigma);
          return i != best && *value > p.min_score;
        });
    left = split.left;
    best = split.best;
  }
  if (threadIdx.x == 0) p.packed_offsets[blockIdx.x + 1] = seeds;
}

// What is packed: the fused segments, or those that were kept, with the scores at which they were picked.
__device__ __forceinline__ Rows packed_from(const FuseParams& p, const FuseKept& kept) {
  return {kept.fused, kept.fused + kEnd * p.total, kept.fused + kScore * p.total, kept.fused + kWeight * p.total};
}
__device__ __forceinline__ Rows packed_from(const SuppressParams& p, const FuseKept& kept) {
  return {p.start, p.end, kept.fused, p.weight};
}

// Traffic: 40 bytes a row gathered, 32 to 40 written, coalesced; of the fusion 16 bytes a candidate more. Ownership:
// one block a group.
template <class Params>
__global__ void __launch_bounds__(kThreads) pack_groups(Params p) {
  const FuseKept kept = fuse_kept(p.scratch, p.groups, p.total);
  const Rows rows = packed_from(p, kept);
  const Range group = group_range(p.offsets, blockIdx.x, p.total);
  const std::int64_t first = p.packed_offsets[blockIdx.x], stride = p.packed_offsets[p.groups];
  for (std::int64_t at = first + threadIdx.x; at < p.packed_offsets[blockIdx.x + 1]; at += kThreads) {
    const std::int64_t source = within(group.begin + kept.order[group.begin + at - first], p.total);
#pragma unroll
    for (int row = 0; row < kFuseRows; ++row) p.packed[row * stride + at] = rows.at(row, source);
    if constexpr (std::is_same_v<Params, SuppressParams>) p.index[at] = source;
  }
  if constexpr (std::is_same_v<Params, FuseParams>)
    for (std::int64_t i = group.begin + threadIdx.x; i < group.end; i += kThreads) p.membership[i] += first;
}

}  // namespace

void fuse_segments_cuda(const FuseParams& p, void* stream) {
  const char* op = "fuse_segments";
  const dim3 grid = grid_1d(op, p.groups);
  launch(op, fuse_groups, grid, dim3(kThreads), 0, stream, p);
  launch_scan_counts(op, p.packed_offsets, p.groups, stream, p.total);
  launch(op, pack_groups<FuseParams>, grid, dim3(kThreads), 0, stream, p);
}

void suppress_segments_cuda(const SuppressParams& p, void* stream) {
  const char* op = "suppress_segments";
  const dim3 grid = grid_1d(op, p.groups);
  launch(op, suppress_groups, grid, dim3(kThreads), 0, stream, p);
  launch_scan_counts(op, p.packed_offsets, p.groups, stream, p.total);
  launch(op, pack_groups<SuppressParams>, grid, dim3(kThreads), 0, stream, p);
}

}  // namespace pyws
