#include "slic_simd.h"

#if defined(__AVX2__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own header, GCC bug 105593
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace pyws {
namespace PYWS_ISA {
namespace {

using std::int32_t;
using std::int64_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

constexpr int64_t kChunk = 64;  // pixels whose slots are found before they are summed

// ---- colours

template <class T>
void colors(const T* red, const T* green, const T* blue, int64_t width, const int32_t* tables, SlicScale scale,
            const int32_t* left, uint32_t* la, uint32_t* bx) {
  int32_t l[kChunk], a[kChunk], b[kChunk];
  for (int64_t begin = 0; begin < width; begin += kChunk) {
    const int64_t size = min64(kChunk, width - begin);
    const T *r = red + begin, *g = green + begin, *u = blue + begin;
    for (int64_t i = 0; i < size; ++i)
      slic_color(tables, scale, slic_level(r[i]), slic_level(g[i]), slic_level(u[i]), l + i, a + i, b + i);
    for (int64_t i = 0; i < size; ++i) {
      la[begin + i] = slic_pack(4 * l[i], 4 * a[i]);
      bx[begin + i] = slic_pack(4 * b[i], left[begin + i]);
    }
  }
}

void colors_of(int dtype, const void* red, const void* green, const void* blue, int64_t width, const int32_t* tables,
               SlicScale scale, const int32_t* left, uint32_t* la, uint32_t* bx) {
  const auto run = [&](auto type) {
    using T = decltype(type);
    colors(static_cast<const T*>(red), static_cast<const T*>(green), static_cast<const T*>(blue), width, tables, scale,
           left, la, bx);
  };
  switch (dtype) {
    case kFloat32:
      return run(float{});
    case kFloat64:
      return run(double{});
    case kFloat16:
      return run(half_t{});
    case kBFloat16:
      return run(bfloat16_t{});
    case kSlicUint8:
      return run(uint8_t{});
  }
}

// ---- nearest clusters

// slots[i] of up to 64 pixels of one row; may read and write up to the end of the last vector.
#if defined(__AVX512BW__)
struct Centers {
  __m512i la[kSlicSlots], bx[kSlicSlots];
  explicit Centers(const SlicCandidates& candidates) {
    for (int s = 0; s < kSlicSlots; ++s) {
      la[s] = _mm512_set1_epi32(static_cast<int32_t>(candidates.la[s]));
      bx[s] = _mm512_set1_epi32(static_cast<int32_t>(candidates.bx[s]));
    }
  }
};

inline void nearest(const Centers& centers, const uint32_t row[kSlicSlots], const uint32_t* la, const uint32_t* bx,
                    int64_t size, uint8_t* slots) {
  for (int64_t i = 0; i < size; i += 16) {
    const __m512i pixel_la = _mm512_loadu_si512(la + i), pixel_bx = _mm512_loadu_si512(bx + i);
    __m512i best = _mm512_set1_epi32(-1);
#pragma GCC unroll 9
    for (int s = 0; s < kSlicSlots; ++s) {
      const __m512i d_la = _mm512_sub_epi16(pixel_la, centers.la[s]), d_bx = _mm512_sub_epi16(pixel_bx, centers.bx[s]);
      const __m512i colors_x = _mm512_add_epi32(_mm512_madd_epi16(d_la, d_la), _mm512_madd_epi16(d_bx, d_bx));
      best = _mm512_min_epu32(best, _mm512_add_epi32(colors_x, _mm512_set1_epi32(static_cast<int32_t>(row[s]))));
    }
    const __m512i slot = _mm512_and_si512(best, _mm512_set1_epi32(15));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(slots + i), _mm512_cvtepi32_epi8(slot));
  }
}
#elif defined(__AVX2__)
struct Centers {
  __m256i la[kSlicSlots], bx[kSlicSlots];
  explicit Centers(const SlicCandidates& candidates) {
    for (int s = 0; s < kSlicSlots; ++s) {
      la[s] = _mm256_set1_epi32(static_cast<int32_t>(candidates.la[s]));
      bx[s] = _mm256_set1_epi32(static_cast<int32_t>(candidates.bx[s]));
    }
  }
};

inline void nearest(const Centers& centers, const uint32_t row[kSlicSlots], const uint32_t* la, const uint32_t* bx,
                    int64_t size, uint8_t* slots) {
  const __m256i first_bytes = _mm256_set1_epi32(0x0c080400);
  for (int64_t i = 0; i < size; i += 8) {
    const __m256i pixel_la = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(la + i));
    const __m256i pixel_bx = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bx + i));
    __m256i best = _mm256_set1_epi32(-1);
#pragma GCC unroll 9
    for (int s = 0; s < kSlicSlots; ++s) {
      const __m256i d_la = _mm256_sub_epi16(pixel_la, centers.la[s]), d_bx = _mm256_sub_epi16(pixel_bx, centers.bx[s]);
      const __m256i colors_x = _mm256_add_epi32(_mm256_madd_epi16(d_la, d_la), _mm256_madd_epi16(d_bx, d_bx));
      best = _mm256_min_epu32(best, _mm256_add_epi32(colors_x, _mm256_set1_epi32(static_cast<int32_t>(row[s]))));
    }
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_and_si256(best, _mm256_set1_epi32(15)), first_bytes);
    const int32_t low = _mm256_cvtsi256_si32(bytes), high = _mm256_extract_epi32(bytes, 4);
    __builtin_memcpy(slots + i, &low, 4);
    __builtin_memcpy(slots + i + 4, &high, 4);
  }
}
#else
using Centers = SlicCandidates;

inline void nearest(const Centers& centers, const uint32_t row[kSlicSlots], const uint32_t* la, const uint32_t* bx,
                    int64_t size, uint8_t* slots) {
  uint32_t best[kChunk];
  for (int64_t i = 0; i < size; ++i) best[i] = ~0u;
  for (int s = 0; s < kSlicSlots; ++s)
    for (int64_t i = 0; i < size; ++i) {
      const uint32_t d = slic_distance(la[i], bx[i], centers.la[s], centers.bx[s], row[s]);
      best[i] = d < best[i] ? d : best[i];
    }
  for (int64_t i = 0; i < size; ++i) slots[i] = static_cast<uint8_t>(best[i] & 15);
}
#endif

// Bit i: slots[i] differs from slots[i - 1]; bit 0 is set. 64 bytes are read.
inline uint64_t run_starts(const uint8_t* slots) {
  uint64_t bits = 0;
#if defined(__AVX512BW__)
  bits = _mm512_cmpneq_epi8_mask(_mm512_loadu_si512(slots), _mm512_loadu_si512(slots - 1));
#elif defined(__AVX2__)
  for (int i = 0; i < 64; i += 32) {
    const __m256i same = _mm256_cmpeq_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(slots + i)),
                                           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(slots + i - 1)));
    bits |= static_cast<uint64_t>(~static_cast<uint32_t>(_mm256_movemask_epi8(same))) << i;
  }
#else
  for (int i = 1; i < 64; ++i) bits |= static_cast<uint64_t>(slots[i] != slots[i - 1]) << i;
#endif
  return bits | 1;
}

// Calls body(slot, row, begin, end) for the runs of one slot in a cell, in chunks of 64 columns.
template <class Body>
inline void each_run(const SlicCell& cell, const Body& body) {
  uint8_t room[1 + kChunk] = {0}, *slots = room + 1;
  uint32_t row_part[kSlicSlots] = {};
  const Centers centers(cell.candidates ? *cell.candidates : SlicCandidates{});
  if (!cell.candidates)
    for (int64_t i = 0; i < kChunk; ++i) slots[i] = kSlicOwn;
  for (int64_t y = 0; y < cell.bottom - cell.top; ++y) {
    // Cells are too narrow for the hardware to guess where the next row is.
    for (int64_t x = 0; x < cell.width && cell.top + y + 2 < cell.bottom; x += 16) {
      __builtin_prefetch(cell.la + (y + 2) * cell.stride + x);
      __builtin_prefetch(cell.bx + (y + 2) * cell.stride + x);
    }
    if (cell.candidates) {
      const int32_t position = slic_position(cell.scale, cell.top + y);
      for (int s = 0; s < kSlicSlots; ++s) row_part[s] = slic_row_part(*cell.candidates, s, position);
    }
    for (int64_t begin = 0; begin < cell.width; begin += kChunk) {
      const int64_t size = min64(kChunk, cell.width - begin), first = y * cell.stride + begin;
      if (cell.candidates)
        nearest(centers, row_part, cell.la + first, cell.bx + first, size, slots);
      else if (cell.mask)
        for (int64_t i = 0; i < size; ++i) slots[i] = kSlicOwn;
      if (cell.mask)
        for (int64_t i = 0; i < size; ++i) slots[i] = cell.mask[first + i] ? slots[i] : uint8_t{kSlicOutside};
      uint64_t starts = run_starts(slots) & (~uint64_t{0} >> (kChunk - size));
      while (starts) {
        const int64_t from = __builtin_ctzll(starts);
        starts &= starts - 1;
        body(slots[from], y, begin + from, begin + (starts ? __builtin_ctzll(starts) : size));
      }
    }
  }
}

// Sums of the colours of a slot in 32 bits a lane, to be emptied every kRunsToEmpty runs of up to 64 pixels.
constexpr int kRunsToEmpty = 4096;

#if defined(__AVX512BW__)
struct Colors {
  __m512i l, a, b;
};
inline void add(Colors* to, const uint32_t* la, const uint32_t* bx, int64_t size) {
  for (int64_t i = 0; i < size; i += 16) {
    const __mmask16 here = static_cast<__mmask16>(size - i < 16 ? (1u << (size - i)) - 1 : 0xffffu);
    const __m512i pixel_la = _mm512_maskz_loadu_epi32(here, la + i), pixel_bx = _mm512_maskz_loadu_epi32(here, bx + i);
    to->l = _mm512_add_epi32(to->l, _mm512_madd_epi16(pixel_la, _mm512_set1_epi32(1)));
    to->a = _mm512_add_epi32(to->a, _mm512_madd_epi16(pixel_la, _mm512_set1_epi32(0x10000)));
    to->b = _mm512_add_epi32(to->b, _mm512_madd_epi16(pixel_bx, _mm512_set1_epi32(1)));
  }
}
#elif defined(__AVX2__)
struct Colors {
  __m256i l, a, b;
};
inline void add(Colors* to, const uint32_t* la, const uint32_t* bx, int64_t size) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int64_t i = 0; i < size; i += 8) {
    const __m256i here = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(size - i)), lane);
    const __m256i pixel_la = _mm256_maskload_epi32(reinterpret_cast<const int*>(la + i), here);
    const __m256i pixel_bx = _mm256_maskload_epi32(reinterpret_cast<const int*>(bx + i), here);
    to->l = _mm256_add_epi32(to->l, _mm256_madd_epi16(pixel_la, _mm256_set1_epi32(1)));
    to->a = _mm256_add_epi32(to->a, _mm256_madd_epi16(pixel_la, _mm256_set1_epi32(0x10000)));
    to->b = _mm256_add_epi32(to->b, _mm256_madd_epi16(pixel_bx, _mm256_set1_epi32(1)));
  }
}
#else
struct Colors {
  int32_t l, a, b;
};
inline void add(Colors* to, const uint32_t* la, const uint32_t* bx, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    to->l += slic_low(la[i]);
    to->a += slic_high(la[i]);
    to->b += slic_low(bx[i]);
  }
}
#endif

inline void empty(Colors* from, int64_t color[3]) {
  constexpr int kLanes = sizeof(Colors) / 12;
  int32_t lanes[3 * kLanes];
  __builtin_memcpy(lanes, from, sizeof(lanes));
  for (int c = 0; c < 3; ++c) {
    int64_t total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += lanes[c * kLanes + lane];
    color[c] += total;
  }
  *from = Colors{};
}

void sum(const SlicCell* cell, SlicSums sums[kSlicSlots]) {
  Colors colors[kSlicSlots] = {};
  SlicSums total[kSlicSlots] = {};
  int runs = 0;
  each_run(*cell, [&](int slot, int64_t y, int64_t begin, int64_t end) {
    if (slot == kSlicOutside) return;
    const int64_t first = y * cell->stride + begin, size = end - begin;
    add(colors + slot, cell->la + first, cell->bx + first, size);
    total[slot].x += (2 * (cell->left + begin) + size - 1) * size / 2;
    total[slot].y += (cell->top + y) * size;
    total[slot].pixels += size;
    if (++runs % kRunsToEmpty == 0)
      for (int s = 0; s < kSlicSlots; ++s) empty(colors + s, total[s].color);
  });
  for (int s = 0; s < kSlicSlots; ++s) {
    empty(colors + s, total[s].color);
    for (int64_t& color : total[s].color) color /= 4;
    sums[s] = total[s];
  }
}

// Sums of the colours of n pixels.
void color(const uint32_t* la, const uint32_t* bx, int64_t n, int64_t sums[3]) {
  Colors colors = {};
  sums[0] = sums[1] = sums[2] = 0;
  add(&colors, la, bx, n);
  empty(&colors, sums);
  for (int i = 0; i < 3; ++i) sums[i] /= 4;
}

void label(const SlicCell* cell, const int32_t label[kSlicSlots + 1], int32_t* labels) {
  each_run(*cell, [&](int slot, int64_t y, int64_t begin, int64_t end) {
    int32_t* row = labels + y * cell->stride;
    const int32_t value = label[slot];
    for (int64_t x = begin; x < end; ++x) row[x] = value;
  });
}

// ---- runs of labels

int64_t runs(const int32_t* labels, int64_t width, int32_t* starts) {
  int64_t count = 1;
  if (!starts) {
    int32_t changes = 0;
    for (int64_t x = 1; x < width; ++x) changes += labels[x] != labels[x - 1];
    return count + changes;
  }
  starts[0] = 0;
  for (int64_t x = 1; x < width; ++x)
    if (labels[x] != labels[x - 1]) starts[count++] = static_cast<int32_t>(x);
  return count;
}

}  // namespace

const SlicLoops slic_loops = {colors_of, sum, label, runs, color};

}  // namespace PYWS_ISA
}  // namespace pyws
