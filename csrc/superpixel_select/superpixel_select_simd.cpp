#include "superpixel_select/superpixel_select_simd.h"

#include "components/pixel_runs_simd.h"

// GCC 12 takes the undefined operands inside its own AVX-512 header for mistakes of ours (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace pyws {
namespace PYWS_ISA {
namespace {

inline uint32_t unsigned_of(int32_t label) { return static_cast<uint32_t>(label); }
inline uint64_t unsigned_of(int64_t label) { return static_cast<uint64_t>(label); }

template <class Label, class Code>
inline void encode(const Label* labels, const uint8_t* mask, int n, uint64_t superpixels, Code* __restrict codes) {
  for (int i = 0; i < n; ++i) {
    const auto label = unsigned_of(labels[i]), bound = static_cast<decltype(label)>(superpixels);
    codes[i] = static_cast<Code>(static_cast<Code>(label < bound ? label : bound) * 2 + (mask[i] != 0));
  }
}

template <class Label, class Code>
void count_pixels(const Label* labels, const uint8_t* mask, int64_t pixels, uint64_t superpixels, Code* codes,
                  uint32_t* counts) {
  for (int64_t first = 0; first < pixels; first += kBlockPixels) {
    const int n = static_cast<int>(min64(kBlockPixels, pixels - first));
    int at = 0;
    for (; at + kWordPixels <= n; at += kWordPixels) {
      const int64_t word = first + at;
      // The processor, left alone, loses track of the next block while runs are visited.
      prefetch(labels + word + kBlockPixels, kWordPixels);
      prefetch(mask + word + kBlockPixels, kWordPixels);
      encode(labels + word, mask + word, kWordPixels, superpixels, codes + word);
    }
    encode(labels + first + at, mask + first + at, n - at, superpixels, codes + first + at);
    each_run_of_block(
        first, n, [=](int64_t word, int size) { return edge_word(codes, word, size); },
        [=](int64_t i, uint64_t count) { counts[codes[i]] += static_cast<uint32_t>(count); });
  }
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

  uint64_t of_32(const uint16_t* codes) const {
    const __m512i code = _mm512_loadu_si512(codes), label = _mm512_srli_epi16(code, 1);
    const __m512i words = _mm512_permutex2var_epi16(low, _mm512_srli_epi16(label, 4), high);
    const __m512i bits = _mm512_srlv_epi16(words, _mm512_and_si512(label, _mm512_set1_epi16(15)));
    const __mmask32 inside = _mm512_cmplt_epu16_mask(label, _mm512_set1_epi16(kMost));
    return _mm512_mask_test_epi16_mask(inside, bits, _mm512_set1_epi16(1));
  }
};

// Paints whole words of pixels; returns how many pixels.
inline int64_t paint_words(const uint16_t* codes, int64_t pixels, uint64_t superpixels, const uint8_t* passes,
                           uint8_t* refined) {
  if (superpixels > PassBits::kMost) return 0;
  const PassBits bits(passes, superpixels);
  int64_t i = 0;
  for (; i + kWordPixels <= pixels; i += kWordPixels) {
    const __mmask64 set = bits.of_32(codes + i) | bits.of_32(codes + i + 32) << 32;
    _mm512_storeu_si512(refined + i, _mm512_maskz_set1_epi8(set, 1));
  }
  return i;
}
#else
inline int64_t paint_words(const uint16_t*, int64_t, uint64_t, const uint8_t*, uint8_t*) { return 0; }
#endif
inline int64_t paint_words(const uint32_t*, int64_t, uint64_t, const uint8_t*, uint8_t*) { return 0; }

template <class Code>
void paint_mask(const Code* codes, int64_t pixels, uint64_t superpixels, const uint8_t* passes, uint8_t* refined) {
  for (int64_t i = paint_words(codes, pixels, superpixels, passes, refined); i < pixels; ++i)
    refined[i] = passes[codes[i] / 2];
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

template <class Label>
constexpr SuperpixelRow<Label> row_of() {
  return {{count_pixels<Label, uint16_t>, paint_mask<uint16_t>},
          {count_pixels<Label, uint32_t>, paint_mask<uint32_t>},
          {count_classes<Label, uint8_t>, paint_classes<Label, uint8_t>},
          {count_classes<Label, int32_t>, paint_classes<Label, int32_t>},
          {count_classes<Label, int64_t>, paint_classes<Label, int64_t>}};
}

}  // namespace

const SuperpixelLoops superpixel_loops = {row_of<int32_t>(), row_of<int64_t>()};

}  // namespace PYWS_ISA
}  // namespace pyws
