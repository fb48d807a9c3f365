#include "fuse_segments/fuse_segments.h"

#include <algorithm>
#include <utility>

#include "common/parallel.h"
#include "fuse_segments/fuse_segments_simd.h"

namespace pyws {
namespace {

constexpr double kNanosecondsPerCandidate = 20.0;

// Lists 0..size-1 roughly by falling x: by bucket. `keys` has size + buckets.
void sort_by_bucket(const FuseLoops& loops, const double* x, std::int64_t size, std::int64_t buckets,
                    std::int64_t* keys, std::int64_t* order) {
  if (size == 0) return;
  std::int64_t *bucket = keys, *ends = keys + size;
  loops.buckets(x, size, buckets, bucket);
  std::fill(ends, ends + buckets, 0);
  for (std::int64_t i = 0; i < size; ++i) ++ends[bucket[i]];
  for (std::int64_t b = 0, before = 0; b < buckets; ++b) before += std::exchange(ends[b], before);
  for (std::int64_t i = 0; i < size; ++i) order[ends[bucket[i]]++] = i;
}

// Lists 0..size-1 by falling x, equal ones by rising index. `keys` has 3 * size.
void sort_falling(const FuseLoops& loops, const double* x, std::int64_t size, std::int64_t* keys, std::int64_t* order) {
  sort_by_bucket(loops, x, size, 2 * size, keys, order);
  std::int64_t *key = keys, moves = 0;
  for (std::int64_t k = 0; k < size; ++k) key[k] = sort_key(x[order[k]]);
  for (std::int64_t k = 1; k < size && moves <= 16 * size; ++k) {
    if (key[k - 1] >= key[k]) continue;
    const std::int64_t own = key[k], index = order[k];
    std::int64_t to = k;
    for (; to > 0 && key[to - 1] < own; --to) key[to] = key[to - 1], order[to] = order[to - 1];
    key[to] = own, order[to] = index;
    moves += k - to;
  }
  if (moves <= 16 * size) return;  // else most are in a few buckets
  std::sort(order, order + size, [x](std::int64_t a, std::int64_t b) {
    return sort_key(x[a]) > sort_key(x[b]) || (sort_key(x[a]) == sort_key(x[b]) && a < b);
  });
}

// One group's part of the scratch. A thread works on all its groups in the same place, which stays in the caches.
struct Scratch {
  Candidates all;
  std::int64_t* order;        // positions of the candidates, the best first; later of members, or the clusters' ranks
  std::int64_t* seeds;        // seeds of the clusters: the index of the seed,
  std::int64_t* ends;         // how many members it has and then where they end,
  double* top;                // their highest weight, in place of all.owner
  double* member[kFuseRows];  // start, end, score, weight cluster by cluster, of each by rising index
  double* g;
  std::int64_t* keys;  // for sorting, in place of member

  // `first`: the place, in the scratch, of the first group of the thread; `whole`: all places.
  Scratch(double* scratch, std::int64_t first, std::int64_t whole, std::int64_t size) {
    const std::int64_t blocks = ceil_div(size, kFuseBlock), length = blocks * kFuseBlock;
    double* begin = scratch + kWalkRows * min64(first, whole - length);  // inside, even where offsets fall
    const auto row = [&](int k) { return begin + k * length; };
    const auto integers = [&](int k) { return reinterpret_cast<std::int64_t*>(row(k)); };
    all = {row(0), row(1), integers(3), row(2), row(2) + length / 2, blocks, integers(4), row(4), row(5)};
    order = integers(5);
    seeds = integers(6);
    ends = integers(7);
    top = row(4);
    for (int k = 0; k < kFuseRows; ++k) member[k] = row(8 + k);
    g = row(12);
    keys = integers(8);
  }

  void fill(const FuseLoops& loops, const double* start, const double* end, std::int64_t size) {
    const std::int64_t length = all.blocks * kFuseBlock;
    sort_by_bucket(loops, start, size, max64(size / 4, 1), keys, all.index);
    for (std::int64_t i = 0; i < size; ++i) all.start[i] = start[all.index[i]], all.end[i] = end[all.index[i]];
    std::fill(all.start + size, all.start + length, kNone);
    std::fill(all.end + size, all.end + length, kNone);
    loops.bound(&all);
  }

  void fill_scores(const FuseLoops& loops, const double* score, std::int64_t size) {
    for (std::int64_t i = 0; i < size; ++i) all.score[i] = score[all.index[i]];
    std::fill(all.score + size, all.score + all.blocks * kFuseBlock, -kInfinity);
    loops.rate(&all);
  }

  Seed seed_at(std::int64_t position) const { return {all.start[position], all.end[position], position}; }

  // Gives every candidate its cluster, numbered in the order of their seeds; returns how many there are.
  std::int64_t walk(const FuseLoops& loops, const double* score, std::int64_t size, Overlap overlap, double threshold) {
    sort_falling(loops, score, size, keys, order);
    std::int64_t* position = keys;
    for (std::int64_t i = 0; i < size; ++i) position[all.index[i]] = i, all.owner[i] = -1;
    std::fill(all.owner + size, all.owner + all.blocks * kFuseBlock, 0);
    std::int64_t clusters = 0;
    for (std::int64_t k = 0; k < size; ++k) {
      const std::int64_t at = position[order[k]];
      if (all.owner[at] >= 0) continue;
      ends[clusters] = loops.split(&all, seed_at(at), overlap, threshold, clusters);
      seeds[clusters++] = order[k];
    }
    return clusters;
  }

  // After walk: membership, the members' rows, and in g their weights less the highest of the cluster.
  void list_members(const double* const rows[kFuseRows], std::int64_t size, std::int64_t clusters,
                    std::int64_t* membership) const {
    for (std::int64_t i = 0; i < size; ++i) membership[all.index[i]] = all.owner[i];
    for (std::int64_t c = 0, before = 0; c < clusters; ++c) before += std::exchange(ends[c], before);
    std::fill(top, top + clusters, -kInfinity);
    for (std::int64_t i = 0; i < size; ++i) top[membership[i]] = higher(rows[kWeight][i], top[membership[i]]);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t to = ends[membership[i]]++;
      for (int row = 0; row < kFuseRows; ++row) member[row][to] = rows[row][i];
      g[to] = rows[kWeight][i] - top[membership[i]];
    }
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
  return 0.5 * (low + x[by_value[k]]);
}

double midrange(const double* x, std::int64_t size) {
  double low = x[0], high = x[0];
  for (std::int64_t r = 1; r < size; ++r) low = lower(x[r], low), high = higher(x[r], high);
  return 0.5 * (low + high);
}

// Iteratively reweighted means: the location of a Student's t with its variance, from the weighted mean m on.
double student_location(const FuseLoops& loops, const double* x, const double* g, std::int64_t size, double origin,
                        double m, double whole, double dof) {
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

// One cluster: its members' rows and weights, and the seed's rows.
struct Cluster {
  const double* member[kFuseRows];
  double* g;
  double seed[kFuseRows];
  std::int64_t size;
  std::int64_t* order;  // an order of the members
};

// The released sums of the signed rule: the seed, which is the first of the highest score, then the others by rising
// score.
void fuse_signed(const Cluster& cluster, double temperature, double fused[kFuseRows]) {
  const std::int64_t size = cluster.size;
  const double *score = cluster.member[kScore], *weight = cluster.member[kWeight];
  std::int64_t* order = cluster.order;
  for (std::int64_t r = 0; r < size; ++r) order[r] = r;
  std::swap(order[0], order[std::max_element(score, score + size) - score]);
  std::sort(order + 1, order + size, [score](std::int64_t a, std::int64_t b) {
    return sort_key(score[a]) < sort_key(score[b]) || (sort_key(score[a]) == sort_key(score[b]) && a < b);
  });
  const double origin = signed_origin(*std::max_element(weight, weight + size), temperature);
  for (std::int64_t r = 0; r < size; ++r) cluster.g[r] = exact_exp((weight[r] - origin) / temperature);
  for (int row = 0; row < kFuseRows; ++row) {
    SignedMean sums{};
    for (std::int64_t k = 0; k < size; ++k)
      sums = add_signed(sums, cluster.member[row][order[k]], weight[order[k]], cluster.g[order[k]]);
    fused[row] = signed_value(sums);
  }
}

struct Fusion {
  const FuseLoops& loops;
  Overlap overlap;
  double threshold;
  Distribution distribution;
  double temperature, dof;

  // The fused segment of a cluster.
  void fuse(const Cluster& cluster, double fused[kFuseRows]) const {
    if (distribution == kSigned) {
      fuse_signed(cluster, temperature, fused);
    } else if (cluster.size == 1) {
      std::copy(cluster.seed, cluster.seed + kFuseRows, fused);
    } else if (distribution == kUniform) {
      for (int row = 0; row < kFuseRows; ++row) fused[row] = midrange(cluster.member[row], cluster.size);
    } else if (distribution == kExponential) {
      for (int row = 0; row < kFuseRows; ++row)
        fused[row] = weighted_median(cluster.member[row], cluster.g, cluster.size, cluster.order);
    } else {  // distances from the seed keep equal members exact
      const double whole = loops.means(cluster.member, cluster.g, cluster.size, cluster.seed, fused);
      for (int row = 0; row < kFuseRows && distribution == kStudent; ++row)
        fused[row] = student_location(loops, cluster.member[row], cluster.g, cluster.size, cluster.seed[row],
                                      fused[row], whole, dof);
    }
    fused[kEnd] = higher(fused[kStart], fused[kEnd]);  // rounding must not turn a segment around
  }

  // Fuses the clusters that `at` lists; writes their rows, `total` apart.
  void fuse_all(const Scratch& at, const double* const rows[kFuseRows], std::int64_t clusters, std::int64_t total,
                double* out) const {
    for (std::int64_t c = 0, first = 0; c < clusters; first = at.ends[c++]) {
      Cluster cluster{{}, at.g + first, {}, at.ends[c] - first, at.order};
      for (int row = 0; row < kFuseRows; ++row) {
        cluster.member[row] = at.member[row] + first;
        cluster.seed[row] = rows[row][at.seeds[c]];
      }
      double fused[kFuseRows];
      fuse(cluster, fused);
      for (int row = 0; row < kFuseRows; ++row) out[row * total + c] = fused[row];
    }
  }
};

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

// Groups share their places where offsets fall: these are left to one thread.
int threads_for(const std::int64_t* offsets, std::int64_t groups, int threads) {
  return std::is_sorted(offsets, offsets + groups + 1) ? threads : 1;
}

// body(group, its range, its scratch) for every group.
template <class Params, class Body>
void for_groups(const Params& p, int threads, const Body& body) {
  const double cost = kNanosecondsPerCandidate * mean_size(p.groups, p.total);
  parallel_for(p.groups, cost, threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const Range range = group_range(p.offsets, group, p.total);
      Scratch at(p.scratch, place(p.offsets, begin, p.total), walk_places(p.total, p.groups), range.end - range.begin);
      body(group, range, at);
    }
  });
}

}  // namespace

void fuse_segments_cpu(const FuseParams& p, int threads) {
  const Fusion fusion{fuse_loops(), p.overlap, p.iou_threshold, p.distribution, p.temperature, p.dof};
  const FuseKept kept = fuse_kept(p.scratch, p.groups, p.total);
  threads = threads_for(p.offsets, p.groups, threads);
  for_groups(p, threads, [&](std::int64_t group, Range range, Scratch& at) {
    const std::int64_t size = range.end - range.begin;
    const double* rows[kFuseRows] = {p.start + range.begin, p.end + range.begin, p.score + range.begin,
                                     p.weight + range.begin};
    at.fill(fusion.loops, rows[kStart], rows[kEnd], size);
    const std::int64_t clusters = at.walk(fusion.loops, rows[kScore], size, p.overlap, p.iou_threshold);
    at.list_members(rows, size, clusters, p.membership + range.begin);
    fusion.loops.exponentials(at.g, size, p.temperature);
    fusion.fuse_all(at, rows, clusters, p.total, kept.fused + range.begin);
    const double* fused_score = kept.fused + kScore * p.total + range.begin;
    std::int64_t* order = kept.order + range.begin;
    sort_falling(fusion.loops, fused_score, clusters, at.keys, order);
    for (std::int64_t c = 0; c < clusters; ++c) at.order[order[c]] = c;
    for (std::int64_t i = range.begin; i < range.end; ++i) p.membership[i] = at.order[p.membership[i]];
    p.packed_offsets[group + 1] = clusters;
  });
  scan_counts(p.packed_offsets, p.groups, p.total);
  const double* rows[kFuseRows];
  for (int row = 0; row < kFuseRows; ++row) rows[row] = kept.fused + row * p.total;
  parallel_for(p.groups, 2.0 * mean_size(p.groups, p.total), threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const Range range = group_range(p.offsets, group, p.total);
      for (std::int64_t i = range.begin; i < range.end; ++i) p.membership[i] += p.packed_offsets[group];
      pack(rows, kept.order, range, p.total, p.packed_offsets, p.groups, group, p.packed, nullptr);
    }
  });
}

void suppress_segments_cpu(const SuppressParams& p, int threads) {
  const FuseLoops& loops = fuse_loops();
  const FuseKept kept = fuse_kept(p.scratch, p.groups, p.total);
  threads = threads_for(p.offsets, p.groups, threads);
  for_groups(p, threads, [&](std::int64_t group, Range range, Scratch& at) {
    const std::int64_t size = range.end - range.begin;
    at.fill(loops, p.start + range.begin, p.end + range.begin, size);
    std::int64_t count = 0;
    if (p.sigma > 0.0) {
      at.fill_scores(loops, p.score + range.begin, size);
      for (std::int64_t best; (best = loops.best(&at.all)) >= 0;) {
        if (count > 0 && !(at.all.score[best] > p.min_score)) break;  // nor are those behind it
        kept.fused[range.begin + at.all.index[best]] = at.all.score[best];
        kept.order[range.begin + count++] = at.all.index[best];
        loops.decay(&at.all, at.seed_at(best), p.overlap, p.sigma);
      }
    } else {
      count = at.walk(loops, p.score + range.begin, size, p.overlap, p.iou_threshold);
      std::copy(at.seeds, at.seeds + count, kept.order + range.begin);
    }
    p.packed_offsets[group + 1] = count;
  });
  scan_counts(p.packed_offsets, p.groups, p.total);
  const double* rows[kFuseRows] = {p.start, p.end, p.sigma > 0.0 ? kept.fused : p.score, p.weight};
  parallel_for(p.groups, mean_size(p.groups, p.total), threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group)
      pack(rows, kept.order, group_range(p.offsets, group, p.total), p.total, p.packed_offsets, p.groups, group,
           p.packed, p.index);
  });
}

}  // namespace pyws
