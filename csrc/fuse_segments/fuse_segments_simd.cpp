#include "fuse_segments/fuse_segments_simd.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// Vectors of candidates, blocks or members are written out (GCC's and Clang's vector extension), as wide as the
// registers: compilers take comparisons of wider ones apart lane by lane.

#define PYWS_INLINE inline __attribute__((always_inline))

namespace pyws {
namespace PYWS_ISA {
namespace {

#if defined(__AVX512DQ__)
constexpr int kVector = 8;
#elif defined(__AVX2__)
constexpr int kVector = 4;
#else
constexpr int kVector = 2;
#endif
using Numbers = double __attribute__((vector_size(kVector * sizeof(double))));
using Flags = std::int64_t __attribute__((vector_size(kVector * sizeof(double))));  // 0 or -1
constexpr int kParts = kFuseLanes / kVector;                                        // vectors for the lanes of a sum

PYWS_INLINE Numbers load(const double* x) {
  Numbers loaded;
  std::memcpy(&loaded, x, sizeof(loaded));
  return loaded;
}
PYWS_INLINE Flags load(const std::int64_t* x) {
  Flags loaded;
  std::memcpy(&loaded, x, sizeof(loaded));
  return loaded;
}
PYWS_INLINE void store(Flags v, std::int64_t* x) { std::memcpy(x, &v, sizeof(v)); }

using pyws::higher;
using pyws::lower;
PYWS_INLINE Numbers lower(Numbers a, Numbers b) { return a < b ? a : b; }
PYWS_INLINE Numbers higher(Numbers a, Numbers b) { return a > b ? a : b; }
PYWS_INLINE Numbers all(double x) { return x - Numbers{}; }
PYWS_INLINE Flags all(std::int64_t x) { return x - Flags{}; }

// Bit k: the flag of lane k.
PYWS_INLINE unsigned bits_of(Flags flags) {
#if defined(__AVX512DQ__)
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(flags));
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_pd(reinterpret_cast<__m256d>(flags)));
#else
  unsigned bits = 0;
  for (int lane = 0; lane < kVector; ++lane) bits |= static_cast<unsigned>(flags[lane] & 1) << lane;
  return bits;
#endif
}

PYWS_INLINE double lowest(const Numbers& v) {
  double low = v[0];
  for (int lane = 1; lane < kVector; ++lane) low = lower(v[lane], low);
  return low;
}
PYWS_INLINE double highest(const Numbers& v) {
  double high = v[0];
  for (int lane = 1; lane < kVector; ++lane) high = higher(v[lane], high);
  return high;
}

// NaN, of who has left, bounds nothing.
PYWS_INLINE void bound_block(const Candidates& left, std::int64_t block) {
  Numbers low = all(kInfinity), high = all(-kInfinity);
  for (std::int64_t i = block * kFuseBlock; i < (block + 1) * kFuseBlock; i += kVector) {
    low = lower(load(left.start + i), low);
    high = higher(load(left.end + i), high);
  }
  left.low[block] = lowest(low);
  left.high[block] = highest(high);
}

PYWS_INLINE void score_block(const Candidates& left, std::int64_t block) {
  Numbers best = all(-kInfinity);
  for (std::int64_t i = block * kFuseBlock; i < (block + 1) * kFuseBlock; i += kVector)
    best = higher(load(left.score + i), best);
  left.best[block] = highest(best);
}

void bound(const Candidates* all) {
  for (std::int64_t block = 0; block < all->blocks; ++block) bound_block(*all, block);
  for (std::int64_t block = all->blocks; block % kFuseLanes != 0; ++block)
    all->low[block] = kInfinity, all->high[block] = -kInfinity;
}

void rate(const Candidates* all) {
  for (std::int64_t block = 0; block < all->blocks; ++block) score_block(*all, block);
  for (std::int64_t block = all->blocks; block % kFuseLanes != 0; ++block) all->best[block] = -kInfinity;
}

std::int64_t best(const Candidates* left) {
  Numbers tops = all(-kInfinity);
  for (std::int64_t block = 0; block < left->blocks; block += kVector) tops = higher(load(left->best + block), tops);
  const double top = highest(tops);
  std::int64_t found = -1;
  for (std::int64_t block = 0; block < left->blocks && top != -kInfinity; ++block) {
    if (left->best[block] != top) continue;
    for (std::int64_t i = block * kFuseBlock; i < (block + 1) * kFuseBlock; ++i)
      if (left->score[i] == top && (found < 0 || left->index[i] < left->index[found])) found = i;
  }
  return found;
}

// Calls visit(block) for the blocks whose bounds meet the seed, or that hold it. Of each 64 first all are found, then
// visited: processors predict how many there are better than where.
template <class Visit>
PYWS_INLINE void each_near_block(const Candidates& candidates, Seed seed, double one, const Visit& visit) {
  const std::int64_t own = seed.position / kFuseBlock;
  for (std::int64_t first = 0; first < candidates.blocks; first += 64) {
    const std::int64_t count = min64(candidates.blocks - first, 64);
    std::uint64_t near = own - first >= 0 && own - first < 64 ? std::uint64_t{1} << (own - first) : 0;
    for (std::int64_t k = 0; k < count; k += kVector) {
      const Numbers low = load(candidates.low + first + k), high = load(candidates.high + first + k);
      const Flags meets = lower(high, all(seed.end)) - higher(low, all(seed.start)) + one > 0.0;
      near |= static_cast<std::uint64_t>(bits_of(meets)) << k;
    }
    for (; near != 0; near &= near - 1) visit(first + __builtin_ctzll(near));
  }
}

// Which candidates of a vector overlap the seed by more than the threshold? As overlap_with.
template <int kRule>
PYWS_INLINE Flags overlapping(const double* starts, const double* ends, Seed seed, double threshold) {
  const double one = kRule == kOverlapOwn ? 1.0 : 0.0;
  const Numbers start = load(starts), end = load(ends);
  const Numbers shared = higher(all(0.0), lower(end, all(seed.end)) - higher(start, all(seed.start)) + one);
  const Numbers own = end - start + one;
  return shared / (kRule == kOverlapOwn ? own : own + (seed.end - seed.start) - shared) > threshold;
}

template <int kRule>
std::int64_t split_by(const Candidates& left, Seed seed, double threshold, std::int64_t cluster) {
  std::int64_t taken = 0;
  each_near_block(left, seed, kRule == kOverlapOwn ? 1.0 : 0.0, [&](std::int64_t block) {
    Flags some{};
    for (std::int64_t first = block * kFuseBlock; first < (block + 1) * kFuseBlock; first += kVector) {
      const Flags before = load(left.owner + first);
      const Flags take = (before < 0) & overlapping<kRule>(left.start + first, left.end + first, seed, threshold);
      const Flags after = take ? all(cluster) : before;
      store(after, left.owner + first);
      taken += __builtin_popcount(bits_of(take));
      some |= after;
    }
    if (bits_of(some < 0) == 0) left.low[block] = kInfinity;  // nothing is left: it meets nothing any more
  });
  if (left.owner[seed.position] < 0) {
    left.owner[seed.position] = cluster;
    ++taken;
  }
  return taken;
}

std::int64_t split(const Candidates* left, Seed seed, Overlap overlap, double threshold, std::int64_t cluster) {
  return overlap == kOverlapOwn ? split_by<kOverlapOwn>(*left, seed, threshold, cluster)
                                : split_by<kOverlapIou>(*left, seed, threshold, cluster);
}

void decay(const Candidates* left, Seed seed, Overlap overlap, double sigma) {
  const double one = overlap == kOverlapOwn ? 1.0 : 0.0;
  left->start[seed.position] = left->end[seed.position] = kNone;
  left->score[seed.position] = -kInfinity;
  each_near_block(*left, seed, one, [&](std::int64_t block) {
    for (std::int64_t i = block * kFuseBlock; i < (block + 1) * kFuseBlock; ++i) {
      if (left->score[i] == -kInfinity) continue;
      const double shared = overlap_with(overlap, left->start[i], left->end[i], seed.start, seed.end);
      left->score[i] = decayed(left->score[i], shared, sigma);
    }
    bound_block(*left, block);
    score_block(*left, block);
  });
}

void buckets(const double* x, std::int64_t size, std::int64_t count, std::int64_t* bucket) {
  const std::int64_t whole = size / kVector * kVector;
  Numbers lows = all(x[0]), highs = lows, odds{};
  for (std::int64_t i = 0; i < whole; i += kVector) {
    const Numbers v = load(x + i);
    lows = lower(v, lows), highs = higher(v, highs), odds += v * 0.0;
  }
  double low = lowest(lows), high = highest(highs), odd = 0.0;  // NaN where some are not finite
  for (int lane = 0; lane < kVector; ++lane) odd += odds[lane];
  for (std::int64_t i = whole; i < size; ++i) low = lower(x[i], low), high = higher(x[i], high), odd += x[i] * 0.0;
  const double scale = odd == 0.0 ? static_cast<double>(count) / (high - low) : 0.0;
  const double last = static_cast<double>(count - 1);
  for (std::int64_t i = 0; i < size; ++i) {
    const double at = (high - x[i]) * scale;
    const double shifted = (at > 0.0 ? lower(at, last) : 0.0) + 4503599627370496.0;  // 2^52: the last bits count ones
    bucket[i] = bit_cast<std::int64_t>(shifted) & ((std::int64_t{1} << 52) - 1);
  }
}

void exponentials(double* g, std::int64_t size, double temperature) {
  for (std::int64_t r = 0; r < size; ++r) g[r] = exp_nonpositive(g[r] / temperature);
}

// Sums over members, in the order that fuse_segments.h promises. Those beyond `size` are read, not used.
struct LaneSum {
  Numbers part[kParts] = {};

  template <class Term>
  PYWS_INLINE void add(std::int64_t first, std::int64_t size, const Term& term) {
    constexpr std::int64_t kLanes[kFuseLanes] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int k = 0; k < kParts; ++k)
      part[k] += load(kLanes + k * kVector) < size - first ? term(first + k * kVector) : all(0.0);
  }

  PYWS_INLINE double total() const {
    double v[kFuseLanes];
    std::memcpy(v, part, sizeof(v));
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
  }
};

template <class Term>
PYWS_INLINE double lane_sum(std::int64_t size, const Term& term) {
  LaneSum sum;
  for (std::int64_t r = 0; r < size; r += kFuseLanes) sum.add(r, size, term);
  return sum.total();
}

double means(const double* const member[kFuseRows], const double* g, std::int64_t size, const double origin[kFuseRows],
             double mean[kFuseRows]) {
  LaneSum shares, moments[kFuseRows];
  for (std::int64_t first = 0; first < size; first += kFuseLanes) {
    shares.add(first, size, [=](std::int64_t r) { return load(g + r); });
    for (int row = 0; row < kFuseRows; ++row)
      moments[row].add(first, size,
                       [&](std::int64_t r) { return load(g + r) * (load(member[row] + r) - origin[row]); });
  }
  const double whole = shares.total();
  for (int row = 0; row < kFuseRows; ++row) mean[row] = origin[row] + moments[row].total() / whole;
  return whole;
}

PYWS_INLINE Numbers student_shares(const Numbers& x, double m, double variance, double dof) {
  return (dof + 1.0) / (dof + (x - m) * (x - m) / variance);
}

void student_mean(const double* x, const double* g, std::int64_t size, double origin, double m, double variance,
                  double dof, double sums[2]) {
  const auto shares = [=](std::int64_t r) { return load(g + r) * student_shares(load(x + r), m, variance, dof); };
  sums[0] = lane_sum(size, shares);
  sums[1] = lane_sum(size, [=](std::int64_t r) { return shares(r) * (load(x + r) - origin); });
}

double student_square(const double* x, const double* g, std::int64_t size, double centre, double m, double variance,
                      double dof) {
  return lane_sum(size, [=](std::int64_t r) {
    const Numbers away = load(x + r) - centre;
    return load(g + r) * student_shares(load(x + r), m, variance, dof) * (away * away);
  });
}

}  // namespace

const FuseLoops fuse_loops = {bound,   rate,         split, best,         decay,
                              buckets, exponentials, means, student_mean, student_square};

}  // namespace PYWS_ISA
}  // namespace pyws
