// Included by the _simd.cpp files that walk frames by runs: stretches of pixels over which one or several maps keep
// their values, found 64 pixels at a time. See simd.h for what such code may use.
#pragma once

#include <cstdint>

#include "components/pixel_runs.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pyws {
namespace PYWS_ISA {
namespace {

using std::int32_t;
using std::int64_t;
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

// Bit i: does x[i] differ from x[i-1]?
#if defined(__AVX512BW__)
inline uint64_t edges_of_64(const uint8_t* x) {
  return _mm512_cmpneq_epi8_mask(_mm512_loadu_si512(x), _mm512_loadu_si512(x - 1));
}
inline uint64_t edges_of_64(const uint16_t* x) {
  uint64_t bits = 0;
  for (int i = 0; i < 64; i += 32)
    bits |= static_cast<uint64_t>(_mm512_cmpneq_epi16_mask(_mm512_loadu_si512(x + i), _mm512_loadu_si512(x + i - 1)))
            << i;
  return bits;
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
inline uint64_t edges_of_64(const uint16_t* x) {
  uint64_t same = 0;
  for (int i = 0; i < 64; i += 32) {
    const __m256i low = _mm256_cmpeq_epi16(load_32(x + i), load_32(x + i - 1));
    const __m256i high = _mm256_cmpeq_epi16(load_32(x + i + 16), load_32(x + i + 15));
    const __m256i equal = _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8);  // undoes the pack's order
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
inline uint64_t edges_of_64(const uint32_t* x) { return edges_of_64(reinterpret_cast<const int32_t*>(x)); }

// The word of pixels first .. first+n-1 of a frame. The first pixel of the frame starts a run.
template <class T>
inline uint64_t edge_word(const T* x, int64_t first, int n) {
  if (first > 0 && n == kWordPixels) return edges_of_64(x + first);
  uint64_t bits = first == 0;
  for (int i = first == 0; i < n; ++i) bits |= static_cast<uint64_t>(x[first + i] != x[first + i - 1]) << i;
  return bits;
}

inline int trailing_zeros(uint64_t bits) {
#if defined(__BMI__)
  return static_cast<int>(_tzcnt_u64(bits));
#else
  return bits == 0 ? 64 : __builtin_ctzll(bits);
#endif
}

// Appends `at` plus the position of every bit; up to 16 numbers more may be written behind them.
inline int32_t* append_positions(uint64_t bits, int at, int32_t* out) {
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int i = 0; i < kWordPixels; i += 16) {
    const __mmask16 here = static_cast<__mmask16>(bits >> i);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(here, _mm512_add_epi32(lanes, _mm512_set1_epi32(at + i))));
    out += __builtin_popcount(here);
  }
  return out;
#else
  // Eight at a time, surplus ones overwritten later: far easier to predict than the end of each word.
  constexpr int kAtOnce = 8;
  const int count = __builtin_popcountll(bits);
  for (int done = 0; done < count; done += kAtOnce)
    for (int k = 0; k < kAtOnce; ++k, bits &= bits - 1) out[done + k] = at + trailing_zeros(bits);
  return out + count;
#endif
}

constexpr int kBlockPixels = 1024;

// Calls visit(first pixel, pixels) for stretches that cover the n pixels, at most kBlockPixels, from `first` on; none
// crosses an edge. edges_of(first, n) gives the word of n pixels. First the starts of all runs are listed, then they
// are visited: two loops without branches that depend on the picture. Incoherent blocks are visited pixel by pixel.
template <class EdgesOf, class Visit>
inline __attribute__((always_inline)) void each_run_of_block(int64_t first, int n, const EdgesOf& edges_of,
                                                             const Visit& visit) {
  constexpr int kSurplus = 16;
  int32_t starts[kBlockPixels + kSurplus];
  int32_t* end = starts;
  for (int at = 0; at < n; at += kWordPixels) {
    const uint64_t edges = edges_of(first + at, static_cast<int>(min64(kWordPixels, n - at)));
    end = append_positions(at == 0 ? edges | 1 : edges, at, end);
  }
  *end = n;
  if (end - starts > n * 3 / 8) {
    for (int i = 0; i < n; ++i) visit(first + i, 1);
    return;
  }
  for (const int32_t* start = starts; start < end; ++start)
    visit(first + start[0], static_cast<uint64_t>(start[1] - start[0]));
}

// The same for all pixels of a frame.
template <class EdgesOf, class Visit>
inline __attribute__((always_inline)) void each_run(int64_t pixels, const EdgesOf& edges_of, const Visit& visit) {
  for (int64_t first = 0; first < pixels; first += kBlockPixels)
    each_run_of_block(first, static_cast<int>(min64(kBlockPixels, pixels - first)), edges_of, visit);
}

}  // namespace
}  // namespace PYWS_ISA
}  // namespace pyws
