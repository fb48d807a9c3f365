#include "gradcam3d/gradcam3d.h"

#include <algorithm>

#include "common/parallel.h"
#include "gradcam3d/gradcam3d_simd.h"

namespace pyws {
namespace {

// The positions of one map, in rising order, as `rows` runs of `length` elements that are `stride` apart: neighbouring
// dimensions that lie evenly in memory are one.
struct Runs {
  std::int64_t rows = 1, length = 1, stride = 1;
  std::int64_t outer_stride = 0, inner = 1, inner_stride = 0;  // row r starts at r/inner, r%inner

  Runs(const Shape5& shape, const Shape5& strides) {
    std::int64_t sizes[3], steps[3];
    int kept = 0;  // dimensions kept, innermost first
    for (int d = 4; d >= 2; --d) {
      if (shape[d] == 1) continue;
      if (kept > 0 && strides[d] == steps[kept - 1] * sizes[kept - 1]) {
        sizes[kept - 1] *= shape[d];
      } else {
        sizes[kept] = shape[d];
        steps[kept++] = strides[d];
      }
    }
    if (kept > 0) length = sizes[0], stride = steps[0];
    if (kept > 1) rows = inner = sizes[1], inner_stride = steps[1];
    if (kept > 2) rows *= sizes[2], outer_stride = steps[2];
  }

  std::int64_t start(std::int64_t row) const { return row / inner * outer_stride + row % inner * inner_stride; }
};

constexpr double kNanoseconds = 0.1;  // an element, roughly

// The mean of one row in the order of the contract, wherever its positions lie.
template <class T, class A = typename Accumulator<T>::type>
A mean_of_runs(const T* x, const Runs& runs) {
  const std::int64_t positions = runs.rows * runs.length;
  double sum = 0;
  for (std::int64_t first = 0; first < positions; first += kGradcamBlock) {
    const std::int64_t n = min64(kGradcamBlock, positions - first);
    A lanes[kGradcamLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t row = (first + i) / runs.length, at = (first + i) % runs.length;
      lanes[gradcam_lane(i, n)] += widen(x[runs.start(row) + at * runs.stride]);
    }
    sum += gradcam_add_lanes(lanes);
  }
  return static_cast<A>(sum / static_cast<double>(positions));
}

// means (B, C). A unit of work is a block of channels of one batch entry.
template <class T, class A = typename Accumulator<T>::type>
void mean_positions(const GradcamLayouts<T>& loops, const T* gradients, const Shape5& shape, const Shape5& strides,
                    A* means, int threads) {
  const Runs runs(shape, strides);
  const std::int64_t positions = runs.rows * runs.length, channels = shape[1];
  const std::int64_t blocks = ceil_div(channels, kGradcamChannelBlock);
  const auto block_of = [&](std::int64_t i) {
    const std::int64_t from = i % blocks * kGradcamChannelBlock, n = min64(kGradcamChannelBlock, channels - from);
    const T* x = gradients + i / blocks * strides[0] + from * strides[1];
    A* out = means + i / blocks * channels + from;
    if (runs.rows == 1 && runs.stride == 1)
      loops.mean_rows(x, strides[1], n, positions, out);
    else if (runs.rows == 1 && strides[1] == 1)
      loops.mean_columns(x, runs.stride, positions, n, out);
    else
      for (std::int64_t c = 0; c < n; ++c) out[c] = mean_of_runs(x + c * strides[1], runs);
  };
  const double nanoseconds = kNanoseconds * static_cast<double>(min64(kGradcamChannelBlock, channels) * positions);
  parallel_for(shape[0] * blocks, nanoseconds, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) block_of(i);
  });
}

// maps (B, T, H, W). A unit of work is a tile of neighbouring positions; small batches get smaller tiles, so that all
// threads have one.
template <class T, class A = typename Accumulator<T>::type>
void weigh_channels(const GradcamLayouts<T>& loops, const T* activations, const Shape5& shape, const Shape5& strides,
                    const A* weights, T* maps, int threads) {
  const Runs runs(shape, strides);
  const std::int64_t channels = shape[1], all_runs = shape[0] * runs.rows;
  const std::int64_t tile = min64(kGradcamTile, max64(kGradcamLanes, ceil_div(runs.length * all_runs, threads)));
  const std::int64_t tiles = ceil_div(runs.length, tile);
  const auto tile_of = [&](std::int64_t i) {
    const std::int64_t b = i / tiles / runs.rows, row = i / tiles % runs.rows;
    const std::int64_t from = i % tiles * tile, n = min64(tile, runs.length - from);
    const T* x = activations + b * strides[0] + runs.start(row) + from * runs.stride;
    const A* weight = weights + b * channels;
    T* out = maps + (b * runs.rows + row) * runs.length + from;
    if (runs.stride == 1)
      loops.weigh_rows(x, strides[1], channels, n, weight, out);
    else if (strides[1] == 1)
      loops.weigh_columns(x, runs.stride, channels, n, weight, out);
    else
      for (std::int64_t k = 0; k < n; ++k)
        narrow(relu(gradcam_weigh(x + k * runs.stride, strides[1], channels, weight)), out + k);
  };
  const double nanoseconds = kNanoseconds * static_cast<double>(channels * min64(tile, runs.length));
  parallel_for(all_runs * tiles, nanoseconds, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) tile_of(i);
  });
}

template <class T, class A = typename Accumulator<T>::type>
void normalize_maps(T* maps, std::int64_t batch, std::int64_t positions, int threads) {
  parallel_for(batch, 1.0 * static_cast<double>(positions), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      T* map = maps + b * positions;
      A low = widen(map[0]), high = low;
      for (std::int64_t i = 1; i < positions; ++i) {
        const A x = widen(map[i]);
        low = x < low || x != x ? x : low;  // once NaN, always NaN
        high = x > high || x != x ? x : high;
      }
      for (std::int64_t i = 0; i < positions; ++i) narrow(min_max_scale(A(widen(map[i])), low, high), map + i);
    }
  });
}

template <class T, class A = typename Accumulator<T>::type>
void run(const GradcamParams& p, int threads) {
  const GradcamLayouts<T>& loops = loops_of<T>(gradcam_loops());
  const std::int64_t positions = p.shape[2] * p.shape[3] * p.shape[4];
  if (p.shape[0] == 0 || positions == 0) return;
  T* maps = p.maps.as<T>();
  if (p.shape[1] == 0) {
    std::fill_n(maps, p.shape[0] * positions, T{});
    return;
  }
  A* weights = p.scratch.as<A>();
  mean_positions(loops, p.gradients.as<T>(), p.shape, p.gradient_strides, weights, threads);
  weigh_channels<T, A>(loops, p.activations.as<T>(), p.shape, p.activation_strides, weights, maps, threads);
  if (p.minmax) normalize_maps<T, A>(maps, p.shape[0], positions, threads);
}

}  // namespace

void gradcam3d_cpu(const GradcamParams& p, int threads) {
  check_dtypes(p);
  with_floats("gradcam3d", "activations", p.activations.dtype, [&](auto zero) { run<decltype(zero)>(p, threads); });
}

}  // namespace pyws
