#include "fuse_segments_simd.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#endif

namespace pyws {
namespace PYWS_ISA {
namespace {

constexpr int kBlock = 8;

// Moves candidate `from` to `to` <= from.
inline __attribute__((always_inline)) void move(const Candidates& left, std::int64_t from, std::int64_t to) {
  left.start[to] = left.start[from];
  left.end[to] = left.end[from];
  left.score[to] = left.score[from];
  left.index[to] = left.index[from];
}

std::int64_t best(const double* score, std::int64_t size) {
  double lanes[kBlock];
  for (int lane = 0; lane < kBlock; ++lane) lanes[lane] = score[0];
  std::int64_t i = 0;
  for (; i + kBlock <= size; i += kBlock)
    for (int lane = 0; lane < kBlock; ++lane) lanes[lane] = higher(score[i + lane], lanes[lane]);
  for (; i < size; ++i) lanes[0] = higher(score[i], lanes[0]);
  double highest = lanes[0];
  for (int lane = 1; lane < kBlock; ++lane) highest = higher(lanes[lane], highest);
  for (i = 0; i < size; ++i)
    if (score[i] == highest) return i;
  return 0;
}

#if defined(__AVX512F__) && defined(__AVX512DQ__)

template <int kRule>
inline __attribute__((always_inline)) __mmask8 overlaps(__m512d start, __m512d end, __m512d seed_start,
                                                        __m512d seed_end, __m512d threshold) {
  const __m512d one = _mm512_set1_pd(kRule == kOverlapOwn ? 1.0 : 0.0), zero = _mm512_setzero_pd();
  // The zero-masked forms: GCC 12 warns of uninitialised values inside its own plain ones.
  const __m512d until = _mm512_maskz_min_pd(0xff, end, seed_end), from = _mm512_maskz_max_pd(0xff, start, seed_start);
  const __m512d shared = _mm512_add_pd(_mm512_sub_pd(until, from), one);
  const __mmask8 meets = _mm512_cmp_pd_mask(shared, zero, _CMP_GT_OQ);
  if (meets == 0) return 0;  // spares most blocks the division
  const __m512d own = _mm512_add_pd(_mm512_sub_pd(end, start), one);
  const __m512d area =
      kRule == kOverlapOwn ? own : _mm512_sub_pd(_mm512_add_pd(own, _mm512_sub_pd(seed_end, seed_start)), shared);
  return _mm512_mask_cmp_pd_mask(meets, _mm512_div_pd(shared, area), threshold, _CMP_GT_OQ);
}

template <int kRule>
std::int64_t split_by(Candidates* left, Seed seed, double threshold, std::int64_t* members) {
  const __m512d seed_start = _mm512_set1_pd(seed.start), seed_end = _mm512_set1_pd(seed.end);
  const __m512d limit = _mm512_set1_pd(threshold);
  std::int64_t kept = 0, taken = 0;
  for (std::int64_t i = 0; i < left->size; i += kBlock) {
    const std::int64_t n = left->size - i;
    const __mmask8 valid = n >= kBlock ? 0xff : static_cast<__mmask8>((1u << n) - 1);
    const __m512d start = _mm512_maskz_loadu_pd(valid, left->start + i);
    const __m512d end = _mm512_maskz_loadu_pd(valid, left->end + i);
    unsigned out = overlaps<kRule>(start, end, seed_start, seed_end, limit) & valid;
    const std::uint64_t behind = static_cast<std::uint64_t>(seed.position - i);
    if (behind < kBlock) out |= 1u << behind;
    if (out == 0 && kept == i) {
      kept += n < kBlock ? n : kBlock;
      continue;
    }
    const __mmask8 stay = static_cast<__mmask8>(valid & ~out);
    const __m512i index = _mm512_maskz_loadu_epi64(valid, left->index + i);
    const __m512d score = _mm512_maskz_loadu_pd(valid, left->score + i);
    for (unsigned bits = out; bits != 0; bits &= bits - 1) members[taken++] = left->index[i + __builtin_ctz(bits)];
    // All eight lanes may be written: kept <= i, so they lie in what has been read; past the end they are masked.
    _mm512_mask_storeu_pd(left->start + kept, valid, _mm512_maskz_compress_pd(stay, start));
    _mm512_mask_storeu_pd(left->end + kept, valid, _mm512_maskz_compress_pd(stay, end));
    _mm512_mask_storeu_pd(left->score + kept, valid, _mm512_maskz_compress_pd(stay, score));
    _mm512_mask_storeu_epi64(left->index + kept, valid, _mm512_maskz_compress_epi64(stay, index));
    kept += __builtin_popcount(stay);
  }
  left->size = kept;
  return taken;
}

#else

template <int kRule>
std::int64_t split_by(Candidates* left, Seed seed, double threshold, std::int64_t* members) {
  std::int64_t kept = 0, taken = 0;
  for (std::int64_t i = 0; i < left->size; i += kBlock) {
    const int n = static_cast<int>(min64(kBlock, left->size - i));
    double passes[kBlock], any = 0.0;
    if (n == kBlock) {
      for (int k = 0; k < kBlock; ++k)
        passes[k] =
            overlap_with(kRule, left->start[i + k], left->end[i + k], seed.start, seed.end) > threshold ? 1.0 : 0.0;
    } else {
      for (int k = 0; k < n; ++k)
        passes[k] =
            overlap_with(kRule, left->start[i + k], left->end[i + k], seed.start, seed.end) > threshold ? 1.0 : 0.0;
    }
    if (seed.position >= i && seed.position < i + n) passes[seed.position - i] = 1.0;
    for (int k = 0; k < n; ++k) any += passes[k];
    if (any == 0.0 && kept == i) {
      kept += n;
      continue;
    }
    for (int k = 0; k < n; ++k) {
      if (passes[k] != 0.0) {
        members[taken++] = left->index[i + k];
      } else {
        move(*left, i + k, kept++);
      }
    }
  }
  left->size = kept;
  return taken;
}

#endif

std::int64_t split(Candidates* left, Seed seed, int overlap, double threshold, std::int64_t* members) {
  return overlap == kOverlapOwn ? split_by<kOverlapOwn>(left, seed, threshold, members)
                                : split_by<kOverlapIou>(left, seed, threshold, members);
}

void decay(Candidates* left, Seed seed, int overlap, double sigma, double min_score) {
  for (std::int64_t i = 0; i < left->size; ++i) {
    const double shared = overlap_with(overlap, left->start[i], left->end[i], seed.start, seed.end);
    left->score[i] = decayed(left->score[i], shared, sigma);
  }
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < left->size; ++i)
    if (i != seed.position && left->score[i] > min_score) move(*left, i, kept++);
  left->size = kept;
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

const FuseLoops fuse_loops = {best, split, decay, softmax, total, moment, student_mean, student_square};

}  // namespace PYWS_ISA
}  // namespace pyws
