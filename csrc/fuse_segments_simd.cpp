#include "fuse_segments_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

void summarize_block(const Candidates& all, std::int64_t block) {
  const double* start = all.start + block * kFuseBlock;
  const double* end = all.end + block * kFuseBlock;
  const double* score = all.score + block * kFuseBlock;
  double low[4], high[4], best[4];
  for (int k = 0; k < 4; ++k) low[k] = kInfinity, high[k] = best[k] = -kInfinity;
  for (int i = 0; i < kFuseBlock; i += 4) {
    for (int k = 0; k < 4; ++k) low[k] = lower(start[i + k], low[k]);
    for (int k = 0; k < 4; ++k) high[k] = higher(end[i + k], high[k]);
    for (int k = 0; k < 4; ++k) best[k] = higher(score[i + k], best[k]);
  }
  all.low[block] = lower(lower(low[0], low[1]), lower(low[2], low[3]));
  all.high[block] = higher(higher(high[0], high[1]), higher(high[2], high[3]));
  all.best[block] = higher(higher(best[0], best[1]), higher(best[2], best[3]));
}

void summarize(const Candidates* all) {
  for (std::int64_t block = 0; block < all->blocks; ++block) summarize_block(*all, block);
}

std::int64_t best(const Candidates* left) {
  constexpr int kLanes = 8;
  double lanes[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = -kInfinity;
  std::int64_t block = 0;
  for (; block + kLanes <= left->blocks; block += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = higher(left->best[block + lane], lanes[lane]);
  for (; block < left->blocks; ++block) lanes[0] = higher(left->best[block], lanes[0]);
  double highest = lanes[0];
  for (int lane = 1; lane < kLanes; ++lane) highest = higher(lanes[lane], highest);
  if (highest == -kInfinity) return -1;
  std::int64_t found = -1;
  for (std::int64_t first = 0; first < left->blocks; first += kLanes) {
    const std::int64_t last = min64(first + kLanes, left->blocks);
    std::int64_t any = last - first < kLanes ? 1 : 0;
    for (int lane = 0; lane < kLanes && last - first == kLanes; ++lane)
      any |= left->best[first + lane] == highest ? 1 : 0;
    for (block = first; any != 0 && block < last; ++block) {
      if (left->best[block] != highest) continue;
      for (std::int64_t i = block * kFuseBlock; i < (block + 1) * kFuseBlock; ++i)
        if (left->score[i] == highest && (found < 0 || left->index[i] < left->index[found])) found = i;
    }
  }
  return found;
}

inline __attribute__((always_inline)) void take_out(const Candidates& left, std::int64_t i) {
  left.start[i] = left.end[i] = kNone;
  left.score[i] = -kInfinity;
}

// Calls visit(block) for the blocks whose bounds meet the seed, or that hold it.
template <class Visit>
inline __attribute__((always_inline)) void each_near_block(const Candidates& left, Seed seed, double one,
                                                           const Visit& visit) {
  constexpr int kGroup = 8;
  const std::int64_t own = seed.position / kFuseBlock;
  const auto near = [&](std::int64_t block) {
    return lower(left.high[block], seed.end) - higher(left.low[block], seed.start) + one > 0.0;
  };
  for (std::int64_t first = 0; first < left.blocks; first += kGroup) {
    const std::int64_t last = min64(first + kGroup, left.blocks);
    if (last - first == kGroup) {
      std::int64_t any = 0;
      for (int k = 0; k < kGroup; ++k) any |= near(first + k) ? 1 : 0;
      if (any == 0 && (own < first || own >= last)) continue;
    }
    for (std::int64_t block = first; block < last; ++block)
      if (near(block) || block == own) visit(block);
  }
}

template <int kRule>
std::int64_t split_by(const Candidates& left, Seed seed, double threshold, std::int64_t* members) {
  const double one = kRule == kOverlapOwn ? 1.0 : 0.0;
  // A product just below the threshold finds who may pass; the quotient decides. Most need no division.
  const double nearly = threshold * (1.0 - 1e-9);
  std::int64_t taken = 0;
  each_near_block(left, seed, one, [&](std::int64_t block) {
    const std::int64_t first = block * kFuseBlock;
    std::int64_t passes[kFuseBlock], any = 0;  // as wide as a double, so that the loop is vectorised
    for (int k = 0; k < kFuseBlock; ++k) {
      const double start = left.start[first + k], end = left.end[first + k];
      const double shared = lower(end, seed.end) - higher(start, seed.start) + one;
      const double own = end - start + one;
      const double area = kRule == kOverlapOwn ? own : own + (seed.end - seed.start) - shared;
      passes[k] = (shared > 0.0 ? shared : -1.0) >= nearly * area ? 1 : 0;
      any |= passes[k];
    }
    const std::int64_t seed_at = seed.position - first;
    const bool holds_seed = seed_at >= 0 && seed_at < kFuseBlock;
    if (any == 0 && !holds_seed) return;
    const std::int64_t before = taken;
    for (int k = 0; k < kFuseBlock; ++k) {
      const std::int64_t i = first + k;
      if (k != seed_at) {
        if (passes[k] == 0) continue;
        if (!(overlap_with(kRule, left.start[i], left.end[i], seed.start, seed.end) > threshold)) continue;
      }
      members[taken++] = left.index[i];
      take_out(left, i);
    }
    if (taken != before) summarize_block(left, block);
  });
  return taken;
}

std::int64_t split(const Candidates* left, Seed seed, int overlap, double threshold, std::int64_t* members) {
  return overlap == kOverlapOwn ? split_by<kOverlapOwn>(*left, seed, threshold, members)
                                : split_by<kOverlapIou>(*left, seed, threshold, members);
}

void decay(const Candidates* left, Seed seed, int overlap, double sigma) {
  const double one = overlap == kOverlapOwn ? 1.0 : 0.0;
  take_out(*left, seed.position);
  each_near_block(*left, seed, one, [&](std::int64_t block) {
    for (std::int64_t i = block * kFuseBlock; i < (block + 1) * kFuseBlock; ++i) {
      if (left->score[i] == -kInfinity) continue;
      const double shared = overlap_with(overlap, left->start[i], left->end[i], seed.start, seed.end);
      left->score[i] = decayed(left->score[i], shared, sigma);
    }
    summarize_block(*left, block);
  });
}

void softmax(const double* weight, std::int64_t size, double temperature, double* g) {
  double highest = weight[0];
  for (std::int64_t r = 1; r < size; ++r) highest = higher(weight[r], highest);
  for (std::int64_t r = 0; r < size; ++r) g[r] = exp_nonpositive((weight[r] - highest) / temperature);
}

inline __attribute__((always_inline)) double add_lanes(const double* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// The sum of term(r) over members r, in the order that the header promises.
template <class Term>
inline __attribute__((always_inline)) double lane_sum(std::int64_t size, const Term& term) {
  double lanes[kFuseLanes] = {};
  std::int64_t r = 0;
  for (; r + kFuseLanes <= size; r += kFuseLanes)
    for (int lane = 0; lane < kFuseLanes; ++lane) lanes[lane] += term(r + lane);
  for (; r < size; ++r) lanes[r % kFuseLanes] += term(r);
  return add_lanes(lanes);
}

double total(const double* g, std::int64_t size) {
  return lane_sum(size, [=](std::int64_t r) { return g[r]; });
}

double moment(const double* x, const double* g, std::int64_t size, double origin) {
  return lane_sum(size, [=](std::int64_t r) { return g[r] * (x[r] - origin); });
}

void student_mean(const double* x, const double* g, std::int64_t size, double origin, double m, double variance,
                  double dof, double sums[2]) {
  sums[0] = lane_sum(size, [=](std::int64_t r) { return g[r] * student_share(x[r], m, variance, dof); });
  sums[1] =
      lane_sum(size, [=](std::int64_t r) { return g[r] * student_share(x[r], m, variance, dof) * (x[r] - origin); });
}

double student_square(const double* x, const double* g, std::int64_t size, double centre, double m, double variance,
                      double dof) {
  return lane_sum(size, [=](std::int64_t r) {
    return g[r] * student_share(x[r], m, variance, dof) * ((x[r] - centre) * (x[r] - centre));
  });
}

}  // namespace

const FuseLoops fuse_loops = {summarize, best, split, decay, softmax, total, moment, student_mean, student_square};

}  // namespace PYWS_ISA
}  // namespace pyws
