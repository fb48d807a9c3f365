#include "common/warp.cuh"
#include "components/components_cuda.h"
#include "slic/slic.h"

namespace pyws {
namespace {

using std::int32_t;
using std::int64_t;
using std::uint32_t;
using Word = unsigned long long;  // what 64-bit atomics take

constexpr int kThreads = 256;
constexpr int kStrip = 32;         // rows that a thread sums up before it goes to memory
constexpr int kCellThreads = 128;  // threads of a cell: 32 columns, every fourth row
constexpr int kRounds = 32;        // rounds of joining; min_size is below 2^31
constexpr Word kNone = ~Word{0};

struct Size {
  int64_t height, width, rows, columns;
  SlicScale scale;
  int64_t* scratch;

  __host__ __device__ int64_t pixels() const { return height * width; }
};

// A component is known by its first pixel in raster order, where its size, colours and preference are kept.
struct Frame {
  SlicSums* sums;
  SlicCenter* centers;
  uint32_t *la, *bx;
  Word *color, *preference;  // (3, pixels), (pixels)
  int32_t *parent, *component, *size;
  int32_t *open, *before;  // 1 where a round has something to join; superpixels in earlier blocks
};

__device__ __forceinline__ Frame frame_of(const Size& size) {
  const int64_t pixels = size.pixels(), clusters = size.rows * size.columns;
  int64_t* at = size.scratch + blockIdx.y * slic_scratch(size.height, size.width, size.rows, size.columns);
  Frame frame;
  frame.sums = reinterpret_cast<SlicSums*>(at);
  frame.color = reinterpret_cast<Word*>(frame.sums + clusters * kSlicSlots);
  frame.preference = frame.color + 3 * pixels;
  frame.la = reinterpret_cast<uint32_t*>(frame.preference + pixels);
  frame.bx = frame.la + pixels;
  frame.parent = reinterpret_cast<int32_t*>(frame.bx + pixels);
  frame.component = frame.parent + pixels;
  frame.size = frame.component + pixels;
  frame.before = frame.size + pixels;
  frame.open = frame.before + ceil_div(pixels, kThreads);
  frame.centers = reinterpret_cast<SlicCenter*>(frame.open + kRounds);
  return frame;
}

__device__ __forceinline__ int64_t pixel_of_thread() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }

// ---- clusters

// Traffic: three samples of a pixel are read, 8 bytes written, both coalesced; the tables come from L1. One thread a
// pixel. Pixels are `step` samples apart, channels `channel`.
template <class T>
__global__ void find_colors(const T* images, int64_t step, int64_t channel, Size size, const int32_t* tables) {
  const int64_t i = pixel_of_thread(), pixels = size.pixels();
  const Frame frame = frame_of(size);
  if (blockIdx.x == 0 && threadIdx.x < kRounds) frame.open[threadIdx.x] = 0;
  if (i >= pixels) return;
  const T* pixel = images + blockIdx.y * 3 * pixels + step * i;
  int32_t l, a, b;
  const auto look_up = [tables](int32_t i) { return tables[i]; };
  slic_color(look_up, size.scale, slic_level(pixel[0]), slic_level(pixel[channel]), slic_level(pixel[2 * channel]), &l,
             &a, &b);
  const int64_t x = i % size.width, column = ((x + 1) * size.columns - 1) / size.width;
  const int32_t left = slic_position(size.scale.position, cell_start(column, size.width, size.columns));
  frame.la[i] = slic_pack(4 * l, 4 * a);
  frame.bx[i] = slic_pack(4 * b, slic_position(size.scale.position, x) - left);
}

// What one thread has seen of one slot; it goes to the block's sums when the slot changes.
struct Tally {
  int slot;
  int64_t number[6];

  __device__ void flush(Word* sums) {
    if (slot < kSlicSlots && number[5] > 0)
      for (int n = 0; n < 6; ++n) atomicAdd(sums + slot * 6 + n, static_cast<Word>(number[n]));
    for (int n = 0; n < 6; ++n) number[n] = 0;
  }
};

// Traffic: 8 bytes a pixel and a byte of mask are read, coalesced along rows; 48 bytes a slot are written, or with
// kLabel 4 bytes a pixel. Ownership: one block a cell. A thread walks down a column, where slots seldom change, so that
// nearly all additions stay in registers.
template <bool kLabel>
__global__ void find_nearest(Size size, const std::uint8_t* mask, bool nearest, int32_t* labels) {
  PYWS_SHARED(SlicCandidates, candidates, 1);
  PYWS_SHARED(Word, sums, kSlicSlots * 6);
  const Frame frame = frame_of(size);
  const int64_t row = blockIdx.x / size.columns, column = blockIdx.x % size.columns;
  const int64_t top = cell_start(row, size.height, size.rows), bottom = cell_start(row + 1, size.height, size.rows);
  const int64_t left = cell_start(column, size.width, size.columns);
  const int64_t right = cell_start(column + 1, size.width, size.columns);
  if (threadIdx.x < kSlicSlots && nearest)
    slic_candidate(frame.centers, row, column, size.rows, size.columns, slic_position(size.scale.position, left),
                   static_cast<int>(threadIdx.x), candidates);
  if (threadIdx.x < kSlicSlots * 6) sums[threadIdx.x] = 0;
  __syncthreads();
  Tally tally = {kSlicOutside, {0, 0, 0, 0, 0, 0}};
  for (int64_t x = left + threadIdx.x % kWarp; x < right; x += kWarp) {
    for (int64_t y = top + threadIdx.x / kWarp; y < bottom; y += kCellThreads / kWarp) {
      const int64_t i = y * size.width + x, in_batch = blockIdx.y * size.pixels() + i;
      const uint32_t la = frame.la[i], bx = frame.bx[i];
      uint32_t best = nearest ? UINT32_MAX : kSlicOwn;
      const int32_t at = slic_position(size.scale.position, y);
      for (int slot = 0; nearest && slot < kSlicSlots; ++slot) {
        const uint32_t distance = slic_distance(la, bx, candidates[0].la[slot], candidates[0].bx[slot],
                                                slic_row_part(candidates[0], slot, at));
        best = distance < best ? distance : best;
      }
      const int slot = mask && !mask[in_batch] ? kSlicOutside : static_cast<int>(best & 15);
      if (kLabel) {
        const int64_t cluster = blockIdx.x + (slot / 3 - 1) * size.columns + slot % 3 - 1;
        labels[in_batch] = slot == kSlicOutside ? -1 : static_cast<int32_t>(cluster);
        continue;
      }
      if (slot != tally.slot) tally.flush(sums);
      tally.slot = slot;
      const int64_t seen[6] = {slic_low(la) / 4, slic_high(la) / 4, slic_low(bx) / 4, x, y, 1};
      for (int n = 0; n < 6; ++n) tally.number[n] += seen[n];
    }
  }
  if (kLabel) return;
  tally.flush(sums);
  __syncthreads();
  Word* out = reinterpret_cast<Word*>(frame.sums + int64_t{blockIdx.x} * kSlicSlots);
  if (threadIdx.x < kSlicSlots * 6) out[threadIdx.x] = sums[threadIdx.x];
}

// Traffic: nine sums of 48 bytes are read a cluster, 20 bytes written. One thread a cluster.
__global__ void move_centers(Size size, bool first) {
  const int64_t k = pixel_of_thread();
  if (k >= size.rows * size.columns) return;
  const Frame frame = frame_of(size);
  const SlicSums total = slic_cluster(frame.sums, k, size.rows, size.columns);
  if (total.pixels > 0)
    frame.centers[k] = slic_center(total, size.scale.position);
  else if (first)
    frame.centers[k] = {{0, 0, 0}, kSlicNowhere, 0};
}

// ---- components

// Traffic: 4 bytes a pixel are read, twice where lanes meet; 48 written. One thread a pixel: within a warp the runs of
// a row are joined by a vote, without memory.
__global__ void start_components(Size size, const int32_t* labels) {
  const int64_t i = pixel_of_thread(), pixels = size.pixels();
  const Frame frame = frame_of(size);
  labels += blockIdx.y * pixels;
  const int lane = threadIdx.x % kWarp;
  const bool there = i < pixels;
  const bool head = !there || lane == 0 || i % size.width == 0 || labels[i] != labels[i - 1];
  const int first = first_of_run(head);
  if (!there) return;
  frame.parent[i] = static_cast<int32_t>(i) - (lane - first);
  frame.size[i] = 0;
  frame.preference[i] = kNone;
  for (int c = 0; c < 3; ++c) frame.color[c * pixels + i] = 0;
}

// Traffic: up to four labels a pixel, from L1; a pixel joins the one above only where its left neighbour does not do
// it for both. One thread a pixel.
__global__ void join_pixels(Size size, const int32_t* labels) {
  const int64_t i = pixel_of_thread(), pixels = size.pixels(), width = size.width;
  if (i >= pixels) return;
  const Frame frame = frame_of(size);
  labels += blockIdx.y * pixels;
  const int32_t label = labels[i], self = static_cast<int32_t>(i);
  if (label < 0) return;
  const bool left = i % width > 0 && labels[i - 1] == label;
  if (left && threadIdx.x % kWarp == 0) join(frame.parent, self, self - 1);
  if (i < width || labels[i - width] != label) return;
  if (left && labels[i - width - 1] == label) return;
  join(frame.parent, self, static_cast<int32_t>(i - width));
}

__device__ void add_to(const Frame& frame, int64_t pixels, int32_t component, const int64_t color[3], int32_t size) {
  if (size == 0) return;
  atomicAdd(frame.size + component, size);
  for (int c = 0; c < 3; ++c) atomicAdd(frame.color + c * pixels + component, static_cast<Word>(color[c]));
}

// Traffic: 12 bytes a pixel are read and 4 written, coalesced along rows, beside the walk to the first pixel. One
// thread a column of 32 rows: as long as the component is the same, sums stay in registers.
__global__ void measure_components(Size size, const int32_t* labels) {
  const int64_t pixels = size.pixels(), at = pixel_of_thread();
  const int64_t x = at % size.width, top = at / size.width * kStrip;
  const Frame frame = frame_of(size);
  labels += blockIdx.y * pixels;
  int32_t component = 0, count = 0;
  int64_t color[3] = {0, 0, 0};
  for (int64_t y = top; y < min64(top + kStrip, size.height); ++y) {
    const int64_t i = y * size.width + x;
    const int32_t own = root(frame.parent, static_cast<int32_t>(i));
    frame.component[i] = own;
    if (labels[i] < 0) continue;
    if (own != component) {
      add_to(frame, pixels, component, color, count);
      component = own;
      count = 0;
      color[0] = color[1] = color[2] = 0;
    }
    count += 1;
    color[0] += slic_low(frame.la[i]) / 4;
    color[1] += slic_high(frame.la[i]) / 4;
    color[2] += slic_low(frame.bx[i]) / 4;
  }
  add_to(frame, pixels, component, color, count);
}

// ---- small ones. A round has three kernels, all of which leave at once when the one before had nothing to join.

__device__ void prefer(const Frame& frame, int64_t pixels, int32_t a, int32_t b) {
  int32_t mean[2][3];
  for (int c = 0; c < 3; ++c) {
    mean[0][c] = slic_mean(static_cast<int64_t>(frame.color[c * pixels + a]), frame.size[a]);
    mean[1][c] = slic_mean(static_cast<int64_t>(frame.color[c * pixels + b]), frame.size[b]);
  }
  atomicMin(frame.preference + a, static_cast<Word>(slic_preference(mean[0], mean[1], static_cast<uint32_t>(b))));
}

// Traffic: a component a pixel, two more from L1; colours only beside small components. One thread a pixel looks to the
// right and down.
__global__ void prefer_neighbours(Size size, const int32_t* labels, int round, int64_t min_size) {
  const int64_t i = pixel_of_thread(), pixels = size.pixels(), width = size.width;
  const Frame frame = frame_of(size);
  if (i >= pixels || (round > 0 && frame.open[round - 1] == 0)) return;
  labels += blockIdx.y * pixels;
  if (labels[i] < 0) return;
  const int32_t a = frame.component[i];
  const auto compare = [&](int64_t other) {
    const int32_t b = frame.component[other];
    if (a == b || labels[other] < 0) return;
    const bool a_small = frame.size[a] < min_size, b_small = frame.size[b] < min_size;
    if (a_small) prefer(frame, pixels, a, b);
    if (b_small) prefer(frame, pixels, b, a);
    if (a_small || b_small) atomicOr(frame.open + round, 1);
  };
  if (i % width + 1 < width) compare(i + 1);
  if (i + width < pixels) compare(i + width);
}

// Traffic: a preference a pixel. One thread a pixel: those of first pixels join.
__global__ void join_preferred(Size size, int round) {
  const int64_t i = pixel_of_thread();
  const Frame frame = frame_of(size);
  if (i >= size.pixels() || frame.open[round] == 0) return;
  const Word choice = frame.preference[i];
  if (choice != kNone) join(frame.parent, static_cast<int32_t>(i), static_cast<int32_t>(choice & 0xffffffffu));
}

// Traffic: 4 bytes a pixel are read and written, 8 more written. One thread a pixel: finds its component anew, and
// hands on what was kept at a first pixel that is first no longer.
__global__ void settle_components(Size size, int round) {
  const int64_t i = pixel_of_thread(), pixels = size.pixels();
  const Frame frame = frame_of(size);
  if (i >= pixels || frame.open[round] == 0) return;
  frame.preference[i] = kNone;
  const int32_t before = frame.component[i], now = root(frame.parent, before);
  frame.component[i] = now;
  if (before != i || now == i) return;
  int64_t color[3];
  for (int c = 0; c < 3; ++c) color[c] = static_cast<int64_t>(frame.color[c * pixels + i]);
  add_to(frame, pixels, now, color, frame.size[i]);
}

// ---- labels

// The number of set flags before this thread's in the block; *total: of all. All threads call it.
__device__ int32_t rank_in_block(bool flag, int32_t* total) {
  PYWS_SHARED(int32_t, of_warp, kThreads / kWarp);
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const unsigned flags = __ballot_sync(kWholeWarp, flag);
  if (lane == 0) of_warp[warp] = __popc(flags);
  __syncthreads();
  int32_t rank = __popc(flags & ((1u << lane) - 1)), sum = 0;
  for (unsigned w = 0; w < kThreads / kWarp; ++w) {
    if (w < warp) rank += of_warp[w];
    sum += of_warp[w];
  }
  *total = sum;
  return rank;
}

__device__ __forceinline__ bool is_first(const Size& size, const Frame& frame, const int32_t* labels) {
  const int64_t i = pixel_of_thread();
  return i < size.pixels() && labels[i] >= 0 && frame.component[i] == i;
}

// Traffic: 8 bytes a pixel are read, 4 a block written. One thread a pixel.
__global__ void count_components(Size size, const int32_t* labels) {
  const Frame frame = frame_of(size);
  int32_t total;
  rank_in_block(is_first(size, frame, labels + blockIdx.y * size.pixels()), &total);
  if (threadIdx.x == 0) frame.before[blockIdx.x] = total;
}

// Counts of the blocks to sums of those before. Traffic: 4 bytes a block of pixels are read and written. Ownership: one
// block a frame, a shared scan of 256 counts at a time.
__global__ void add_up_blocks(Size size) {
  PYWS_SHARED(int32_t, sums, kThreads);
  const Frame frame = frame_of(size);
  const int64_t blocks = ceil_div(size.pixels(), kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  int32_t before = 0;
  for (int64_t first = 0; first < blocks; first += kThreads) {
    const int64_t at = first + thread;
    const int32_t own = at < blocks ? frame.before[at] : 0;
    sums[thread] = own;
    __syncthreads();
    for (int distance = 1; distance < kThreads; distance *= 2) {
      const int32_t more = thread >= distance ? sums[thread - distance] : 0;
      __syncthreads();
      sums[thread] += more;
      __syncthreads();
    }
    if (at < blocks) frame.before[at] = before + sums[thread] - own;
    before += sums[kThreads - 1];
    __syncthreads();
  }
}

// Traffic: 8 bytes a pixel are read, 4 a superpixel written, in the place of its size. One thread a pixel.
__global__ void number_components(Size size, const int32_t* labels) {
  const Frame frame = frame_of(size);
  int32_t total;
  const bool first = is_first(size, frame, labels + blockIdx.y * size.pixels());
  const int32_t rank = rank_in_block(first, &total);
  if (first) frame.size[pixel_of_thread()] = frame.before[blockIdx.x] + rank;
}

// Traffic: 8 bytes a pixel are read, 4 written, coalesced; numbers come from L2. One thread a pixel.
__global__ void paint(Size size, int32_t* labels) {
  const int64_t i = pixel_of_thread();
  if (i >= size.pixels()) return;
  const Frame frame = frame_of(size);
  labels += blockIdx.y * size.pixels();
  if (labels[i] >= 0) labels[i] = frame.size[frame.component[i]];
}

template <class T>
void run_colors(const void* images, bool interleaved, dim3 grid, void* stream, const Size& size,
                const int32_t* tables) {
  const int64_t step = interleaved ? 3 : 1, channel = interleaved ? 1 : size.pixels();
  launch("slic", find_colors<T>, grid, dim3(kThreads), 0, stream, static_cast<const T*>(images), step, channel, size,
         tables);
}

// Frames that are in the scratch memory together.
void run(DType dtype, const void* images, bool interleaved, const std::uint8_t* mask, unsigned frames, const Size& size,
         int64_t iterations, int64_t min_size, const int32_t* tables, int32_t* labels, void* stream) {
  const auto grid_of = [&](int64_t blocks) {
    dim3 grid = grid_1d("slic", blocks);
    grid.y = frames;
    return grid;
  };
  const dim3 block(kThreads), cell(kCellThreads);
  const dim3 pixels = grid_of(ceil_div(size.pixels(), kThreads)), cells = grid_of(size.rows * size.columns);
  const dim3 clusters = grid_of(ceil_div(size.rows * size.columns, kThreads));
  const auto colors = dtype == kFloat32    ? run_colors<float>
                      : dtype == kFloat64  ? run_colors<double>
                      : dtype == kFloat16  ? run_colors<half_t>
                      : dtype == kBFloat16 ? run_colors<bfloat16_t>
                                           : run_colors<std::uint8_t>;
  colors(images, interleaved, pixels, stream, size, tables);
  for (int64_t iteration = 1; iteration < iterations; ++iteration) {
    launch("slic", find_nearest<false>, cells, cell, 0, stream, size, mask, iteration > 1, nullptr);
    launch("slic", move_centers, clusters, block, 0, stream, size, iteration == 1);
  }
  launch("slic", find_nearest<true>, cells, cell, 0, stream, size, mask, iterations > 1, labels);

  launch("slic", start_components, pixels, block, 0, stream, size, labels);
  launch("slic", join_pixels, pixels, block, 0, stream, size, labels);
  const dim3 strips = grid_of(ceil_div(size.width * ceil_div(size.height, kStrip), kThreads));
  launch("slic", measure_components, strips, block, 0, stream, size, labels);
  // What is still small after a round has at least two parts that were small before: sizes double.
  int round = 0;
  for (int64_t joined = 1; joined < min_size; joined *= 2, ++round) {
    launch("slic", prefer_neighbours, pixels, block, 0, stream, size, labels, round, min_size);
    launch("slic", join_preferred, pixels, block, 0, stream, size, round);
    launch("slic", settle_components, pixels, block, 0, stream, size, round);
  }
  launch("slic", count_components, pixels, block, 0, stream, size, labels);
  launch("slic", add_up_blocks, grid_of(1), block, 0, stream, size);
  launch("slic", number_components, pixels, block, 0, stream, size, labels);
  launch("slic", paint, pixels, block, 0, stream, size, labels);
}

}  // namespace

void slic_cuda(const SlicParams& p, void* stream) {
  check_dtypes(p);
  const DType dtype = p.images.dtype;
  const int64_t bytes = slic_bytes(dtype);
  const Size size = {
      p.height, p.width, p.rows, p.columns, slic_scale(p.compactness, p.height, p.width, p.rows, p.columns), p.scratch};
  const int64_t pixels = p.height * p.width, together = min64(p.slots, 65535);
  for (int64_t b = 0; b < p.batch; b += together) {
    const auto frames = static_cast<unsigned>(min64(together, p.batch - b));
    run(dtype, p.images.as<char>() + b * 3 * pixels * bytes, p.interleaved, p.mask ? p.mask.data + b * pixels : nullptr,
        frames, size, p.iterations, p.min_size, p.tables, p.labels + b * pixels, stream);
  }
}

}  // namespace pyws
