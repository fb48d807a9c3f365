#include "common/cuda_launch.h"
#include "components/pixel_runs_cuda.h"
#include "superpixel_select/most_votes.cuh"
#include "superpixel_select/superpixel_select.h"

namespace pyws {
namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;       // loads that a thread starts before it looks at the first
constexpr int kTile = 8192;        // pixels a block counts
constexpr int kMostShared = 4096;  // superpixels whose counters fit into 32 KB of shared memory
constexpr int kPaintedAtOnce = 4;  // pixels a thread paints

template <class Params>
__device__ __forceinline__ Counter* summary_of(const Params& p, std::int64_t frame) {
  return reinterpret_cast<Counter*>(p.summary) + frame * kSummary;
}

// Traffic: every label and mask byte is read once, coalesced, 32 pixels a warp and step. A run of one label within
// these 32 pixels costs one atomic addition of (pixels, mask pixels), packed in 64 bits: to the block's shared
// counters, which then go to those of the frame, or straight there where the superpixels are too many to share.
// Ownership: one block a tile of 8192 neighbouring pixels of one frame.
//
//   labels  7 7 7 7 7 9 9 9 9 9 9 7 7 ...     lane 0 adds (5, 3) to 7
//   mask    . . x x x x x . . . . . .         lane 5 adds (6, 2) to 9, lane 11 ...
template <class Label>
__global__ void count_pixels(SelectParams p, std::int64_t tiles) {
  PYWS_DYNAMIC_SHARED(Counter, shared);
  const std::int64_t b = blockIdx.x / tiles, from = blockIdx.x % tiles * kTile;
  const std::int64_t to = min64(from + kTile, p.pixels);
  const std::uint64_t superpixels = p.superpixels;
  const bool sharing = superpixels <= kMostShared;
  Counter* frame = reinterpret_cast<Counter*>(p.counts) + b * superpixels;
  Counter* target = sharing ? shared : frame;
  for (unsigned s = threadIdx.x; sharing && s < superpixels; s += kThreads) shared[s] = 0;
  __syncthreads();
  const Label* labels = p.labels.as<Label>() + b * p.pixels;
  const std::uint8_t* mask = p.mask + b * p.pixels;
  unsigned outside = 0;
  for (std::int64_t first = from; first < to; first += kInFlight * kThreads) {
    std::uint64_t label[kInFlight];
    bool set[kInFlight];
    for (int k = 0; k < kInFlight; ++k) {
      const std::int64_t i = first + k * kThreads + threadIdx.x;
      label[k] = i < to ? index_of(labels[i]) : 0;
      set[k] = i < to && mask[i] != 0;
    }
    for (int k = 0; k < kInFlight; ++k) {
      const bool there = first + k * kThreads + threadIdx.x < to;
      const std::uint64_t left = left_neighbour(label[k]);
      const unsigned run = run_from(threadIdx.x % kWarp == 0 || label[k] != left);
      const unsigned n = __popc(run & __ballot_sync(kWholeWarp, there));
      const Counter inside = __popc(run & __ballot_sync(kWholeWarp, set[k]));
      if (n == 0) continue;
      if (label[k] < superpixels)
        atomicAdd(target + label[k], inside << 32 | n);
      else
        outside += n;
    }
  }
  if (outside > 0) atomicAdd(summary_of(p, b) + kOutside, static_cast<Counter>(outside));
  __syncthreads();
  for (unsigned s = threadIdx.x; sharing && s < superpixels; s += kThreads)
    if (shared[s] != 0) atomicAdd(frame + s, shared[s]);
}

// The sum, or the greatest, of one number a thread, in all threads.
template <class Add>
__device__ std::int64_t reduce(std::int64_t x, std::int64_t* partial, const Add& add) {
  partial[threadIdx.x] = x;
  __syncthreads();
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < static_cast<unsigned>(width))
      partial[threadIdx.x] = add(partial[threadIdx.x], partial[threadIdx.x + width]);
    __syncthreads();
  }
  const std::int64_t total = partial[0];
  __syncthreads();
  return total;
}

// Traffic: 8 bytes a superpixel are read, 16 written and read again, 1 written. Ownership: one block a frame.
__global__ void select_superpixels(SelectParams p) {
  PYWS_SHARED(std::int64_t, partial, kThreads);
  std::int64_t *area = p.counts + blockIdx.x * p.superpixels, *intersection = area + p.batch * p.superpixels;
  std::int64_t mask_area = 0, used = 0;
  for (std::int64_t s = threadIdx.x; s < p.superpixels; s += kThreads) {
    const std::int64_t both = area[s];
    area[s] = both & 0xffffffff;
    intersection[s] = both >> 32;
    mask_area += both >> 32;
    if (both != 0) used = s + 1;
  }
  mask_area = reduce(mask_area, partial, [](std::int64_t a, std::int64_t b) { return a + b; });
  used = reduce(used, partial, [](std::int64_t a, std::int64_t b) { return max64(a, b); });
  if (threadIdx.x == 0) p.summary[blockIdx.x * kSummary + kUsed] = used;
  for (std::int64_t s = threadIdx.x; s < p.superpixels; s += kThreads)
    p.passes[blockIdx.x * p.superpixels + s] =
        superpixel_passes(area[s], intersection[s], mask_area, p.pixels, p.alpha, p.beta, p.overlap);
}

// Traffic: every label is read once, coalesced; its verdict comes from L1 or L2; one value a pixel is written.
// Ownership: a block paints 1024 neighbouring pixels of one frame, a warp 32 at a time.
template <class Label, class Verdict, class Out>
__global__ void paint(const Label* labels, std::int64_t pixels, std::int64_t tiles, std::uint64_t superpixels,
                      const Verdict* verdicts, Out* refined) {
  const std::int64_t b = blockIdx.x / tiles, from = blockIdx.x % tiles * kThreads * kPaintedAtOnce + threadIdx.x;
  verdicts += b * superpixels;
  std::uint64_t label[kPaintedAtOnce];
  for (int k = 0; k < kPaintedAtOnce; ++k) {
    const std::int64_t i = from + k * kThreads;
    label[k] = i < pixels ? index_of(labels[b * pixels + i]) : superpixels;
  }
  for (int k = 0; k < kPaintedAtOnce; ++k) {
    const std::int64_t i = from + k * kThreads;
    if (i < pixels) refined[b * pixels + i] = static_cast<Out>(label[k] < superpixels ? verdicts[label[k]] : 0);
  }
}

// Traffic: every label and class is read once, coalesced; a run of one label and class within 32 pixels costs one
// atomic addition to the table and one to the area. Ownership: a thread a pixel.
template <class Label, class Class>
__global__ void count_classes(VoteParams p, std::int64_t tiles) {
  const std::uint64_t superpixels = p.superpixels, num_classes = p.num_classes;
  const std::int64_t b = blockIdx.x / tiles, i = blockIdx.x % tiles * kThreads + threadIdx.x;
  const bool there = i < p.pixels;
  const std::uint64_t label = there ? index_of(p.labels.as<Label>()[b * p.pixels + i]) : 0;
  const std::uint64_t kind = there ? index_of(p.classes.as<Class>()[b * p.pixels + i]) : 0;
  const std::uint64_t left_label = left_neighbour(label), left_kind = left_neighbour(kind);
  const unsigned run = run_from(threadIdx.x % kWarp == 0 || label != left_label || kind != left_kind);
  const Counter n = __popc(run & __ballot_sync(kWholeWarp, there));
  if (n == 0) return;
  const bool counted = kind < num_classes;
  if (!counted && kind != index_of(p.ignored)) atomicAdd(summary_of(p, b) + kUnknown, n);
  if (label >= superpixels) {
    atomicAdd(summary_of(p, b) + kOutside, n);
    return;
  }
  const std::uint64_t row = b * superpixels + label;
  atomicAdd(reinterpret_cast<Counter*>(p.area) + row, n);
  if (counted) atomicAdd(reinterpret_cast<Counter*>(p.table) + row * num_classes + kind, n);
}

// Traffic: the table is read once, coalesced. Ownership: one warp a superpixel, lanes over its classes.
__global__ void choose_classes(VoteParams p) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (row >= p.batch * p.superpixels) return;  // whole warps leave together
  const Votes best = most_votes(p.table + row * p.num_classes, p.num_classes);
  if (threadIdx.x % kWarp > 0) return;
  p.winner[row] = accepted_class(best, p.area[row], p.alpha);
  if (p.area[row] > 0)
    atomicMax(summary_of(p, row / p.superpixels) + kUsed, static_cast<Counter>(row % p.superpixels + 1));
}

template <class Label, class Params, class Verdict, class Out>
void launch_paint(const char* op, const Params& p, const Verdict* verdicts, Out* refined, void* stream) {
  const std::int64_t tiles = ceil_div(p.pixels, kThreads * kPaintedAtOnce);
  launch(op, paint<Label, Verdict, Out>, grid_1d(op, p.batch * tiles), dim3(kThreads), 0, stream,
         p.labels.template as<Label>(), p.pixels, tiles, p.superpixels, verdicts, refined);
}

}  // namespace

void superpixel_select_cuda(const SelectParams& p, void* stream) {
  const char* op = "superpixel_select";
  const std::int64_t tiles = ceil_div(p.pixels, kTile);
  const std::size_t shared = p.superpixels <= kMostShared ? p.superpixels * sizeof(Counter) : 0;
  with_labels(op, "labels", p.labels.dtype, [&](auto label) {
    using Label = decltype(label);
    launch(op, count_pixels<Label>, grid_1d(op, p.batch * tiles), dim3(kThreads), shared, stream, p, tiles);
    launch(op, select_superpixels, grid_1d(op, p.batch), dim3(kThreads), 0, stream, p);
    launch_paint<Label>(op, p, p.passes, p.refined, stream);
  });
}

void superpixel_vote_cuda(const VoteParams& p, void* stream) {
  const char* op = "superpixel_vote";
  check_dtype(op, "refined", p.refined.dtype, p.classes.dtype);
  const std::int64_t tiles = ceil_div(p.pixels, kThreads), rows = p.batch * p.superpixels;
  with_labels(op, "labels", p.labels.dtype, [&](auto label) {
    with_classes(op, "classes", p.classes.dtype, [&](auto kind) {
      using Label = decltype(label);
      using Class = decltype(kind);
      launch(op, count_classes<Label, Class>, grid_1d(op, p.batch * tiles), dim3(kThreads), 0, stream, p, tiles);
      launch(op, choose_classes, grid_1d(op, ceil_div(rows, kThreads / kWarp)), dim3(kThreads), 0, stream, p);
      launch_paint<Label>(op, p, p.winner, p.refined.as<Class>(), stream);
    });
  });
}

}  // namespace pyws
