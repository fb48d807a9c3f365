#include "slic/slic_simd.h"

#if defined(__AVX2__)
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own header, GCC bug 105593
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#endif

namespace pyws {
namespace PYWS_ISA {
namespace {

using std::int32_t;
using std::int64_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

// ---- lanes: pixels side by side in a row, 32 bits each

#if defined(__AVX512BW__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
using Lanes = uint32_t __attribute__((vector_size(4 * kLanes)));
using Signed = int32_t __attribute__((vector_size(4 * kLanes)));
using Bytes = uint8_t __attribute__((vector_size(kLanes)));

template <class Vector>
inline Vector load(const void* from) {
  Vector lanes;
  __builtin_memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

inline Lanes fill(uint32_t x) { return Lanes{} + x; }

inline Lanes shift_signed(Lanes x, int bits) { return reinterpret_cast<Lanes>(reinterpret_cast<Signed>(x) >> bits); }

// Products of both 16-bit numbers, added up.
#if defined(__AVX512BW__)
inline Lanes products(Lanes a, Lanes b) {
  return reinterpret_cast<Lanes>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
inline Lanes smaller(Lanes a, Lanes b) {
  return reinterpret_cast<Lanes>(_mm512_min_epi32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
#elif defined(__AVX2__)
inline Lanes products(Lanes a, Lanes b) {
  return reinterpret_cast<Lanes>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
inline Lanes smaller(Lanes a, Lanes b) {
  return reinterpret_cast<Lanes>(_mm256_min_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
#else
inline Lanes products(Lanes a, Lanes b) {
  return shift_signed(a << 16, 16) * shift_signed(b << 16, 16) + shift_signed(a, 16) * shift_signed(b, 16);
}
inline Lanes smaller(Lanes a, Lanes b) { return reinterpret_cast<Signed>(a) < reinterpret_cast<Signed>(b) ? a : b; }
#endif

// Where slots equal one slot, and sums of what is there.
#if defined(__AVX512BW__)
using Where = __mmask16;
inline Where where(Lanes slots, uint32_t slot) {
  return _mm512_cmpeq_epi32_mask(reinterpret_cast<__m512i>(slots), reinterpret_cast<__m512i>(fill(slot)));
}
inline void add_where(Where here, Lanes* to, Lanes x) {
  const __m512i before = reinterpret_cast<__m512i>(*to);
  *to = reinterpret_cast<Lanes>(_mm512_mask_add_epi32(before, here, before, reinterpret_cast<__m512i>(x)));
}
#else
using Where = Lanes;
inline Where where(Lanes slots, uint32_t slot) { return reinterpret_cast<Lanes>(slots == slot); }
inline void add_where(Where here, Lanes* to, Lanes x) { *to += x & here; }
#endif

// Sum of all lanes, as signed numbers.
inline int64_t total(const Lanes& lanes) {
  using Quad = int32_t __attribute__((vector_size(16)));
  const auto* at = reinterpret_cast<const char*>(&lanes);
  Quad sum = load<Quad>(at);
  for (int i = 1; i < kLanes / 4; ++i) sum += load<Quad>(at + 16 * i);
  return int64_t{sum[0]} + sum[1] + sum[2] + sum[3];
}

// ---- colours

#if defined(__AVX512BW__)
inline Signed look_up(const int32_t* table, Signed i) {
  return reinterpret_cast<Signed>(_mm512_i32gather_epi32(reinterpret_cast<__m512i>(i), table, 4));
}
#elif defined(__AVX2__)
inline Signed look_up(const int32_t* table, Signed i) {
  return reinterpret_cast<Signed>(_mm256_i32gather_epi32(table, reinterpret_cast<__m256i>(i), 4));
}
#else
inline Signed look_up(const int32_t* table, Signed i) {
  return Signed{table[i[0]], table[i[1]], table[i[2]], table[i[3]]};
}
#endif

// Interleaved pixels to one array a channel.
template <class T>
inline void part(const T* pixels, int64_t size, T* red, T* green, T* blue) {
  for (int64_t i = 0; i < size; ++i) {
    red[i] = pixels[3 * i];
    green[i] = pixels[3 * i + 1];
    blue[i] = pixels[3 * i + 2];
  }
}

#if defined(__SSSE3__)
// The bytes c, c + 3, ... of 48, from the three vectors that hold them; a negative index gives 0.
inline __m128i every_third(const __m128i bytes[3], int c) {
  const __m128i lanes = _mm_setr_epi8(0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45);
  const __m128i place = _mm_add_epi8(lanes, _mm_set1_epi8(static_cast<char>(c)));
  __m128i found = _mm_setzero_si128();
  for (int i = 0; i < 3; ++i) {
    const __m128i at = _mm_sub_epi8(place, _mm_set1_epi8(static_cast<char>(16 * i)));
    const __m128i behind = _mm_cmpgt_epi8(at, _mm_set1_epi8(15));
    found = _mm_or_si128(found, _mm_shuffle_epi8(bytes[i], _mm_or_si128(at, behind)));
  }
  return found;
}

inline void part(const uint8_t* pixels, int64_t size, uint8_t* red, uint8_t* green, uint8_t* blue) {
  int64_t i = 0;
  for (; i + 16 <= size; i += 16) {
    __m128i bytes[3];
    __builtin_memcpy(bytes, pixels + 3 * i, sizeof(bytes));
    uint8_t* const to[3] = {red + i, green + i, blue + i};
    for (int c = 0; c < 3; ++c) _mm_storeu_si128(reinterpret_cast<__m128i*>(to[c]), every_third(bytes, c));
  }
  part<uint8_t>(pixels + 3 * i, size - i, red + i, green + i, blue + i);
}
#endif

template <int kStep, class T>
void colors(const T* red, const T* green, const T* blue, int64_t width, const int32_t* tables, SlicScale scale,
            const int32_t* left, uint32_t* la, uint32_t* bx) {
  constexpr int64_t kChunk = 64;  // pixels
  int32_t r[kChunk] = {}, g[kChunk] = {}, u[kChunk] = {};
  for (int64_t begin = 0; begin < width; begin += kChunk) {
    const int64_t size = min64(kChunk, width - begin);
    T parts[3][kChunk];
    if (kStep == 3) part(red + 3 * begin, size, parts[0], parts[1], parts[2]);
    const T* samples[3] = {red + begin, green + begin, blue + begin};
    for (int c = 0; c < 3; ++c) samples[c] = kStep == 3 ? parts[c] : samples[c];
    for (int64_t i = 0; i < size; ++i) {
      r[i] = slic_level(samples[0][i]);
      g[i] = slic_level(samples[1][i]);
      u[i] = slic_level(samples[2][i]);
    }
    uint32_t found[2][kChunk];
    for (int64_t i = 0; i < size; i += kLanes) {
      Signed l, a, b;
      slic_color([tables](Signed at) { return look_up(tables, at); }, scale, load<Signed>(r + i), load<Signed>(g + i),
                 load<Signed>(u + i), &l, &a, &b);
      const Signed pairs = (l * 4 & 0xffff) | a << 18;
      __builtin_memcpy(found[0] + i, &pairs, sizeof(pairs));
      __builtin_memcpy(found[1] + i, &b, sizeof(b));
    }
    for (int64_t i = 0; i < size; ++i) {
      la[begin + i] = found[0][i];
      bx[begin + i] = slic_pack(4 * static_cast<int32_t>(found[1][i]), left[begin + i]);
    }
  }
}

void colors_of(DType dtype, const void* red, const void* green, const void* blue, int step, int64_t width,
               const int32_t* tables, SlicScale scale, const int32_t* left, uint32_t* la, uint32_t* bx) {
  const auto run = [&](auto type) {
    using T = decltype(type);
    (step == 1 ? colors<1, T> : colors<3, T>)(static_cast<const T*>(red), static_cast<const T*>(green),
                                              static_cast<const T*>(blue), width, tables, scale, left, la, bx);
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
    case kUInt8:
      return run(uint8_t{});
    default:
      return;
  }
}

// ---- nearest clusters

// Part of a cell, small enough for sums of 32 bits a lane and for the first-level cache. x and y count from its corner.
constexpr int64_t kTileRows = 64, kTileColumns = 1024;

class Tile {
 public:
  Tile(const SlicCell& cell, int64_t top, int64_t left)
      : cell_(cell),
        first_(top * cell.stride + left),
        rows_(min64(kTileRows, cell.bottom - cell.top - top)),
        width_(min64(kTileColumns, cell.width - left)) {
    if (!cell.candidates) return;
    const SlicCandidates& candidates = *cell.candidates;
    int32_t position[kTileRows];
    for (int64_t y = 0; y < rows_; ++y) position[y] = slic_position(cell.scale, cell.top + top + y);
    for (int s = 0; s < kSlicSlots; ++s) {
      const uint32_t la = candidates.la[s], bx = candidates.bx[s];
      la_[s] = fill(slic_pack(-2 * slic_low(la), -2 * slic_high(la)));
      bx_[s] = fill(slic_pack(-2 * slic_low(bx), -2 * slic_high(bx)));
      const uint32_t length = slic_distance(0, 0, la, bx, 0);
      for (int64_t y = 0; y < rows_; ++y) row_part_[s][y] = length + slic_row_part(candidates, s, position[y]);
    }
  }

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  int64_t pixel(int64_t y, int64_t x) const { return first_ + y * cell_.stride + x; }

  // Slots of the pixels from column x on; kSlicOutside or more where there is none. |p - c|^2 is least where
  // |c|^2 - 2pc is, which takes a third less work and is between -2^30 and 2^31.
  template <bool kNearest>
  Lanes slots(int64_t y, int64_t x, Lanes la, Lanes bx) const {
    const int64_t size = width_ - x;
    Lanes slots = fill(kSlicOwn);
    if (kNearest) {
      Lanes best = products(la, la_[0]) + (products(bx, bx_[0]) + row_part_[0][y]);
#pragma GCC unroll 8
      for (int s = 1; s < kSlicSlots; ++s)
        best = smaller(best, products(la, la_[s]) + (products(bx, bx_[s]) + row_part_[s][y]));
      slots = best & 15;
    }
    if (size < kLanes) slots |= reinterpret_cast<Lanes>(lane_numbers() >= static_cast<uint32_t>(size)) & 15;
    if (cell_.mask) slots |= reinterpret_cast<Lanes>(inside(y, x, min64(size, kLanes)) == 0) & 15;
    return slots;
  }

  static Lanes lane_numbers() {
    Lanes lanes;
    for (int i = 0; i < kLanes; ++i) lanes[i] = static_cast<uint32_t>(i);
    return lanes;
  }

 private:
  Lanes inside(int64_t y, int64_t x, int64_t size) const {
    uint8_t bytes[kLanes] = {};
    for (int64_t i = 0; i < size; ++i) bytes[i] = cell_.mask[pixel(y, x) + i];
    return __builtin_convertvector(load<Bytes>(bytes), Lanes);
  }

  const SlicCell& cell_;
  int64_t first_, rows_, width_;
  Lanes la_[kSlicSlots], bx_[kSlicSlots];
  uint32_t row_part_[kSlicSlots][kTileRows];  // what does not depend on the column
};

template <class Body>
inline void each_tile(const SlicCell& cell, const Body& body) {
  for (int64_t top = 0; top < cell.bottom - cell.top; top += kTileRows)
    for (int64_t left = 0; left < cell.width; left += kTileColumns) body(Tile(cell, top, left), top, left);
}

// Sums of a tile by slot, lane by lane.
struct Tally {
  Lanes l[kSlicSlots], a[kSlicSlots], b[kSlicSlots], x[kSlicSlots], y[kSlicSlots], pixels[kSlicSlots];
};

// A column of vectors of a tile. Slots first, then the sums of one slot after the other, which stay in registers. A
// lane keeps its column, so that x is known from how many pixels it counts.
template <bool kNearest>
inline void tally_strip(const SlicCell& cell, const Tile& tile, int64_t x, Tally* tally) {
  Lanes slots[kTileRows], l[kTileRows], a[kTileRows], b[kTileRows];
  uint32_t found = 0;
  Lanes bits = {};
  for (int64_t y = 0; y < tile.rows(); ++y) {
    const int64_t i = tile.pixel(y, x);
    const Lanes la = load<Lanes>(cell.la + i), bx = load<Lanes>(cell.bx + i);
    __builtin_prefetch(cell.la + i + 2 * kLanes - 1);  // the strip to the right, which the hardware does not guess
    __builtin_prefetch(cell.bx + i + 2 * kLanes - 1);
    slots[y] = tile.slots<kNearest>(y, x, la, bx);
    bits |= fill(1) << slots[y];
    // Numbers of pixels go above L, rows above a.
    l[y] = shift_signed(la << 16, 18) + (1u << 18);
    a[y] = shift_signed(la, 18) + (static_cast<uint32_t>(y) << 20);
    b[y] = shift_signed(bx << 16, 18);
  }
  for (int i = 0; i < kLanes; ++i) found |= bits[i];
  for (found &= (1u << kSlicOutside) - 1; found; found &= found - 1) {
    const int s = __builtin_ctz(found);
    Lanes sum_l = {}, sum_a = {}, sum_b = {};
    for (int64_t y = 0; y < tile.rows(); ++y) {
      const Where here = where(slots[y], static_cast<uint32_t>(s));
      add_where(here, &sum_l, l[y]);
      add_where(here, &sum_a, a[y]);
      add_where(here, &sum_b, b[y]);
    }
    const Lanes pixels = sum_l >> 18, signed_a = shift_signed(sum_a << 12, 12);
    tally->l[s] += sum_l & ((1u << 18) - 1);
    tally->a[s] += signed_a;
    tally->b[s] += sum_b;
    tally->x[s] += pixels * (Tile::lane_numbers() + static_cast<uint32_t>(x));
    tally->y[s] += (sum_a - signed_a) >> 20;
    tally->pixels[s] += pixels;
  }
}

void sum(const SlicCell* cell, SlicSums sums[kSlicSlots]) {
  for (int s = 0; s < kSlicSlots; ++s) sums[s] = SlicSums{{0, 0, 0}, 0, 0, 0};
  each_tile(*cell, [&](const Tile& tile, int64_t top, int64_t left) {
    Tally tally = {};
    for (int64_t x = 0; x < tile.width(); x += kLanes)
      cell->candidates ? tally_strip<true>(*cell, tile, x, &tally) : tally_strip<false>(*cell, tile, x, &tally);
    for (int s = 0; s < kSlicSlots; ++s) {
      const int64_t pixels = total(tally.pixels[s]);
      if (pixels == 0) continue;
      sums[s].color[0] += total(tally.l[s]);
      sums[s].color[1] += total(tally.a[s]);
      sums[s].color[2] += total(tally.b[s]);
      sums[s].x += total(tally.x[s]) + (cell->left + left) * pixels;
      sums[s].y += total(tally.y[s]) + (cell->top + top) * pixels;
      sums[s].pixels += pixels;
    }
  });
}

template <bool kNearest>
inline void label_tile(const SlicCell& cell, const Tile& tile, const int32_t label[kSlicLabels], int32_t* labels) {
  for (int64_t y = 0; y < tile.rows(); ++y)
    for (int64_t x = 0; x < tile.width(); x += kLanes) {
      const int64_t i = tile.pixel(y, x), size = min64(kLanes, tile.width() - x);
      const Lanes slots = tile.slots<kNearest>(y, x, load<Lanes>(cell.la + i), load<Lanes>(cell.bx + i));
#if defined(__AVX512BW__)
      const __m512i found = _mm512_permutexvar_epi32(reinterpret_cast<__m512i>(slots), _mm512_loadu_si512(label));
      _mm512_mask_storeu_epi32(labels + i, static_cast<__mmask16>(0xffffu >> (kLanes - size)), found);
#else
      for (int64_t lane = 0; lane < size; ++lane) labels[i + lane] = label[slots[lane]];
#endif
    }
}

void label(const SlicCell* cell, const int32_t label[kSlicLabels], int32_t* labels) {
  each_tile(*cell, [&](const Tile& tile, int64_t, int64_t) {
    if (cell->candidates)
      label_tile<true>(*cell, tile, label, labels);
    else
      label_tile<false>(*cell, tile, label, labels);
  });
}

// ---- runs of labels

int64_t count_runs(const int32_t* labels, int64_t width) {
  int32_t changes = 0;
  for (int64_t x = 1; x < width; ++x) changes += labels[x] != labels[x - 1];
  return changes + 1;
}

// Sums of lanes 0 to i in lane i.
inline Lanes running(Lanes x) {
#if defined(__AVX512BW__)
  const __m512i none = _mm512_setzero_si512();
  __m512i sums = reinterpret_cast<__m512i>(x);
  sums = _mm512_add_epi32(sums, _mm512_alignr_epi32(sums, none, 15));
  sums = _mm512_add_epi32(sums, _mm512_alignr_epi32(sums, none, 14));
  sums = _mm512_add_epi32(sums, _mm512_alignr_epi32(sums, none, 12));
  return reinterpret_cast<Lanes>(_mm512_add_epi32(sums, _mm512_alignr_epi32(sums, none, 8)));
#elif defined(__AVX2__)
  __m256i sums = reinterpret_cast<__m256i>(x);
  sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 4));
  sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 8));  // the upper half still lacks the lower one
  const __m256i low = _mm256_permutevar8x32_epi32(sums, _mm256_set1_epi32(3));
  return reinterpret_cast<Lanes>(_mm256_add_epi32(sums, _mm256_blend_epi32(_mm256_setzero_si256(), low, 0xf0)));
#else
  for (int i = 1; i < kLanes; ++i) x[i] += x[i - 1];
  return x;
#endif
}

// Bit i: does a run end with pixel x + i? Bits beyond the row are 0.
inline uint32_t ends(const int32_t* labels, int64_t x, int64_t width) {
  if (width - x > kLanes) {
    const Lanes differ = reinterpret_cast<Lanes>(load<Signed>(labels + x) != load<Signed>(labels + x + 1));
#if defined(__AVX512BW__)
    return _mm512_movepi32_mask(reinterpret_cast<__m512i>(differ));
#elif defined(__AVX2__)
    return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(differ)));
#else
    uint32_t bits = 0;
    for (int i = 0; i < kLanes; ++i) bits |= (differ[i] & 1u) << i;
    return bits;
#endif
  }
  uint32_t bits = 1u << (width - x - 1);
  for (int64_t i = 0; i < width - x - 1; ++i) bits |= static_cast<uint32_t>(labels[x + i] != labels[x + i + 1]) << i;
  return bits;
}

// Appends the lanes whose bits are set.
inline void append(uint32_t bits, const Lanes& lanes, void* to) {
#if defined(__AVX512BW__)
  const __m512i kept = _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), reinterpret_cast<__m512i>(lanes));
  _mm512_mask_storeu_epi32(to, static_cast<__mmask16>((1u << __builtin_popcount(bits)) - 1), kept);
#else
  auto* at = static_cast<uint32_t*>(to);
  for (; bits; bits &= bits - 1) *at++ = lanes[__builtin_ctz(bits)];
#endif
}

void find_runs(const int32_t* labels, const uint32_t* la, const uint32_t* bx, int64_t width, SlicRuns runs) {
  Lanes last_l = {}, last_a = {}, last_b = {};  // sums so far, in all lanes
  for (int64_t x = 0, run = 0; x < width; x += kLanes) {
    const Lanes pairs = load<Lanes>(la + x), others = load<Lanes>(bx + x);
    const Lanes l = running(shift_signed(pairs << 16, 16)) + last_l;
    const Lanes a = running(shift_signed(pairs, 16)) + last_a;
    const Lanes b = running(shift_signed(others << 16, 16)) + last_b;
    last_l = fill(l[kLanes - 1]);
    last_a = fill(a[kLanes - 1]);
    last_b = fill(b[kLanes - 1]);
    const uint32_t bits = ends(labels, x, width);
    Lanes label = {};
    __builtin_memcpy(&label, labels + x, 4 * static_cast<std::size_t>(min64(kLanes, width - x)));
    append(bits, Tile::lane_numbers() + static_cast<uint32_t>(x + 1), runs.end + run);
    append(bits, label, runs.label + run);
    append(bits, l, runs.l + run);
    append(bits, a, runs.a + run);
    append(bits, b, runs.b + run);
    run += __builtin_popcount(bits);
  }
}

}  // namespace

const SlicLoops slic_loops = {colors_of, sum, label, count_runs, find_runs};

}  // namespace PYWS_ISA
}  // namespace pyws
