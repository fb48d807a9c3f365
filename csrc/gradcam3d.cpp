#include "gradcam3d.h"

#include "gradcam3d_simd.h"
#include "parallel.h"

namespace pyws {
namespace {

constexpr std::int64_t kTile = 1024;  // positions whose sums stay in L1 while the channels stream past

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

template <class A>
A add_pairwise(const A* lanes) {
  A sums[kGradcamLanes];
  for (int lane = 0; lane < kGradcamLanes; ++lane) sums[lane] = lanes[lane];
  for (int width = kGradcamLanes / 2; width > 0; width /= 2)
    for (int lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  return sums[0];
}

template <class T, class A = typename Accumulator<T>::type>
void mean_rows(const GradcamRow<T>& loops, const T* gradients, const Shape5& shape, const Shape5& strides, A* weights,
               int threads) {
  const Runs runs(shape, strides);
  const std::int64_t positions = shape[2] * shape[3] * shape[4], channels = shape[1];
  parallel_for(shape[0] * channels, 0.1 * static_cast<double>(positions), threads,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const T* x = gradients + (i / channels) * strides[0] + (i % channels) * strides[1];
                   A lanes[kGradcamLanes] = {};
                   for (std::int64_t row = 0; row < runs.rows; ++row)
                     loops.add_lanes(x + runs.start(row), runs.stride, runs.length, row * runs.length, lanes);
                   weights[i] = add_pairwise(lanes) / static_cast<A>(positions);
                 }
               });
}

// One tile of n positions: sums over all channels, eight at a time, then relu.
template <class T, class A = typename Accumulator<T>::type>
void map_tile(const GradcamRow<T>& loops, const T* x, std::int64_t channels, std::int64_t channel_stride,
              std::int64_t stride, std::int64_t n, const A* weights, T* out) {
  A sums[kTile] = {};
  for (std::int64_t c = 0; c < channels; c += kGradcamChannels)
    loops.add_weighted(x + c * channel_stride, channel_stride, stride, n,
                       static_cast<int>(min64(kGradcamChannels, channels - c)), weights + c, sums);
  for (std::int64_t i = 0; i < n; ++i) narrow(relu(sums[i]), out + i);
}

template <class T, class A = typename Accumulator<T>::type>
void weigh_channels(const GradcamRow<T>& loops, const T* activations, const Shape5& shape, const Shape5& strides,
                    const A* weights, T* maps, int threads) {
  const Runs runs(shape, strides);
  const std::int64_t positions = shape[2] * shape[3] * shape[4], channels = shape[1];
  const std::int64_t tile = min64(kTile, runs.length), tiles = ceil_div(runs.length, tile);
  parallel_for(shape[0] * runs.rows * tiles, 0.1 * static_cast<double>(channels * tile), threads,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const std::int64_t b = i / (runs.rows * tiles), row = i / tiles % runs.rows;
                   const std::int64_t from = i % tiles * tile, n = min64(tile, runs.length - from);
                   const T* x = activations + b * strides[0] + runs.start(row) + from * runs.stride;
                   map_tile<T, A>(loops, x, channels, strides[1], runs.stride, n, weights + b * channels,
                                  maps + b * positions + row * runs.length + from);
                 }
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
void gradcam3d(const GradcamRow<T>& loops, const void* activations, const void* gradients, const Shape5& shape,
               const Shape5& activation_strides, const Shape5& gradient_strides, bool minmax, void* weights, void* maps,
               int threads) {
  const std::int64_t positions = shape[2] * shape[3] * shape[4];
  if (shape[0] == 0 || positions == 0) return;
  T* out = static_cast<T*>(maps);
  A* scratch = static_cast<A*>(weights);
  mean_rows(loops, static_cast<const T*>(gradients), shape, gradient_strides, scratch, threads);
  weigh_channels<T, A>(loops, static_cast<const T*>(activations), shape, activation_strides, scratch, out, threads);
  if (minmax) normalize_maps<T, A>(out, shape[0], positions, threads);
}

}  // namespace

void gradcam3d_cpu(int dtype, const void* activations, const void* gradients, Shape5 shape, Shape5 activation_strides,
                   Shape5 gradient_strides, bool minmax, void* weights, void* maps, int threads) {
  const GradcamLoops& loops = gradcam_loops();
  const auto run = [&](const auto& row) {
    gradcam3d(row, activations, gradients, shape, activation_strides, gradient_strides, minmax, weights, maps, threads);
  };
  switch (dtype) {
    case kFloat32:
      return run(loops.f32);
    case kFloat64:
      return run(loops.f64);
    case kFloat16:
      return run(loops.f16);
    case kBFloat16:
      return run(loops.bf16);
  }
}

}  // namespace pyws
