#include "fuse_segments.h"

#include <algorithm>
#include <utility>

#include "fuse_segments_simd.h"
#include "parallel.h"

namespace pyws {
namespace {

constexpr double kNanosecondsPerCandidate = 20.0;

// Indices of a group by rising start, as good as a few buckets can: only speed depends on it. `counts` is scratch.
void line_up(const double* start, std::int64_t size, std::int64_t* index, std::int64_t* counts) {
  const std::int64_t buckets = size / 4;
  if (buckets < 8) {
    for (std::int64_t i = 0; i < size; ++i) index[i] = i;
    return;
  }
  double low = start[0], high = start[0];
  for (std::int64_t i = 1; i < size; ++i) low = lower(start[i], low), high = higher(start[i], high);
  const double scale = static_cast<double>(buckets) / (high - low);
  const auto bucket = [=](std::int64_t i) {
    const double at = (start[i] - low) * scale;
    return at > 0.0 ? static_cast<std::int64_t>(lower(at, static_cast<double>(buckets - 1))) : 0;
  };
  std::fill(counts, counts + buckets, 0);
  for (std::int64_t i = 0; i < size; ++i) ++counts[bucket(i)];
  for (std::int64_t b = 0, before = 0; b < buckets; ++b) before += std::exchange(counts[b], before);
  for (std::int64_t i = 0; i < size; ++i) index[counts[bucket(i)]++] = i;
}

// Rows of the scratch, as one group sees them.
struct Scratch {
  Candidates left;
  double* member[kFuseRows];  // start, end, score, weight of the members
  double* g;
  std::int64_t* members;
  std::int64_t* rank;  // of the clusters in the end; an order of members before

  Scratch(double* scratch, std::int64_t groups, std::int64_t total, std::int64_t index, Range group) {
    const std::int64_t row = total + kFuseBlock * groups;
    double* at = scratch + group.begin + kFuseBlock * index;
    const std::int64_t blocks = ceil_div(group.end - group.begin, kFuseBlock);
    double* bounds = at + 3 * row;
    left = {at,     at + row,        at + 2 * row,        reinterpret_cast<std::int64_t*>(at + 11 * row),
            bounds, bounds + blocks, bounds + 2 * blocks, blocks};
    for (int k = 0; k < kFuseRows; ++k) member[k] = at + (4 + k) * row;
    g = at + 8 * row;
    members = reinterpret_cast<std::int64_t*>(at + 9 * row);
    rank = reinterpret_cast<std::int64_t*>(at + 10 * row);
  }

  void fill(const FuseLoops& loops, const double* start, const double* end, const double* score, Range group) {
    const std::int64_t size = group.end - group.begin, room = left.blocks * kFuseBlock;
    line_up(start + group.begin, size, left.index, rank);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t from = group.begin + left.index[i];
      left.start[i] = start[from], left.end[i] = end[from], left.score[i] = score[from];
    }
    std::fill(left.start + size, left.start + room, kNone);
    std::fill(left.end + size, left.end + room, kNone);
    std::fill(left.score + size, left.score + room, -kInfinity);
    loops.summarize(&left);
  }
};

// The best candidate left; false where there is none.
bool pick(const FuseLoops& loops, const Candidates& left, Seed* seed) {
  const std::int64_t position = loops.best(&left);
  if (position < 0) return false;
  *seed = {left.start[position], left.end[position], position};
  return true;
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
    for (int row = 0; row < kFuseRows; ++row)
      for (std::int64_t r = 0; r < size; ++r) scratch.member[row][r] = rows[row][scratch.members[r]];
    if (distribution == kSigned) {
      const std::int64_t first = std::find(scratch.members, scratch.members + size, seed) - scratch.members;
      fuse_signed(scratch, size, within(first, size), temperature, fused);
    } else {
      double whole = 0.0;
      if (distribution != kUniform) {
        loops.softmax(scratch.member[3], size, temperature, scratch.g);
        whole = loops.total(scratch.g, size);
      }
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

double mean_size(std::int64_t groups, std::int64_t total) {
  return static_cast<double>(total) / static_cast<double>(max64(groups, 1));
}

}  // namespace

void fuse_segments_cpu(const double* start, const double* end, const double* score, const double* weight,
                       const std::int64_t* offsets, std::int64_t groups, std::int64_t total, int overlap,
                       double threshold, int distribution, double temperature, double dof, double* scratch,
                       double* fused, std::int64_t* order, std::int64_t* membership, std::int64_t* fused_offsets,
                       int threads) {
  const Fusion fusion{fuse_loops(), overlap, threshold, distribution, temperature, dof};
  const double cost = kNanosecondsPerCandidate * mean_size(groups, total);
  parallel_for(groups, cost, threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const Range range = group_range(offsets, group, total);
      Scratch at(scratch, groups, total, group, range);
      at.fill(fusion.loops, start, end, score, range);
      const double* rows[kFuseRows] = {start + range.begin, end + range.begin, score + range.begin,
                                       weight + range.begin};
      std::fill(membership + range.begin, membership + range.end, 0);
      std::int64_t clusters = 0;
      for (Seed seed; pick(fusion.loops, at.left, &seed); ++clusters) {
        const std::int64_t size = fusion.loops.split(&at.left, seed, overlap, threshold, at.members);
        std::sort(at.members, at.members + size);
        double* out[kFuseRows];
        for (int row = 0; row < kFuseRows; ++row) out[row] = fused + row * total + range.begin + clusters;
        fusion.fuse(at, rows, size, at.left.index[seed.position], out);
        for (std::int64_t r = 0; r < size; ++r) membership[range.begin + at.members[r]] = clusters;
      }
      sort_clusters(fused + 2 * total + range.begin, clusters, order + range.begin);
      for (std::int64_t c = 0; c < clusters; ++c) at.rank[within(order[range.begin + c], clusters)] = c;
      for (std::int64_t i = range.begin; i < range.end; ++i) membership[i] = at.rank[within(membership[i], clusters)];
      fused_offsets[group + 1] = clusters;
    }
  });
  scan_counts(fused_offsets, groups);
  parallel_for(groups, 0.5 * mean_size(groups, total), threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const Range range = group_range(offsets, group, total);
      for (std::int64_t i = range.begin; i < range.end; ++i) membership[i] += fused_offsets[group];
    }
  });
}

void suppress_segments_cpu(const double* start, const double* end, const double* score, const std::int64_t* offsets,
                           std::int64_t groups, std::int64_t total, int overlap, double threshold, double sigma,
                           double min_score, double* scratch, double* kept_score, std::int64_t* order,
                           std::int64_t* kept_offsets, int threads) {
  const FuseLoops& loops = fuse_loops();
  const double cost = kNanosecondsPerCandidate * mean_size(groups, total);
  parallel_for(groups, cost, threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const Range range = group_range(offsets, group, total);
      Scratch at(scratch, groups, total, group, range);
      at.fill(loops, start, end, score, range);
      std::int64_t kept = 0;
      for (Seed seed; pick(loops, at.left, &seed);) {
        const double best = at.left.score[seed.position];
        if (sigma > 0.0 && kept > 0 && !(best > min_score)) break;  // nor are those behind it
        const std::int64_t index = at.left.index[seed.position];
        kept_score[range.begin + index] = best;
        order[range.begin + kept++] = index;
        if (sigma > 0.0) {
          loops.decay(&at.left, seed, overlap, sigma);
        } else {
          loops.split(&at.left, seed, overlap, threshold, at.members);
        }
      }
      kept_offsets[group + 1] = kept;
    }
  });
  scan_counts(kept_offsets, groups);
}

void pack_segments_cpu(const double* start, const double* end, const double* score, const double* weight,
                       const std::int64_t* order, const std::int64_t* offsets, const std::int64_t* packed_offsets,
                       std::int64_t groups, std::int64_t total, std::int64_t packed_total, double* packed,
                       std::int64_t* index, int threads) {
  const double* rows[kFuseRows] = {start, end, score, weight};
  parallel_for(groups, 4.0 * mean_size(groups, packed_total), threads, [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t group = begin; group < last; ++group) {
      const std::int64_t from = group_range(offsets, group, total).begin;
      for (std::int64_t at = packed_offsets[group]; at < packed_offsets[group + 1]; ++at) {
        const std::int64_t source = within(from + order[from + at - packed_offsets[group]], total);
        for (int row = 0; row < kFuseRows; ++row) packed[row * packed_total + at] = rows[row][source];
        if (index != nullptr) index[at] = source;
      }
    }
  });
}

}  // namespace pyws
