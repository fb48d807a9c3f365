#include "components/components_cuda.h"
#include "components/pixel_runs_cuda.h"
#include "superpixel_select/drop_components.h"

namespace pyws {
namespace {

constexpr int kThreads = 256;

// One frame of a launch of `tiles` blocks a frame, and the pixel of the calling thread.
struct Frame {
  std::uint8_t* mask;
  std::int32_t *parent, *size;
  std::int64_t pixel;

  __device__ Frame(std::uint8_t* masks, std::int32_t* parents, std::int32_t* sizes, std::int64_t pixels,
                   std::int64_t tiles) {
    const std::int64_t begin = blockIdx.x / tiles * pixels;
    mask = masks + begin;
    parent = parents + begin;
    size = sizes + begin;
    pixel = blockIdx.x % tiles * kThreads + threadIdx.x;
  }
};

// Traffic: 1 byte a pixel is read, twice where lanes meet; 8 written. One thread a pixel: within a warp the runs of a
// row are joined by a vote, without memory.
__global__ void start_runs(std::uint8_t* masks, std::int32_t* parents, std::int32_t* sizes, std::int64_t pixels,
                           std::int64_t tiles, std::int64_t width) {
  const Frame frame(masks, parents, sizes, pixels, tiles);
  const std::int64_t i = frame.pixel;
  const bool inside = i < pixels && threadIdx.x % kWarp > 0 && i % width > 0;
  const int first = first_of_run(!inside || frame.mask[i] == 0 || frame.mask[i - 1] == 0);
  if (i >= pixels) return;
  frame.parent[i] = static_cast<std::int32_t>(i) - (static_cast<int>(threadIdx.x % kWarp) - first);
  frame.size[i] = 0;
}

// Traffic: up to six bytes a pixel, from L1. One thread a pixel: it joins what lies above, unless a neighbour in its
// row does.
__global__ void join_runs(std::uint8_t* masks, std::int32_t* parents, std::int32_t* sizes, std::int64_t pixels,
                          std::int64_t tiles, std::int64_t width) {
  const Frame frame(masks, parents, sizes, pixels, tiles);
  const std::int64_t i = frame.pixel;
  if (i >= pixels || frame.mask[i] == 0) return;
  const bool not_first = i % width > 0, not_last = i % width < width - 1, lower = i >= width;
  const std::uint8_t* above = frame.mask + i - (lower ? width : 0);
  const bool left = not_first && frame.mask[i - 1] != 0, right = not_last && frame.mask[i + 1] != 0;
  const bool up = lower && above[0] != 0;
  const bool up_left = lower && not_first && above[-1] != 0, up_right = lower && not_last && above[1] != 0;
  const std::int32_t self = static_cast<std::int32_t>(i), over = static_cast<std::int32_t>(i - width);
  if (left && threadIdx.x % kWarp == 0) join(frame.parent, self, self - 1);
  if (up && !(left && up_left)) join(frame.parent, self, over);
  if (!up && up_left && !left) join(frame.parent, self, over - 1);
  if (!up && up_right && !right) join(frame.parent, self, over + 1);
}

// Traffic: 5 bytes a pixel are read, coalesced, beside the walk to the first pixel; neighbouring lanes of one part cost
// one atomic addition. One thread a pixel.
__global__ void measure(std::uint8_t* masks, std::int32_t* parents, std::int32_t* sizes, std::int64_t pixels,
                        std::int64_t tiles) {
  const Frame frame(masks, parents, sizes, pixels, tiles);
  const bool set = frame.pixel < pixels && frame.mask[frame.pixel] != 0;
  const std::int32_t part = set ? root(frame.parent, static_cast<std::int32_t>(frame.pixel)) : -1;
  const std::int32_t left = __shfl_up_sync(kWholeWarp, part, 1);
  const unsigned run = run_from(threadIdx.x % kWarp == 0 || part != left);
  if (set && run != 0) atomicAdd(frame.size + part, __popc(run));
}

// Traffic: 5 bytes a pixel are read, coalesced, beside the walk to the first pixel; pixels of large parts are written.
// One thread a pixel.
__global__ void clear_large(std::uint8_t* masks, std::int32_t* parents, std::int32_t* sizes, std::int64_t pixels,
                            std::int64_t tiles, double beta) {
  const Frame frame(masks, parents, sizes, pixels, tiles);
  if (frame.pixel >= pixels || frame.mask[frame.pixel] == 0) return;
  const std::int32_t part = root(frame.parent, static_cast<std::int32_t>(frame.pixel));
  if (ratio(frame.size[part], pixels) >= beta) frame.mask[frame.pixel] = 0;
}

}  // namespace

void drop_components_cuda(const DropParams& p, void* stream) {
  const char* op = "drop_components";
  const std::int64_t pixels = p.height * p.width, tiles = ceil_div(pixels, kThreads);
  const dim3 grid = grid_1d(op, p.batch * tiles), block(kThreads);
  launch(op, start_runs, grid, block, 0, stream, p.masks, p.parent, p.size, pixels, tiles, p.width);
  launch(op, join_runs, grid, block, 0, stream, p.masks, p.parent, p.size, pixels, tiles, p.width);
  launch(op, measure, grid, block, 0, stream, p.masks, p.parent, p.size, pixels, tiles);
  launch(op, clear_large, grid, block, 0, stream, p.masks, p.parent, p.size, pixels, tiles, p.beta);
}

}  // namespace pyws
