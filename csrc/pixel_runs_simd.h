// Included by the _simd.cpp files that walk frames by runs: stretches of pixels over which one or several maps keep
// their values, found 64 pixels at a time. See simd.h for what such code may use.
#pragma once

#include <cstdint>

#include "pixel_runs.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pyws {
namespace PYWS_ISA {
namespace {

using std::int32_t;
using std::int64_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

// Bit i: does x[i] differ from x[i-1]?
#if defined(__AVX512BW__)
inline uint64_t edges_of_64(const uint8_t* x) {
  return _mm512_cmpneq_epi8_mask(_mm512_loadu_si512(x), _mm512_loadu_si512(x - 1));
}
inline uint64_t edges_of_64(const int32_t* x) {
  uint64_t bits = 0;
  for (int i = 0; i < 64; i += 16)
    bits |= static_cast<uint64_t>(_mm512_cmpneq_epi32_mask(_mm512_loadu_si512(x + i), _mm512_loadu_si512(x + i - 1)))
            << i;
  return bits;
}
inline uint64_t edges_of_64(const int64_t* x) {
  uint64_t bits = 0;
  for (int i = 0; i < 64; i += 8)
    bits |= static_cast<uint64_t>(_mm512_cmpneq_epi64_mask(_mm512_loadu_si512(x + i), _mm512_loadu_si512(x + i - 1)))
            << i;
  return bits;
}
#elif defined(__AVX2__)
inline __m256i load_32(const void* x) { return _mm256_loadu_si256(static_cast<const __m256i*>(x)); }
inline uint64_t edges_of_64(const uint8_t* x) {
  uint64_t same = 0;
  for (int i = 0; i < 64; i += 32) {
    const __m256i equal = _mm256_cmpeq_epi8(load_32(x + i), load_32(x + i - 1));
    same |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(equal))) << i;
  }
  return ~same;
}
inline uint64_t edges_of_64(const int32_t* x) {
  uint64_t same = 0;
  for (int i = 0; i < 64; i += 8) {
    const __m256i equal = _mm256_cmpeq_epi32(load_32(x + i), load_32(x + i - 1));
    same |= static_cast<uint64_t>(_mm256_movemask_ps(_mm256_castsi256_ps(equal))) << i;
  }
  return ~same;
}
inline uint64_t edges_of_64(const int64_t* x) {
  uint64_t same = 0;
  for (int i = 0; i < 64; i += 4) {
    const __m256i equal = _mm256_cmpeq_epi64(load_32(x + i), load_32(x + i - 1));
    same |= static_cast<uint64_t>(_mm256_movemask_pd(_mm256_castsi256_pd(equal))) << i;
  }
  return ~same;
}
#else
template <class T>
inline uint64_t edges_of_64(const T* x) {
  uint64_t bits = 0;
  for (int i = 0; i < 64; ++i) bits |= static_cast<uint64_t>(x[i] != x[i - 1]) << i;
  return bits;
}
#endif

// The word of pixels first .. first+n-1 of a frame. The first pixel of the frame starts a run.
template <class T>
inline uint64_t edge_word(const T* x, int64_t first, int n) {
  if (first > 0 && n == kWordPixels) return edges_of_64(x + first);
  uint64_t bits = first == 0;
  for (int i = first == 0; i < n; ++i) bits |= static_cast<uint64_t>(x[first + i] != x[first + i - 1]) << i;
  return bits;
}

// Pixels of one word: bit i of `edges` where pixel i begins a run, of `set` where it has what is counted.
struct PixelWord {
  uint64_t edges, set;
};

inline int trailing_zeros(uint64_t bits) {
#if defined(__BMI__)
  return static_cast<int>(_tzcnt_u64(bits));
#else
  return bits == 0 ? 64 : __builtin_ctzll(bits);
#endif
}

// The bits below position n, 0 < n <= 64.
inline uint64_t low_bits(uint64_t bits, int n) {
#if defined(__BMI2__)
  return _bzhi_u64(bits, static_cast<unsigned>(n));
#else
  return bits & (~uint64_t{0} >> (64 - n));
#endif
}

// Calls visit(first pixel, pixels, set pixels) for stretches that cover the frame; none crosses an edge. Runs are cut
// where a word ends; incoherent words and the frame's last, incomplete one are visited pixel by pixel.
template <class WordOf, class Visit>
inline __attribute__((always_inline)) void each_run(int64_t pixels, const WordOf& word_of, const Visit& visit) {
  constexpr int kCoherent = 24, kAtOnce = 4;
  for (int64_t first = 0; first < pixels; first += kWordPixels) {
    const int n = static_cast<int>(min64(kWordPixels, pixels - first));
    const PixelWord word = word_of(first, n);
    uint64_t later = word.edges & ~uint64_t{1};
    const int runs = __builtin_popcountll(later) + 1;
    if (n < kWordPixels || runs > kCoherent) {
      for (int i = 0; i < n; ++i) visit(first + i, 1, word.set >> i & 1);
      continue;
    }
    int from = 0;
    uint64_t before = 0;
    // Four at a time, surplus ones empty: the branch is far easier to predict than the end of each word.
    for (int done = 0; done < runs; done += kAtOnce)
      for (int k = 0; k < kAtOnce; ++k, later &= later - 1) {
        const int to = trailing_zeros(later);
        const uint64_t upto = static_cast<uint64_t>(__builtin_popcountll(low_bits(word.set, to)));
        visit(first + (from & 63), static_cast<uint64_t>(to - from), upto - before);
        from = to;
        before = upto;
      }
  }
}

// Bit i: is mask[first + i] set?
inline uint64_t set_word(const uint8_t* mask, int64_t first, int n) {
#if defined(__AVX512BW__)
  const __m512i bytes = _mm512_maskz_loadu_epi8(n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1, mask + first);
  return _mm512_test_epi8_mask(bytes, bytes);
#else
  uint64_t bits = 0;
#if defined(__AVX2__)
  for (int i = 0; n == kWordPixels && i < n; i += 32) {
    const __m256i zero = _mm256_cmpeq_epi8(load_32(mask + first + i), _mm256_setzero_si256());
    bits |= static_cast<uint64_t>(~static_cast<uint32_t>(_mm256_movemask_epi8(zero))) << i;
  }
  if (n == kWordPixels) return bits;
#endif
  for (int i = 0; i < n; ++i) bits |= static_cast<uint64_t>(mask[first + i] != 0) << i;
  return bits;
#endif
}

}  // namespace
}  // namespace PYWS_ISA
}  // namespace pyws
