#include "fuse_segments.h"

#include <algorithm>
#include <utility>

#include "fuse_segments_simd.h"
#include "parallel.h"

namespace pyws {
namespace {

constexpr double kNanosecondsPerCandidate = 20.0;

// Sorts 0..size-1 into buckets by rising x; their ends are left in `ends`.
void line_up(const FuseLoops& loops, const double* x, std::int64_t size, std::int64_t buckets, std::int64_t* index,
             std::int64_t* ends, std::int64_t* bucket) {
  if (size == 0) return;
  loops.buckets(x, size, buckets, bucket);
  std::fill(ends, ends + buckets, 0);
  for (std::int64_t i = 0; i < size; ++i) ++ends[bucket[i]];
  for (std::int64_t b = 0, before = 0; b < buckets; ++b) before += std::exchange(ends[b], before);
  for (std::int64_t i = 0; i < size; ++i) index[ends[bucket[i]]++] = i;
}

// One group's part of the scratch. A thread works on all its groups in the same place, which stays in the caches.
struct Scratch {
  Candidates left;
  double* member[kFuseRows];  // start, end, score, weight of the members
  double* g;
  std::int64_t* members;
  std::int64_t* by_score;  // positions of the candidates, the best last
  std::int64_t* rank;      // of the clusters in the end; an order of members before

  // `first`: the place, in the scratch, of the first group of the thread; `whole`: all places.
  Scratch(double* scratch, std::int64_t first, std::int64_t whole, std::int64_t size) {
    const std::int64_t blocks = ceil_div(size, kFuseBlock), row = blocks * kFuseBlock;
    double* at = scratch + kFuseScratch * min64(first, whole - row);  // inside, even where offsets fall
    double* bounds = at + 3 * row;
    left = {at,     at + row,        at + 2 * row,        reinterpret_cast<std::int64_t*>(at + 4 * row),
            bounds, bounds + blocks, bounds + 2 * blocks, blocks};
    by_score = reinterpret_cast<std::int64_t*>(at + 5 * row);
    rank = reinterpret_cast<std::int64_t*>(at + 6 * row);
    members = reinterpret_cast<std::int64_t*>(at + 7 * row);
    g = at + 8 * row;  // behind members, which are listed a vector at a time
    for (int k = 0; k < kFuseRows; ++k) member[k] = at + (9 + k) * row;
  }

  void fill(const FuseLoops& loops, const double* start, const double* end, const double* score, Range group) {
    const std::int64_t size = group.end - group.begin, room = left.blocks * kFuseBlock;
    line_up(loops, start + group.begin, size, max64(size / 4, 1), left.index, rank,
            by_score);  // only speed depends on it
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t from = group.begin + left.index[i];
      left.start[i] = start[from], left.end[i] = end[from], left.score[i] = score[from];
    }
    std::fill(left.start + size, left.start + room, kNone);
    std::fill(left.end + size, left.end + room, kNone);
    std::fill(left.score + size, left.score + room, -kInfinity);
    loops.summarize(&left);
  }

  Seed seed_at(std::int64_t position) const { return {left.start[position], left.end[position], position}; }

  // Calls take(seed) for each candidate that is left when its turn comes: the best first, of equals the lowest index.
  template <class Take>
  void each_seed(const FuseLoops& loops, std::int64_t size, const Take& take) {
    line_up(loops, left.score, size, size, by_score, rank, members);
    const auto worse = [this](std::int64_t a, std::int64_t b) {
      const std::int64_t key = sort_key(left.score[a]), other = sort_key(left.score[b]);
      return key < other || (key == other && left.index[a] > left.index[b]);
    };
    for (std::int64_t b = 0, begin = 0; b < size; begin = rank[b++])
      if (rank[b] - begin > 1) std::sort(by_score + begin, by_score + rank[b], worse);
    for (std::int64_t k = size - 1; k >= 0; --k)
      if (left.start[by_score[k]] == left.start[by_score[k]]) take(seed_at(by_score[k]));
  }
};

// Where a thread that works on groups from `group` on has its scratch, and how many such places there are.
std::int64_t place(const std::int64_t* offsets, std::int64_t group, std::int64_t total) {
  return group_range(offsets, group, total).begin + kFuseBlock * group;
}

// The values x with at most half of the weight on either side are an interval: its middle.
double weighted_median(const double* x, const double* g, std::int64_t size, std::int64_t* by_value) {
  for (std::int64_t r = 0; r < size; ++r) by_value[r] = r;
  std::sort(by_value, by_value + size, [x](std::int64_t a, std::int64_t b) { return sort_key(x[a]) < sort_key(x[b]); });
  std::int64_t whole = 0, upto = 0, k = 0;
  for (std::int64_t r = 0; r < size; ++r) whole += median_weight(g[r]);
  for (; k + 1 < size && 2 * (upto + median_weight(g[by_value[k]])) < whole; ++k) upto += median_weight(g[by_value[k]]);
  const double low = x[by_value[k]];
  for (; k + 1 < size && 2 * (upto + median_weight(g[by_value[k]])) <= whole; ++k)
    upto += median_weight(g[by_value[k]]);
  return 0.5 * low + 0.5 * x[by_value[k]];
}

double midrange(const double* x, std::int64_t size) {
  double low = x[0], high = x[0];
  for (std::int64_t r = 1; r < size; ++r) low = lower(x[r], low), high = higher(x[r], high);
  return 0.5 * low + 0.5 * high;
}

// Iteratively reweighted means: the location of a Student's t with its variance, from the weighted mean on.
double student_location(const FuseLoops& loops, const double* x, const double* g, std::int64_t size, double origin,
                        double whole, double dof) {
  double m = origin + loops.moment(x, g, size, origin) / whole;
  // With an infinite variance every share is (dof + 1) / dof.
  double variance = loops.student_square(x, g, size, m, m, kInfinity, dof) * dof / (dof + 1.0) / whole;
  variance = higher(variance, kVarianceFloor);
  for (int step = 0; step < kStudentSteps; ++step) {
    double sums[2];
    loops.student_mean(x, g, size, origin, m, variance, dof, sums);
    const double next = origin + sums[1] / sums[0];
    const double square = loops.student_square(x, g, size, next, m, variance, dof) / whole;
    const double moved = next - m, before = variance;
    variance = higher(square, kVarianceFloor);
    m = next;
    if (student_settled(moved, variance, before)) break;
  }
  return m;
}

// The released sums of the signed rule: the seed (member `first`), then the others by rising score.
void fuse_signed(const Scratch& scratch, std::int64_t size, std::int64_t first, double temperature,
                 double* fused[kFuseRows]) {
  const double *score = scratch.member[2], *weight = scratch.member[3];
  std::int64_t* order = scratch.rank;
  for (std::int64_t r = 0; r < size; ++r) order[r] = r;
  std::swap(order[0], order[first]);
  std::sort(order + 1, order + size, [score](std::int64_t a, std::int64_t b) {
    return sort_key(score[a]) < sort_key(score[b]) || (sort_key(score[a]) == sort_key(score[b]) && a < b);
  });
  const double origin = signed_origin(*std::max_element(weight, weight + size), temperature);
  for (std::int64_t r = 0; r < size; ++r) scratch.g[r] = exact_exp((weight[r] - origin) / temperature);
  for (int row = 0; row < kFuseRows; ++row) {
    SignedMean sums{};
    for (std::int64_t k = 0; k < size; ++k)
      sums = add_signed(sums, scratch.member[row][order[k]], weight[order[k]], scratch.g[order[k]]);
    *fused[row] = signed_value(sums);
  }
}

struct Fusion {
  const FuseLoops& loops;
  int overlap;
  double threshold;
  int distribution;
  double temperature, dof;

  double locate(const Scratch& scratch, int row, std::int64_t size, double origin, double whole) const {
    const double* x = scratch.member[row];
    switch (distribution) {
      case kUniform:
        return midrange(x, size);
      case kExponential:
        return weighted_median(x, scratch.g, size, scratch.rank);
      case kStudent:
        return student_location(loops, x, scratch.g, size, origin, whole, dof);
    }
    return origin + loops.moment(x, scratch.g, size, origin) / whole;
  }

  // The fused segment of `size` members; `seed` is one of them. Distances from the seed keep equal members exact.
  void fuse(const Scratch& scratch, const double* const rows[kFuseRows], std::int64_t size, std::int64_t seed,
            double* fused[kFuseRows]) const {
    if (size == 1 && distribution != kSigned) {
      for (int row = 0; row < kFuseRows; ++row) *fused[row] = rows[row][seed];
      return;
    }
    loops.gather(rows, scratch.members, size, seed, scratch.member);
    if (distribution == kSigned) {
      const std::int64_t first = std::find(scratch.members, scratch.members + size, seed) - scratch.members;
      fuse_signed(scratch, size, within(first, size), temperature, fused);
    } else {
      double whole = 0.0;
      if (distribution != kUniform) whole = loops.softmax(scratch.member[3], size, temperature, scratch.g);
      for (int row = 0; row < kFuseRows; ++row) *fused[row] = locate(scratch, row, size, rows[row][seed], whole);
    }
    *fused[1] = higher(*fused[0], *fused[1]);  // rounding must not turn a segment around
  }
};

// Stable insertion sort by falling score: the clusters come nearly sorted, and the walk cost more.
void sort_clusters(const double* score, std::int64_t clusters, std::int64_t* order) {
  for (std::int64_t c = 0; c < clusters; ++c) {
    std::int64_t to = c;
    for (; to > 0 && sort_key(score[order[to - 1]]) < sort_key(score[c]); --to) order[to] = order[to - 1];
    order[to] = c;
  }
}

// Gathers one group's part of the answer.
void pack(const double* const rows[kFuseRows], const std::int64_t* order, Range from, std::int64_t total,
          const std::int64_t* packed_offsets, std::int64_t groups, std::int64_t group, double* packed,
          std::int64_t* index) {
  const std::int64_t first = packed_offsets[group], stride = packed_offsets[groups];
  for (std::int64_t at = first; at < packed_offsets[group + 1]; ++at) {
    const std::int64_t source = within(from.begin + order[from.begin + at - first], total);
    for (int row = 0; row < kFuseRows; ++row) packed[row * stride + at] = rows[row][source];
    if (index != nullptr) index[at] = source;
  }
}

double mean_size(std::int64_t groups, std::int64_t total) {
  return static_cast<double>(total) / static_cast<double>(max64(groups, 1));
}

}  // namespace

void fuse_segments_cpu(const double* start, const double* end, const double* score, const double* weight,
                       const std::int64_t* offsets, std::int64_t groups, std::int64_t total, int overlap,
                       double threshold, int distribution, double temperature, double dof, double* scratch,
                       double* packed, std::int64_t* packed_offsets, std::int64_t* membership, int threads) {
  const Fusion fusion{fuse_loops(), overlap, threshold, distribution, temperature, dof};
  const FuseKept kept = fuse_kept(scratch, groups, total);
  const double cost = kNanosecondsPerCandidate * mean_size(groups, total);
  parallel_for(groups, cost, threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const Range range = group_range(offsets, group, total);
      const std::int64_t candidates = range.end - range.begin;
      Scratch at(scratch, place(offsets, begin, total), total + kFuseBlock * groups, candidates);
      at.fill(fusion.loops, start, end, score, range);
      const double* rows[kFuseRows] = {start + range.begin, end + range.begin, score + range.begin,
                                       weight + range.begin};
      std::fill(membership + range.begin, membership + range.end, 0);
      std::int64_t clusters = 0;
      at.each_seed(fusion.loops, candidates, [&](Seed seed) {
        const std::int64_t size = fusion.loops.split(&at.left, seed, overlap, threshold, at.members);
        std::sort(at.members, at.members + size);
        double* out[kFuseRows];
        for (int row = 0; row < kFuseRows; ++row) out[row] = kept.fused + row * total + range.begin + clusters;
        fusion.fuse(at, rows, size, at.left.index[seed.position], out);
        for (std::int64_t r = 0; r < size; ++r) membership[range.begin + at.members[r]] = clusters;
        ++clusters;
      });
      std::int64_t* order = kept.order + range.begin;
      sort_clusters(kept.fused + 2 * total + range.begin, clusters, order);
      for (std::int64_t c = 0; c < clusters; ++c) at.rank[order[c]] = c;
      for (std::int64_t i = range.begin; i < range.end; ++i) membership[i] = at.rank[within(membership[i], clusters)];
      packed_offsets[group + 1] = clusters;
    }
  });
  scan_counts(packed_offsets, groups, total);
  const double* rows[kFuseRows];
  for (int row = 0; row < kFuseRows; ++row) rows[row] = kept.fused + row * total;
  parallel_for(groups, 2.0 * mean_size(groups, total), threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const Range range = group_range(offsets, group, total);
      for (std::int64_t i = range.begin; i < range.end; ++i) membership[i] += packed_offsets[group];
      pack(rows, kept.order, range, total, packed_offsets, groups, group, packed, nullptr);
    }
  });
}

void suppress_segments_cpu(const double* start, const double* end, const double* score, const double* weight,
                           const std::int64_t* offsets, std::int64_t groups, std::int64_t total, int overlap,
                           double threshold, double sigma, double min_score, double* scratch, double* packed,
                           std::int64_t* packed_offsets, std::int64_t* index, int threads) {
  const FuseLoops& loops = fuse_loops();
  const FuseKept kept = fuse_kept(scratch, groups, total);
  const double cost = kNanosecondsPerCandidate * mean_size(groups, total);
  parallel_for(groups, cost, threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const Range range = group_range(offsets, group, total);
      const std::int64_t candidates = range.end - range.begin;
      Scratch at(scratch, place(offsets, begin, total), total + kFuseBlock * groups, candidates);
      at.fill(loops, start, end, score, range);
      std::int64_t count = 0;
      const auto keep = [&](Seed seed) {
        const std::int64_t candidate = at.left.index[seed.position];
        kept.fused[range.begin + candidate] = at.left.score[seed.position];
        kept.order[range.begin + count++] = candidate;
      };
      if (sigma > 0.0) {
        for (std::int64_t best; (best = loops.best(&at.left)) >= 0;) {
          if (count > 0 && !(at.left.score[best] > min_score)) break;  // nor are those behind it
          keep(at.seed_at(best));
          loops.decay(&at.left, at.seed_at(best), overlap, sigma);
        }
      } else {
        at.each_seed(loops, candidates, [&](Seed seed) {
          keep(seed);
          loops.split(&at.left, seed, overlap, threshold, at.members);
        });
      }
      packed_offsets[group + 1] = count;
    }
  });
  scan_counts(packed_offsets, groups, total);
  const double* rows[kFuseRows] = {start, end, kept.fused, weight};
  parallel_for(groups, mean_size(groups, total), threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group)
      pack(rows, kept.order, group_range(offsets, group, total), total, packed_offsets, groups, group, packed, index);
  });
}

}  // namespace pyws
