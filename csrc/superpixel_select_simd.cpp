#include "superpixel_select_simd.h"

#include "pixel_runs_simd.h"

// GCC 12 takes the undefined operands inside its own AVX-512 header for mistakes of ours (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace pyws {
namespace PYWS_ISA {
namespace {

// passes[label], 0 for labels outside [0, superpixels).
template <class Label>
inline uint8_t passed(Label label, uint64_t superpixels, const uint8_t* passes) {
  return index_of(label) < superpixels ? passes[index_of(label)] : 0;
}

#if defined(__AVX512BW__)
// What passes, one bit a superpixel: so few are looked up without touching memory.
struct PassBits {
  static constexpr uint64_t kMost = 1024;
  __m512i low, high;

  PassBits(const uint8_t* passes, uint64_t superpixels) {
    uint64_t words[kMost / 64];
    for (uint64_t w = 0; w < kMost / 64; ++w) {
      const uint64_t left = superpixels > 64 * w ? superpixels - 64 * w : 0;
      const __mmask64 there = left >= 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
      const __m512i bytes = _mm512_maskz_loadu_epi8(there, passes + (left > 0 ? 64 * w : 0));
      words[w] = _mm512_test_epi8_mask(bytes, bytes);
    }
    low = _mm512_loadu_si512(words);
    high = _mm512_loadu_si512(words + 8);
  }

  uint64_t of_16(__m512i labels, __mmask16 inside) const {
    const __m512i words = _mm512_permutex2var_epi32(low, _mm512_srli_epi32(labels, 5), high);
    const __m512i bits = _mm512_srlv_epi32(words, _mm512_and_si512(labels, _mm512_set1_epi32(31)));
    return _mm512_mask_test_epi32_mask(inside, bits, _mm512_set1_epi32(1));
  }
  uint64_t of_64(const int32_t* labels) const {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 16) {
      const __m512i l = _mm512_loadu_si512(labels + i);
      bits |= of_16(l, _mm512_cmplt_epu32_mask(l, _mm512_set1_epi32(kMost))) << i;
    }
    return bits;
  }
  uint64_t of_64(const int64_t* labels) const {
    const __m512i most = _mm512_set1_epi64(kMost);
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 16) {
      const __m512i a = _mm512_loadu_si512(labels + i), b = _mm512_loadu_si512(labels + i + 8);
      const __m512i l =
          _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(a)), _mm512_cvtepi64_epi32(b), 1);
      const unsigned inside = _mm512_cmplt_epu64_mask(a, most) | _mm512_cmplt_epu64_mask(b, most) << 8;
      bits |= of_16(l, static_cast<__mmask16>(inside)) << i;
    }
    return bits;
  }
};
#endif

template <class Label>
int64_t count_pixels(const Label* labels, const uint8_t* mask, int64_t pixels, uint64_t superpixels, uint64_t* counts) {
  uint64_t lost = 0;
  const uint64_t weights[2] = {1, 1 | uint64_t{1} << 32};
  each_run(
      pixels, [=](int64_t first, int n) { return edge_word(labels, first, n) | edge_word(mask, first, n); },
      [&](int64_t at, uint64_t count) {
        const uint64_t label = index_of(labels[at]);
        if (label < superpixels)
          counts[label] += count * weights[mask[at] != 0];
        else
          lost += count;
      });
  return static_cast<int64_t>(lost);
}

template <class Label>
void paint_mask(const Label* labels, int64_t pixels, uint64_t superpixels, const uint8_t* passes, uint8_t* refined) {
  int64_t i = 0;
#if defined(__AVX512BW__)
  if (superpixels <= PassBits::kMost) {
    const PassBits bits(passes, superpixels);
    for (; i + kWordPixels <= pixels; i += kWordPixels)
      _mm512_storeu_si512(refined + i, _mm512_maskz_set1_epi8(bits.of_64(labels + i), 1));
  }
#endif
  for (; i < pixels; ++i) refined[i] = passed(labels[i], superpixels, passes);
}

template <class Label, class Class>
void count_classes(const Label* labels, const Class* classes, int64_t pixels, uint64_t superpixels,
                   uint64_t num_classes, int64_t ignored, int64_t* area, int64_t* table, int64_t* outside) {
  outside[0] = outside[1] = 0;
  each_run(
      pixels, [=](int64_t first, int n) { return edge_word(labels, first, n) | edge_word(classes, first, n); },
      [&](int64_t at, uint64_t count) {
        const uint64_t label = index_of(labels[at]), kind = index_of(classes[at]);
        if (kind >= num_classes && kind != index_of(ignored)) outside[1] += count;
        if (label >= superpixels) {
          outside[0] += count;
        } else {
          area[label] += count;
          if (kind < num_classes) table[label * num_classes + kind] += count;
        }
      });
}

template <class Label, class Class>
void paint_classes(const Label* labels, int64_t pixels, uint64_t superpixels, const int64_t* winner, Class* refined) {
  for (int64_t i = 0; i < pixels; ++i) {
    const uint64_t label = index_of(labels[i]);
    refined[i] = static_cast<Class>(label < superpixels ? winner[label] : 0);
  }
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
