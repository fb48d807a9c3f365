#include "superpixel_select_simd.h"

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

// ---- 64 pixels to 64 bits
// --------------------------------------------------------------------------------------------

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
inline void store_64(uint64_t bits, uint8_t* out) { _mm512_storeu_si512(out, _mm512_maskz_set1_epi8(bits, 1)); }
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
inline void store_64(uint64_t bits, uint8_t* out) {
  const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit_of = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  for (int i = 0; i < 64; i += 32) {
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits >> i)), byte_of);
    const __m256i ones = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit_of), bit_of);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_and_si256(ones, _mm256_set1_epi8(1)));
  }
}
#else
template <class T>
inline uint64_t edges_of_64(const T* x) {
  uint64_t bits = 0;
  for (int i = 0; i < 64; ++i) bits |= static_cast<uint64_t>(x[i] != x[i - 1]) << i;
  return bits;
}
inline void store_64(uint64_t bits, uint8_t* out) {
  for (int i = 0; i < 64; ++i) out[i] = (bits >> i) & 1;
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

// ---- runs
// ------------------------------------------------------------------------------------------------------------

// Appends the position of each bit, counted from `first`. Returns how many there are.
inline int append_bits(uint64_t bits, uint32_t first, uint32_t* positions) {
  const int count = __builtin_popcountll(bits);
#if defined(__BMI__)
  // Eight at a time, surplus ones overwritten later: the branch is far easier to predict than the end of each word.
  for (int done = 0; done < count; done += 8)
    for (int k = 0; k < 8; ++k, bits = _blsr_u64(bits))
      positions[done + k] = first + static_cast<uint32_t>(_tzcnt_u64(bits));
#else
  for (int k = 0; k < count; ++k, bits &= bits - 1) positions[k] = first + __builtin_ctzll(bits);
#endif
  return count;
}

// The first pixel of each run, and the frame's end. Returns the number of runs, or -1 if there are more than
// run_limit(pixels). edges(first, n) gives the edges among n pixels of the frame.
template <class Edges>
inline int64_t find_runs(int64_t pixels, uint32_t* starts, const Edges& edges) {
  const int64_t limit = run_limit(pixels);
  int64_t runs = 0;
  for (int64_t first = 0; first < pixels; first += kWordPixels) {
    const int n = static_cast<int>(min64(kWordPixels, pixels - first));
    runs += append_bits(edges(first, n), static_cast<uint32_t>(first), starts + runs);
    if (runs > limit) return -1;
  }
  starts[runs] = static_cast<uint32_t>(pixels);
  return runs;
}

// ---- select
// ----------------------------------------------------------------------------------------------------------

template <class Label>
int64_t count_pixels(const Label* labels, const uint8_t* mask, int64_t pixels, uint64_t superpixels, uint32_t* starts,
                     uint64_t* counts, int64_t* outside) {
  const int64_t runs = find_runs(
      pixels, starts, [=](int64_t first, int n) { return edge_word(labels, first, n) | edge_word(mask, first, n); });
  uint64_t lost = 0;
  const auto add = [&](int64_t at, uint64_t count) {
    const uint64_t label = index_of(labels[at]), inside = mask[at] != 0 ? count : 0;
    if (label < superpixels)
      counts[label] += count | inside << 32;
    else
      lost += count;
  };
  for (int64_t r = 0; r < runs; ++r) add(starts[r], starts[r + 1] - starts[r]);
  for (int64_t i = 0; runs < 0 && i < pixels; ++i) add(i, 1);
  *outside = static_cast<int64_t>(lost);
  return runs;
}

template <class Label>
void paint_mask(const Label* labels, int64_t pixels, uint64_t superpixels, const uint32_t* starts, int64_t runs,
                uint64_t* flips, const uint8_t* passes, uint8_t* refined) {
  const auto passed = [&](int64_t at) -> uint64_t {
    const uint64_t label = index_of(labels[at]);
    return label < superpixels ? passes[label] : 0;
  };
  if (runs < 0) {
    for (int64_t i = 0; i < pixels; ++i) refined[i] = static_cast<uint8_t>(passed(i));
    return;
  }
  const int64_t words = ceil_div(pixels, kWordPixels);
  for (int64_t w = 0; w < words; ++w) flips[w] = 0;
  uint64_t before = 0;
  for (int64_t r = 0; r < runs; ++r) {
    const uint64_t now = passed(starts[r]);
    flips[starts[r] / kWordPixels] |= (now ^ before) << (starts[r] % kWordPixels);
    before = now;
  }
  uint64_t carry = 0;
  for (int64_t first = 0; first < pixels; first += kWordPixels) {
    uint64_t bits = flips[first / kWordPixels];
    for (int shift = 1; shift < kWordPixels; shift *= 2) bits ^= bits << shift;  // each flip turns all later bits
    bits ^= carry;
    carry = 0 - (bits >> 63);
    if (pixels - first >= kWordPixels)
      store_64(bits, refined + first);
    else
      for (int64_t i = first; i < pixels; ++i) refined[i] = (bits >> (i - first)) & 1;
  }
}

// ---- vote
// ------------------------------------------------------------------------------------------------------------

template <class Label, class Class>
int64_t count_classes(const Label* labels, const Class* classes, int64_t pixels, uint64_t superpixels,
                      uint64_t num_classes, int64_t ignored, uint32_t* starts, int64_t* area, int64_t* table,
                      int64_t* outside) {
  outside[0] = outside[1] = 0;
  const auto add = [&](int64_t at, int64_t count) {
    const uint64_t label = index_of(labels[at]), kind = index_of(classes[at]);
    if (kind >= num_classes && kind != index_of(ignored)) outside[1] += count;
    if (label >= superpixels) {
      outside[0] += count;
    } else {
      area[label] += count;
      if (kind < num_classes) table[label * num_classes + kind] += count;
    }
  };
  const int64_t runs = find_runs(
      pixels, starts, [=](int64_t first, int n) { return edge_word(labels, first, n) | edge_word(classes, first, n); });
  for (int64_t r = 0; r < runs; ++r) add(starts[r], starts[r + 1] - starts[r]);
  for (int64_t i = 0; runs < 0 && i < pixels; ++i) add(i, 1);
  return runs;
}

template <class Label, class Class>
void paint_classes(const Label* labels, int64_t pixels, uint64_t superpixels, const uint32_t* starts, int64_t runs,
                   const int64_t* winner, Class* refined) {
  const auto taken = [&](int64_t at) {
    const uint64_t label = index_of(labels[at]);
    return static_cast<Class>(label < superpixels ? winner[label] : 0);
  };
  for (int64_t r = 0; r < runs; ++r) {
    const Class kind = taken(starts[r]);
    for (int64_t i = starts[r]; i < starts[r + 1]; ++i) refined[i] = kind;
  }
  for (int64_t i = 0; runs < 0 && i < pixels; ++i) refined[i] = taken(i);
}

}  // namespace

const SuperpixelLoops superpixel_loops = {
    {{count_pixels<int32_t>, paint_mask<int32_t>},
     {count_classes<int32_t, uint8_t>, paint_classes<int32_t, uint8_t>},
     {count_classes<int32_t, int32_t>, paint_classes<int32_t, int32_t>},
     {count_classes<int32_t, int64_t>, paint_classes<int32_t, int64_t>}},
    {{count_pixels<int64_t>, paint_mask<int64_t>},
     {count_classes<int64_t, uint8_t>, paint_classes<int64_t, uint8_t>},
     {count_classes<int64_t, int32_t>, paint_classes<int64_t, int32_t>},
     {count_classes<int64_t, int64_t>, paint_classes<int64_t, int64_t>}},
};

}  // namespace PYWS_ISA
}  // namespace pyws
