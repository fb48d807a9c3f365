// slic: superpixels of images (Achanta et al., "SLIC Superpixels", TPAMI 2012), in integers throughout.
//
//   colour      sRGB -> CIELAB in fixed point, by two tables
//   grid        rows x columns cells; cluster k starts as cell k, which is the first iteration: centres without a
//               colour divide the image by position alone
//   iteration   a pixel is compared with the clusters of its own cell and of the eight around it, and takes the one with the
//               least squared distance |Lab - Lab_k|^2 + (compactness / step)^2 |xy - xy_k|^2, the first of equals;
//               then a centre becomes the mean of its pixels. A cluster so stays within the 3 x 3 cells around its own.
//   components  a superpixel is a maximal 4-connected set of pixels of one cluster
//   small ones  in rounds, until none changes: every component of less than min_size pixels joins the neighbour whose
//               mean colour is nearest to its own, the first of equals, all of a round at once. A component that
//               cannot join any, the whole image or an island of the mask, stays.
//   labels      0..K-1 in raster order of each superpixel's first pixel; -1 outside the mask
//
// shape       images (batch, 3, height, width), or (batch, height, width, 3) where they are interleaved, mask (batch,
//             height, width) bytes or null, labels (batch, height, width), all contiguous;
//             1 <= rows <= height <= 65535, 1 <= columns <= width <= 65535, height * width < 2^31
// dtype       a float type for the images, or uint8; floats are clamped to [0, 1] (NaN to 0) and rounded to 1/4080, in
//             which bytes are exact
// compactness positive and finite; iterations >= 1; min_size >= 0
// tables      kSlicTables numbers: gamma, then cube root (pyws/ops/masks/slic.py makes them)
// scratch     slots * slic_scratch(height, width, rows, columns) numbers of 64 bits: `slots` frames at a time
// Determinism all arithmetic that decides is in integers, sums are exact: the same labels on CPU and CUDA, for any
//             instruction set, number of threads and batch composition
#pragma once

#include <cstdint>

#include "common/params.h"

namespace pyws {

constexpr int kSlicLevels = 4080;  // levels of a colour channel: 16 between two bytes
constexpr int kSlicCubeSteps = 1024;
constexpr int kSlicTables = kSlicLevels + 1 + kSlicCubeSteps + 1;
constexpr int kSlicSlots = 9;    // the clusters that a pixel meets: of the 3 x 3 cells around it, in raster order
constexpr int kSlicOwn = 4;      // the slot of the pixel's own cell
constexpr int kSlicOutside = 9;  // in place of a slot: the pixel is not in the mask
constexpr std::int64_t kSlicTail = 16;  // pixels that loops may read beyond the last

struct SlicParams {
  Array<const void> images;
  bool interleaved;
  Optional<const std::uint8_t> mask;
  std::int64_t batch, height, width, rows, columns;
  double compactness;
  std::int64_t iterations, min_size;
  const std::int32_t* tables;
  std::int64_t slots;
  std::int64_t* scratch;
  std::int32_t* labels;
  PYWS_FIELDS(images, interleaved, mask, batch, height, width, rows, columns, compactness, iterations, min_size, tables,
              slots, scratch, labels)
};
void slic_cpu(const SlicParams& params, int threads);
void slic_cuda(const SlicParams& params, void* stream);

// What a slot gives to its cluster.
struct SlicSums {
  std::int64_t color[3], x, y, pixels;
};

inline std::int64_t slic_bytes(DType dtype) {  // bytes of an element
  return dtype == kUInt8 ? 1 : dtype == kFloat64 ? 8 : dtype == kFloat32 ? 4 : 2;
}

inline void check_dtypes(const SlicParams& params) {
  if (params.images.dtype > kUInt8) refuse_dtype("slic", "images", "a float type or uint8", params.images.dtype);
}

// A centre in units of distance, see SlicScale. One that the mask left without a pixel from the start has
// x = kSlicNowhere and takes no part; one that loses its pixels later stays.
constexpr std::int32_t kSlicNowhere = -1;
struct SlicCenter {
  std::int32_t color[3], x, y;
};

// Numbers of 64 bits for one frame. The CPU and the CUDA kernels each lay them out in their own way.
PYWS_HD std::int64_t slic_scratch(std::int64_t height, std::int64_t width, std::int64_t rows, std::int64_t columns) {
  const std::int64_t clusters = rows * columns, pixels = height * width;
  const std::int64_t sums = clusters * kSlicSlots * static_cast<std::int64_t>(sizeof(SlicSums)) / 8;
  const std::int64_t centers = ceil_div(clusters * static_cast<std::int64_t>(sizeof(SlicCenter)), 8);
  return sums + centers + 9 * pixels + 3 * (height + width) + 2 * kSlicTail;
}

// ---- distances

// A distance is a sum of five squares of 16-bit differences. Colours count in 1/32 of a unit of CIELAB (less where a
// large compactness would leave no room for positions), positions in the same unit, and all of them times 4: the
// square of a multiple of 4 leaves four bits free, where the slot goes. One minimum then finds the nearest centre and
// the first of equals. The largest sum is below 2^32.
struct SlicScale {
  std::int32_t lightness, offset, green, blue;  // factors of L, a and b, 15 bits of which are shifted out
  std::int64_t position;                        // distance between neighbouring pixels, 20 bits of which are
};

inline SlicScale slic_scale(double compactness, std::int64_t height, std::int64_t width, std::int64_t rows,
                            std::int64_t columns) {
  const double unit = compactness > 32 ? 1024 / compactness : 32;
  const double tall = static_cast<double>(height) / static_cast<double>(rows);
  const double wide = static_cast<double>(width) / static_cast<double>(columns);
  const double position = compactness > 32 ? 1024 : compactness * 32;
  return {static_cast<std::int32_t>(116 * unit + 0.5), static_cast<std::int32_t>(16 * unit * 32768) - 16384,
          static_cast<std::int32_t>(500 * unit + 0.5), static_cast<std::int32_t>(200 * unit + 0.5),
          static_cast<std::int64_t>(position / (tall > wide ? tall : wide) * 1048576 + 0.5)};
}

// The first pixel of a cell; `size` for cell `cells`, one behind the last.
PYWS_HD std::int64_t cell_start(std::int64_t cell, std::int64_t size, std::int64_t cells) {
  return cell * size / cells;
}

PYWS_HD std::int32_t slic_position(std::int64_t scale, std::int64_t x) {
  return static_cast<std::int32_t>((x * scale) >> 20) * 4;
}

// Quotients rounded down, also of negative numbers; b > 0. Both are below 2^51, so that the quotient of doubles is
// never rounded up to a whole number; it takes a quarter of the time.
PYWS_HD std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  const double quotient = static_cast<double>(a) / static_cast<double>(b);
  const std::int64_t whole = static_cast<std::int64_t>(quotient);
  return whole - (static_cast<double>(whole) > quotient);
}

// The sums of cluster k: its pixels lie in the nine cells around its own, and each holds them under another slot.
PYWS_HD SlicSums slic_cluster(const SlicSums* sums, std::int64_t k, std::int64_t rows, std::int64_t columns) {
  SlicSums total = {{0, 0, 0}, 0, 0, 0};
  for (int slot = 0; slot < kSlicSlots; ++slot) {
    const std::int64_t row = k / columns + slot / 3 - 1, column = k % columns + slot % 3 - 1;
    if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
    const SlicSums& part = sums[(row * columns + column) * kSlicSlots + kSlicSlots - 1 - slot];
    for (int i = 0; i < 3; ++i) total.color[i] += part.color[i];
    total.x += part.x;
    total.y += part.y;
    total.pixels += part.pixels;
  }
  return total;
}

// Means of colours to the nearest unit, of positions to 1/256 of a pixel.
PYWS_HD SlicCenter slic_center(const SlicSums& sums, std::int64_t scale) {
  const std::int64_t n = sums.pixels;
  SlicCenter center;
  for (int i = 0; i < 3; ++i) center.color[i] = static_cast<std::int32_t>(floor_div(2 * sums.color[i] + n, 2 * n)) * 4;
  center.x = static_cast<std::int32_t>(((sums.x * 256 + n / 2) / n * scale) >> 28) * 4;
  center.y = static_cast<std::int32_t>(((sums.y * 256 + n / 2) / n * scale) >> 28) * 4;
  return center;
}

PYWS_HD std::uint32_t slic_pack(std::int32_t low, std::int32_t high) {
  return (static_cast<std::uint32_t>(low) & 0xffffu) | static_cast<std::uint32_t>(high) << 16;
}
PYWS_HD std::int32_t slic_low(std::uint32_t pair) { return static_cast<std::int16_t>(pair & 0xffffu); }
PYWS_HD std::int32_t slic_high(std::uint32_t pair) { return static_cast<std::int16_t>(pair >> 16); }

// Unsigned: beside an empty cell a difference may be of any size, and is not used.
PYWS_HD std::uint32_t slic_square(std::int32_t x) {
  return static_cast<std::uint32_t>(x) * static_cast<std::uint32_t>(x);
}

// (L, a) and (b, x) of a pixel against those of a centre; `row` is what does not depend on the column: dy^2 + slot.
PYWS_HD std::uint32_t slic_distance(std::uint32_t la, std::uint32_t bx, std::uint32_t center_la,
                                    std::uint32_t center_bx, std::uint32_t row) {
  return slic_square(slic_low(la) - slic_low(center_la)) + slic_square(slic_high(la) - slic_high(center_la)) +
         slic_square(slic_low(bx) - slic_low(center_bx)) + slic_square(slic_high(bx) - slic_high(center_bx)) + row;
}

// What a pixel of a cell compares itself with; x counts from the first column of the cell.
struct SlicCandidates {
  std::uint32_t la[kSlicSlots], bx[kSlicSlots];
  std::int32_t y[kSlicSlots], slot[kSlicSlots];
};

// Clusters that a cell lacks, at the border or beside an empty cell, are replaced by its own.
PYWS_HD void slic_candidate(const SlicCenter* centers, std::int64_t row, std::int64_t column, std::int64_t rows,
                            std::int64_t columns, std::int32_t left, int slot, SlicCandidates* candidates) {
  const std::int64_t r = row + slot / 3 - 1, c = column + slot % 3 - 1;
  const std::int64_t own = row * columns + column;
  const std::int64_t k = r >= 0 && r < rows && c >= 0 && c < columns ? r * columns + c : own;
  const bool there = k != own && centers[k].x != kSlicNowhere;
  const SlicCenter center = centers[there ? k : own];
  candidates->la[slot] = slic_pack(center.color[0], center.color[1]);
  candidates->bx[slot] = slic_pack(center.color[2], center.x - left);
  candidates->y[slot] = center.y;
  candidates->slot[slot] = there ? slot : kSlicOwn;
}

PYWS_HD std::uint32_t slic_row_part(const SlicCandidates& candidates, int slot, std::int32_t y) {
  return slic_square(y - candidates.y[slot]) + static_cast<std::uint32_t>(candidates.slot[slot]);
}

// ---- colours

PYWS_HD std::int32_t slic_level(std::uint8_t x) { return x * 16; }
PYWS_HD std::int32_t slic_level(float x) {
  const float above = x > 0.0f ? x : 0.0f;  // NaN is not above
  const float within = above < 1.0f ? above : 1.0f;
  return static_cast<std::int32_t>(within * static_cast<float>(kSlicLevels) + 0.5f);
}
PYWS_HD std::int32_t slic_level(double x) { return slic_level(static_cast<float>(x)); }
PYWS_HD std::int32_t slic_level(half_t x) { return slic_level(widen(x)); }
PYWS_HD std::int32_t slic_level(bfloat16_t x) { return slic_level(widen(x)); }

// Int: 32 bits, one pixel or several side by side; look_up(i) gives tables[i].
// f(t) of CIELAB in 15 bits: an entry holds the value at its beginning (upper bits) and the rise to the next (8 bits).
template <class Int, class LookUp>
PYWS_HD Int slic_cube_root(const LookUp& look_up, Int t) {
  const Int entry = look_up((t >> 5) + (kSlicLevels + 1));
  return (entry >> 8) + (((entry & 255) * (t & 31) + 16) >> 5);
}

// The matrix of sRGB over the white point D65, in 15 bits; rows add up to 1, so that grey has no colour.
template <class Int, class LookUp>
PYWS_HD void slic_color(const LookUp& look_up, const SlicScale& scale, Int red, Int green, Int blue, Int* l, Int* a,
                        Int* b) {
  const Int r = look_up(red), g = look_up(green), u = look_up(blue);
  const Int x = slic_cube_root(look_up, (r * 14220 + g * 12328 + u * 6220 + 16384) >> 15);
  const Int y = slic_cube_root(look_up, (r * 6969 + g * 23434 + u * 2365 + 16384) >> 15);
  const Int z = slic_cube_root(look_up, (r * 582 + g * 3587 + u * 28599 + 16384) >> 15);
  *l = (y * scale.lightness - scale.offset) >> 15;
  *a = ((x - y) * scale.green + 16384) >> 15;
  *b = ((y - z) * scale.blue + 16384) >> 15;
}

// ---- components

// The mean colour of a component that small ones are compared by.
PYWS_HD std::int32_t slic_mean(std::int64_t sum, std::int64_t pixels) {
  return static_cast<std::int32_t>(floor_div(sum, pixels));
}

// How far apart two mean colours are, above the number of the other component: the least is the neighbour to join.
template <class Color>
PYWS_HD std::uint64_t slic_preference(const Color mean[3], const Color other_mean[3], std::uint32_t other) {
  std::uint32_t gap = 0;
  for (int i = 0; i < 3; ++i) gap += slic_square(mean[i] - other_mean[i]);
  return static_cast<std::uint64_t>(gap) << 32 | other;
}

}  // namespace pyws
