#include "background_patches/background_patches.h"
#include "components/pixel_runs_cuda.h"

namespace pyws {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kStrip = 8192;  // squares that a block counts

// Traffic: a mask is read and its row sums are written once, coalesced. Ownership: one warp a row of a frame; 32 pixels
// at a time become a ballot, and each lane counts the bits up to its own. Row 0 of the integral image is all zero.
__global__ void sum_rows(const std::uint8_t* masks, std::int64_t rows, std::int64_t height, std::int64_t width,
                         std::int32_t* integral) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (row >= rows) return;  // whole warps leave together
  const int lane = threadIdx.x % kWarp;
  const std::int64_t b = row / (height + 1), y = row % (height + 1);
  const std::int64_t mask = (b * height + y - 1) * width;  // an index: before the first row no pointer may point
  std::int32_t* out = integral + row * (width + 1);
  if (lane == 0) out[0] = 0;
  std::int32_t before = 0;
  for (std::int64_t first = 0; first < width; first += kWarp) {
    const std::int64_t x = first + lane;
    const unsigned set = __ballot_sync(kWholeWarp, y > 0 && x < width && masks[mask + x] != 0);
    if (x < width) out[x + 1] = before + __popc(set & (kWholeWarp >> (kWarp - 1 - lane)));
    before += __popc(set);
  }
}

// Traffic: the row sums are read and written once, neighbouring columns by neighbouring threads. Ownership: a thread a
// column of a frame.
__global__ void sum_columns(std::int64_t columns, std::int64_t height, std::int64_t stride, std::int32_t* integral) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= columns) return;
  std::int32_t* at = integral + i / stride * (height + 1) * stride + i % stride;
  std::int32_t sum = 0;
  for (std::int64_t y = 0; y <= height; ++y) at[y * stride] = sum += at[y * stride];
}

// The squares of one side in one frame, numbered row by row.
struct Squares {
  const std::int32_t* integral;
  std::int64_t stride, side, columns, count;
  std::int32_t limit;

  __device__ bool fits(std::int64_t i) const {
    const std::int32_t* top = integral + i / columns * stride;
    return patch_sum(top, top + side * stride, i % columns, side) <= limit;
  }
};

template <class Params>
__device__ __forceinline__ Squares squares_of(const Params& p, std::int64_t query) {
  const std::int64_t frame = p.frames[query], side = p.sides[query];
  const bool known = frame >= 0 && frame < p.batch;
  const Corners corners = corners_of(known ? side : 0, p.height, p.width);
  const std::int64_t stride = p.width + 1, count = corners.rows * corners.columns;
  return {p.integral + (known ? frame : 0) * (p.height + 1) * stride,
          stride,
          side,
          corners.columns,
          count,
          count > 0 ? patch_limit(side, p.share) : 0};
}

// Traffic: four values of the integral image a square, coalesced and shared with its neighbours in L1 and L2; one
// atomic addition a warp. Ownership: a block counts 8192 neighbouring squares of one side and frame.
__global__ void count_squares(CountPatchesParams p, std::int64_t strips) {
  const std::int64_t i = blockIdx.x / strips, from = blockIdx.x % strips * kStrip;
  const Squares squares = squares_of(p, i);
  const std::int64_t to = min64(from + kStrip, squares.count);
  unsigned fitting = 0;
  for (std::int64_t first = from; first < to; first += kThreads) {
    const std::int64_t at = first + threadIdx.x;
    fitting += __popc(__ballot_sync(kWholeWarp, at < to && squares.fits(at)));
  }
  if (threadIdx.x % kWarp == 0 && fitting > 0)
    atomicAdd(reinterpret_cast<Counter*>(p.counts + i), static_cast<Counter>(fitting));
}

// Traffic: four values of the integral image a square, up to the one that is found. Ownership: one block a query; 256
// squares at a time, each warp counting its own by ballot.
__global__ void find_squares(FindPatchesParams p) {
  PYWS_SHARED(int, fitting, kWarps);
  const std::int64_t q = blockIdx.x;
  const Squares squares = squares_of(p, q);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  std::int64_t rank = p.ranks[q];
  bool found = false;
  for (std::int64_t first = 0; first < squares.count && rank >= 0 && !found; first += kThreads) {
    const std::int64_t at = first + threadIdx.x;
    const bool fits = at < squares.count && squares.fits(at);
    const unsigned ballot = __ballot_sync(kWholeWarp, fits);
    __syncthreads();
    if (lane == 0) fitting[warp] = __popc(ballot);
    __syncthreads();
    std::int64_t before = 0, total = 0;
    for (int w = 0; w < kWarps; ++w) {
      before += w < warp ? fitting[w] : 0;
      total += fitting[w];
    }
    if (fits && before + __popc(ballot & ((1u << lane) - 1)) == rank) {
      p.corners[2 * q] = at / squares.columns;
      p.corners[2 * q + 1] = at % squares.columns;
    }
    found = rank < total;
    rank -= total;
  }
  if (!found && threadIdx.x == 0) p.corners[2 * q] = p.corners[2 * q + 1] = -1;
}

}  // namespace

void integral_image_cuda(const IntegralParams& p, void* stream) {
  const char* op = "integral_image";
  const std::int64_t rows = p.batch * (p.height + 1), columns = p.batch * (p.width + 1);
  launch(op, sum_rows, grid_1d(op, ceil_div(rows, kWarps)), dim3(kThreads), 0, stream, p.masks, rows, p.height, p.width,
         p.integral);
  launch(op, sum_columns, grid_1d(op, ceil_div(columns, kThreads)), dim3(kThreads), 0, stream, columns, p.height,
         p.width + 1, p.integral);
}

void count_patches_cuda(const CountPatchesParams& p, void* stream) {
  const char* op = "count_patches";
  const std::int64_t strips = ceil_div(p.height * p.width, kStrip);
  launch(op, count_squares, grid_1d(op, p.queries * strips), dim3(kThreads), 0, stream, p, strips);
}

void find_patches_cuda(const FindPatchesParams& p, void* stream) {
  const char* op = "find_patches";
  launch(op, find_squares, grid_1d(op, p.queries), dim3(kThreads), 0, stream, p);
}

}  // namespace pyws
