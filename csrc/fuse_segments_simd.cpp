#include "fuse_segments_simd.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// Vectors of eight candidates, blocks or members are written out (GCC's and Clang's vector extension).
#pragma GCC diagnostic ignored "-Wpsabi"  // they are passed to inlined functions only

#define PYWS_INLINE inline __attribute__((always_inline))

namespace pyws {
namespace PYWS_ISA {
namespace {

constexpr int kVector = 8;
using Numbers = double __attribute__((vector_size(kVector * sizeof(double))));
using Flags = std::int64_t __attribute__((vector_size(kVector * sizeof(double))));  // 0 or -1
static_assert(kFuseBlock == 2 * kVector && kFuseLanes == kVector, "a block is two vectors, the lanes of a sum are one");

PYWS_INLINE Numbers load(const double* x) {
  Numbers loaded;
  std::memcpy(&loaded, x, sizeof(loaded));
  return loaded;
}
PYWS_INLINE void store(Numbers v, double* x) { std::memcpy(x, &v, sizeof(v)); }

using pyws::higher;
using pyws::lower;
PYWS_INLINE Numbers lower(Numbers a, Numbers b) { return a < b ? a : b; }
PYWS_INLINE Numbers higher(Numbers a, Numbers b) { return a > b ? a : b; }
PYWS_INLINE Numbers all(double x) { return Numbers{x, x, x, x, x, x, x, x}; }

// Bit k: the flag of lane k.
PYWS_INLINE unsigned bits_of(Flags flags) {
#if defined(__AVX512DQ__)
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(flags));
#elif defined(__AVX2__)
  __m256d halves[2];
  std::memcpy(halves, &flags, sizeof(flags));
  return static_cast<unsigned>(_mm256_movemask_pd(halves[0]) | _mm256_movemask_pd(halves[1]) << 4);
#else
  unsigned bits = 0;
  for (int lane = 0; lane < kVector; ++lane) bits |= static_cast<unsigned>(flags[lane] & 1) << lane;
  return bits;
#endif
}

// Lists the indices whose bits are set, one behind the other, and returns their number; a whole vector may be written.
PYWS_INLINE std::int64_t list(const std::int64_t* index, unsigned bits, std::int64_t* out) {
#if defined(__AVX512F__)
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi64(static_cast<__mmask8>(bits), _mm512_loadu_si512(index)));
#else
  for (unsigned rest = bits; rest != 0; rest &= rest - 1) *out++ = index[__builtin_ctz(rest)];
#endif
  return __builtin_popcount(bits);
}

// Overwrites the lanes whose bits are set.
PYWS_INLINE void overwrite(double* x, unsigned bits, double value) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_pd(x, static_cast<__mmask8>(bits), _mm512_set1_pd(value));
#else
  for (; bits != 0; bits &= bits - 1) x[__builtin_ctz(bits)] = value;
#endif
}

PYWS_INLINE double lowest(const Numbers& v) {
  return lower(lower(lower(v[0], v[4]), lower(v[2], v[6])), lower(lower(v[1], v[5]), lower(v[3], v[7])));
}
PYWS_INLINE double highest(const Numbers& v) {
  return higher(higher(higher(v[0], v[4]), higher(v[2], v[6])), higher(higher(v[1], v[5]), higher(v[3], v[7])));
}
PYWS_INLINE double sum(const Numbers& v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

// NaN, of who has left, bounds nothing.
PYWS_INLINE void bound_block(const Candidates& left, std::int64_t block) {
  const double *start = left.start + block * kFuseBlock, *end = left.end + block * kFuseBlock;
  left.low[block] = lowest(lower(load(start), lower(load(start + kVector), all(kInfinity))));
  left.high[block] = highest(higher(load(end), higher(load(end + kVector), all(-kInfinity))));
}

PYWS_INLINE void score_block(const Candidates& left, std::int64_t block) {
  const double* score = left.score + block * kFuseBlock;
  left.best[block] = highest(higher(load(score), higher(load(score + kVector), all(-kInfinity))));
}

void summarize(const Candidates* left) {
  for (std::int64_t block = 0; block < left->blocks; ++block) {
    bound_block(*left, block);
    score_block(*left, block);
  }
}

std::int64_t best(const Candidates* left) {
  const std::int64_t whole = left->blocks / kVector * kVector;
  Numbers tops = all(-kInfinity);
  for (std::int64_t block = 0; block < whole; block += kVector) tops = higher(load(left->best + block), tops);
  double top = highest(tops);
  for (std::int64_t block = whole; block < left->blocks; ++block) top = higher(left->best[block], top);
  std::int64_t found = -1;
  for (std::int64_t block = 0; block < left->blocks && top != -kInfinity; ++block) {
    if (left->best[block] != top) continue;
    for (std::int64_t i = block * kFuseBlock; i < (block + 1) * kFuseBlock; ++i)
      if (left->score[i] == top && (found < 0 || left->index[i] < left->index[found])) found = i;
  }
  return found;
}

// Calls visit(block) for the blocks whose bounds meet the seed, or that hold it.
template <class Visit>
PYWS_INLINE void each_near_block(const Candidates& left, Seed seed, double one, const Visit& visit) {
  const std::int64_t own = seed.position / kFuseBlock;
  for (std::int64_t first = 0; first < left.blocks; first += kVector) {
    const std::int64_t held = own - first, count = min64(left.blocks - first, kVector);
    unsigned near = held >= 0 && held < kVector ? 1u << held : 0u;
    if (count == kVector) {
      const Numbers low = load(left.low + first), high = load(left.high + first);
      near |= bits_of(lower(high, all(seed.end)) - higher(low, all(seed.start)) + one > 0.0);
    } else {
      for (std::int64_t k = 0; k < count; ++k)
        if (lower(left.high[first + k], seed.end) - higher(left.low[first + k], seed.start) + one > 0.0)
          near |= 1u << k;
    }
    for (; near != 0; near &= near - 1) visit(first + __builtin_ctz(near));
  }
}

// Bit k: does candidate k of eight overlap the seed by more than the threshold? As overlap_with.
template <int kRule>
PYWS_INLINE unsigned overlapping(const double* starts, const double* ends, Seed seed, double threshold) {
  const double one = kRule == kOverlapOwn ? 1.0 : 0.0;
  const Numbers start = load(starts), end = load(ends);
  const Numbers shared = higher(all(0.0), lower(end, all(seed.end)) - higher(start, all(seed.start)) + one);
  const Numbers own = end - start + one;
  return bits_of(shared / (kRule == kOverlapOwn ? own : own + (seed.end - seed.start) - shared) > threshold);
}

template <int kRule>
std::int64_t split_by(const Candidates& left, Seed seed, double threshold, std::int64_t* members) {
  std::int64_t taken = 0;
  each_near_block(left, seed, kRule == kOverlapOwn ? 1.0 : 0.0, [&](std::int64_t block) {
    unsigned any = 0;
    for (std::int64_t first = block * kFuseBlock; first < (block + 1) * kFuseBlock; first += kVector) {
      const std::int64_t held = seed.position - first;
      unsigned bits = overlapping<kRule>(left.start + first, left.end + first, seed, threshold);
      if (held >= 0 && held < kVector) bits |= 1u << held;
      taken += list(left.index + first, bits, members + taken);
      overwrite(left.start + first, bits, kNone);
      overwrite(left.end + first, bits, kNone);
      any |= bits;
    }
    if (any != 0) bound_block(left, block);
  });
  return taken;
}

std::int64_t split(const Candidates* left, Seed seed, int overlap, double threshold, std::int64_t* members) {
  return overlap == kOverlapOwn ? split_by<kOverlapOwn>(*left, seed, threshold, members)
                                : split_by<kOverlapIou>(*left, seed, threshold, members);
}

void decay(const Candidates* left, Seed seed, int overlap, double sigma) {
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
  Numbers lows = all(x[0]), highs = lows;
  for (std::int64_t i = 0; i < whole; i += kVector) lows = lower(load(x + i), lows), highs = higher(load(x + i), highs);
  double low = lowest(lows), high = highest(highs);
  for (std::int64_t i = whole; i < size; ++i) low = lower(x[i], low), high = higher(x[i], high);
  const double scale = static_cast<double>(count) / (high - low), last = static_cast<double>(count - 1);
  for (std::int64_t i = 0; i < size; ++i) {
    const double at = (x[i] - low) * scale;
    bucket[i] = static_cast<std::int64_t>(at > 0.0 ? lower(at, last) : 0.0);
  }
}

void gather(const double* const rows[kFuseRows], const std::int64_t* members, std::int64_t size, std::int64_t seed,
            double* const out[kFuseRows]) {
  for (std::int64_t r = 0; r < size; r += kVector) {
#if defined(__AVX512F__)
    const auto there = static_cast<__mmask8>(size - r < kVector ? (1u << (size - r)) - 1u : 0xffu);
    const __m512i index = _mm512_mask_loadu_epi64(_mm512_set1_epi64(seed), there, members + r);
    for (int row = 0; row < kFuseRows; ++row)
      _mm512_storeu_pd(out[row] + r,
                       _mm512_mask_i64gather_pd(_mm512_setzero_pd(), 0xff, index, rows[row], sizeof(double)));
#else
    for (std::int64_t lane = r; lane < r + kVector; ++lane)
      for (int row = 0; row < kFuseRows; ++row) out[row][lane] = rows[row][lane < size ? members[lane] : seed];
#endif
  }
}

// The sum of term(r) over members r, in the order that fuse_segments.h promises.
template <class Term>
PYWS_INLINE double lane_sum(std::int64_t size, const Term& term) {
  Numbers lanes{};
  for (std::int64_t r = 0; r < size; r += kVector) lanes += term(r);
  return sum(lanes);
}

double softmax(const double* weight, std::int64_t size, double temperature, double* g) {
  Numbers tops = load(weight);
  for (std::int64_t r = kVector; r < size; r += kVector) tops = higher(load(weight + r), tops);
  const double top = highest(tops);
  for (std::int64_t r = 0; r < size; r += kVector)
    for (int lane = 0; lane < kVector; ++lane) g[r + lane] = exp_nonpositive((weight[r + lane] - top) / temperature);
  for (std::int64_t r = size; r % kVector != 0; ++r) g[r] = 0.0;
  return lane_sum(size, [=](std::int64_t r) { return load(g + r); });
}

double moment(const double* x, const double* g, std::int64_t size, double origin) {
  return lane_sum(size, [=](std::int64_t r) { return load(g + r) * (load(x + r) - origin); });
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

const FuseLoops fuse_loops = {summarize, split,   best,   decay,        buckets,
                              gather,    softmax, moment, student_mean, student_square};

}  // namespace PYWS_ISA
}  // namespace pyws
