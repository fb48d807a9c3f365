#include "gradcam3d.h"
#include "launch.h"

namespace pyws {
namespace {

constexpr int kWarp = 32;
constexpr int kMeanWarps = 8;  // rows a block of the first kernel reduces, one a warp
constexpr int kMapWarps = 8;   // slices of the channels in a block of the second kernel
constexpr int kMinMaxThreads = 256;

struct Layout {
  std::int64_t batch, channels, T, H, W;
  std::int64_t b, c, t, h, w;  // strides
};

PYWS_HD std::int64_t position(const Layout& at, std::int64_t s) {
  return s / (at.H * at.W) * at.t + s / at.W % at.H * at.h + s % at.W * at.w;
}

Layout layout(const Shape5& shape, const Shape5& strides) {
  return {shape[0], shape[1], shape[2], shape[3], shape[4], strides[0], strides[1], strides[2], strides[3], strides[4]};
}

// Traffic: every gradient is read once, 16 bytes a lane where the row is contiguous and aligned; B*C weights are
// written. Ownership: one warp a row (b, c); lane l owns positions l, l+32, ... and the warp adds its 32 sums in a
// fixed tree.
template <class T, class A>
__global__ void mean_rows(const T* gradients, Layout at, bool contiguous, A* weights) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kMeanWarps + threadIdx.x / kWarp;
  if (row >= at.batch * at.channels) return;  // whole warps leave together
  const int lane = threadIdx.x % kWarp;
  const std::int64_t positions = at.T * at.H * at.W;
  const T* x = gradients + row / at.channels * at.b + row % at.channels * at.c;
  constexpr int kVector = 16 / sizeof(T);
  A sum = 0;
  std::int64_t done = 0;
  if (contiguous && reinterpret_cast<std::uintptr_t>(x) % 16 == 0) {
    for (std::int64_t i = lane; i < positions / kVector; i += kWarp) {
      const int4 loaded = reinterpret_cast<const int4*>(x)[i];
      T values[kVector];
      std::memcpy(values, &loaded, sizeof(loaded));
      for (int k = 0; k < kVector; ++k) sum += widen(values[k]);
    }
    done = positions / kVector * kVector;
  }
  for (std::int64_t i = done + lane; i < positions; i += kWarp) sum += widen(x[position(at, i)]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
  if (lane == 0) weights[row] = sum / static_cast<A>(positions);
}

// Traffic: every activation is read once, coalesced along the positions; weights come from L2; B*S values are written.
// Ownership: one block of 32 x 8 threads owns 32 neighbouring positions of one map. Warp k sums channels k, k+8, ...;
// the eight partial sums meet in shared memory and are added in rising order by warp 0.
//
//            position s .. s+31
//   warp 0   channels 0, 8, 16, ...   -> partial[0][lane]  |
//   ...                                                 | sum in order of warps -> relu -> map
//   warp 7   channels 7, 15, ...      -> partial[7][lane]  |
template <class T, class A>
__global__ void weigh_channels(const T* activations, Layout at, const A* weights, T* maps) {
  PYWS_SHARED(A, partial, kMapWarps * kWarp);
  const int lane = threadIdx.x % kWarp, slice = threadIdx.x / kWarp;
  const std::int64_t positions = at.T * at.H * at.W;
  const std::int64_t tiles = ceil_div(positions, kWarp);
  const std::int64_t b = blockIdx.x / tiles, s = blockIdx.x % tiles * kWarp + lane;
  A sum = 0;
  if (s < positions) {
    const T* x = activations + b * at.b + position(at, s);
    for (std::int64_t c = slice; c < at.channels; c += kMapWarps)
      sum += weights[b * at.channels + c] * widen(x[c * at.c]);
  }
  partial[slice * kWarp + lane] = sum;
  __syncthreads();
  if (slice > 0 || s >= positions) return;
  for (int k = 1; k < kMapWarps; ++k) sum += partial[k * kWarp + lane];
  narrow(relu(sum), maps + b * positions + s);
}

template <class A>
PYWS_HD A low_of(A a, A b) {
  return a < b || a != a ? a : b;
}
template <class A>
PYWS_HD A high_of(A a, A b) {
  return a > b || a != a ? a : b;
}

// Traffic: each map is read twice (the second time from L2) and written once. Ownership: one block a map; each thread
// keeps the extremes of its stride, which then meet in a shared-memory tree.
template <class T, class A>
__global__ void normalize_map(T* maps, std::int64_t positions) {
  PYWS_SHARED(A, low, kMinMaxThreads);
  PYWS_SHARED(A, high, kMinMaxThreads);
  T* map = maps + blockIdx.x * positions;
  A lowest = widen(map[0]), highest = lowest;
  for (std::int64_t i = threadIdx.x; i < positions; i += kMinMaxThreads) {
    const A x = widen(map[i]);
    lowest = low_of(lowest, x);
    highest = high_of(highest, x);
    if (x != x) lowest = highest = x;
  }
  low[threadIdx.x] = lowest;
  high[threadIdx.x] = highest;
  __syncthreads();
  for (int width = kMinMaxThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < static_cast<unsigned>(width)) {
      const A other_low = low[threadIdx.x + width], other_high = high[threadIdx.x + width];
      low[threadIdx.x] = other_low != other_low ? other_low : low_of(low[threadIdx.x], other_low);
      high[threadIdx.x] = other_high != other_high ? other_high : high_of(high[threadIdx.x], other_high);
    }
    __syncthreads();
  }
  for (std::int64_t i = threadIdx.x; i < positions; i += kMinMaxThreads)
    narrow(min_max_scale(A(widen(map[i])), low[0], high[0]), map + i);
}

template <class T>
void run(const void* activations, const void* gradients, const Shape5& shape, const Shape5& activation_strides,
         const Shape5& gradient_strides, bool minmax, void* weights, void* maps, void* stream) {
  using A = typename Accumulator<T>::type;
  const std::int64_t positions = shape[2] * shape[3] * shape[4];
  if (shape[0] == 0 || positions == 0) return;
  const Layout gradient = layout(shape, gradient_strides);
  const bool contiguous = gradient.w == 1 && gradient.h == gradient.W && gradient.t == gradient.H * gradient.W;
  launch("gradcam3d", mean_rows<T, A>, grid_1d("gradcam3d", ceil_div(shape[0] * shape[1], kMeanWarps)),
         dim3(kMeanWarps * kWarp), 0, stream, static_cast<const T*>(gradients), gradient, contiguous,
         static_cast<A*>(weights));
  launch("gradcam3d", weigh_channels<T, A>, grid_1d("gradcam3d", shape[0] * ceil_div(positions, kWarp)),
         dim3(kMapWarps * kWarp), 0, stream, static_cast<const T*>(activations), layout(shape, activation_strides),
         static_cast<const A*>(weights), static_cast<T*>(maps));
  if (minmax)
    launch("gradcam3d", normalize_map<T, A>, grid_1d("gradcam3d", shape[0]), dim3(kMinMaxThreads), 0, stream,
           static_cast<T*>(maps), positions);
}

}  // namespace

void gradcam3d_cuda(int dtype, const void* activations, const void* gradients, Shape5 shape, Shape5 activation_strides,
                    Shape5 gradient_strides, bool minmax, void* weights, void* maps, void* stream) {
  const auto pick = dtype == kFloat32   ? run<float>
                    : dtype == kFloat64 ? run<double>
                    : dtype == kFloat16 ? run<half_t>
                                        : run<bfloat16_t>;
  pick(activations, gradients, shape, activation_strides, gradient_strides, minmax, weights, maps, stream);
}

}  // namespace pyws
