#include "superpixel_select_simd.h"

#include "pixel_runs_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

// 64 bits to 64 bytes of 0 or 1.
#if defined(__AVX512BW__)
inline void store_64(uint64_t bits, uint8_t* out) { _mm512_storeu_si512(out, _mm512_maskz_set1_epi8(bits, 1)); }
#elif defined(__AVX2__)
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
inline void store_64(uint64_t bits, uint8_t* out) {
  for (int i = 0; i < 64; ++i) out[i] = (bits >> i) & 1;
}
#endif

// ---- select

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
