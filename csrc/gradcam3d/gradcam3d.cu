#include "common/warp.cuh"
#include "gradcam3d/gradcam3d.h"

namespace pyws {
namespace {

constexpr int kMeanWarps = 8;  // rows a block of the first kernel reduces, one a warp
constexpr int kMapWarps = 8;   // slices of the channels in a block of the second kernel
constexpr int kInFlight = 4;   // loads of a lane under way together in the second kernel
constexpr int kMinMaxThreads = 256;
static_assert((kMinMaxThreads & (kMinMaxThreads - 1)) == 0, "threads meet in halves");

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

// Are all rows (b, c) of neighbouring positions, and at multiples of 16 bytes?
template <class T>
bool vectors_fit(const void* x, const Layout& at) {
  const auto even = [](std::int64_t stride) { return stride * static_cast<std::int64_t>(sizeof(T)) % 16 == 0; };
  return reinterpret_cast<std::uintptr_t>(x) % 16 == 0 && (at.w == 1 || at.W == 1) && (at.h == at.W || at.H == 1) &&
         (at.t == at.H * at.W || at.T == 1) && even(at.b) && even(at.c);
}

// kCount neighbouring positions from s on, widened: one 16-byte load where they fit a vector.
template <bool kVectors, int kCount, class T, class A>
__device__ __forceinline__ void load_positions(const T* row, const Layout& at, std::int64_t s, A* values) {
  T loaded[kCount];
  if constexpr (kVectors) {
    const int4 vector = *reinterpret_cast<const int4*>(row + s);
    std::memcpy(loaded, &vector, sizeof(vector));
  } else {
    for (int k = 0; k < kCount; ++k) loaded[k] = row[position(at, s + k)];
  }
  for (int k = 0; k < kCount; ++k) values[k] = widen(loaded[k]);
}

// Traffic: every gradient is read once, 16 bytes a lane where vectors fit; B*C weights are written.
// Ownership: one warp a row (b, c); groups of 16 bytes go round the lanes, whether or not they are loaded as vectors.
// Eight groups of a lane are summed in the summing type, their sums in float64; the warp adds those of its 32 lanes in a
// fixed tree.
template <bool kVectors, class T, class A>
__global__ void mean_rows(const T* gradients, Layout at, A* weights) {
  constexpr int kCount = 16 / sizeof(T);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kMeanWarps + threadIdx.x / kWarp;
  if (row >= at.batch * at.channels) return;  // whole warps leave together
  const int lane = threadIdx.x % kWarp;
  const std::int64_t positions = at.T * at.H * at.W, full = positions / kCount * kCount;
  const T* x = gradients + row / at.channels * at.b + row % at.channels * at.c;
  double sum = 0;
  A part = 0, values[kCount];
  int groups = 0;
  for (std::int64_t s = lane * kCount; s < full; s += kWarp * kCount) {
    load_positions<kVectors, kCount>(x, at, s, values);
    for (int k = 0; k < kCount; ++k) part += values[k];
    if (++groups % 8 != 0) continue;
    sum += part;
    part = 0;
  }
  sum += part;
  if (full + lane < positions) sum += widen(x[position(at, full + lane)]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_down_sync(kWholeWarp, sum, offset);
  if (lane == 0) weights[row] = static_cast<A>(sum / static_cast<double>(positions));
}

// Traffic: every activation is read once, coalesced along the positions, four loads of a lane under way together; the
// weights come from L2; B * splits * S sums are written.
// Ownership: a block of 32 x 8 threads owns 128 channels (a split) of 32 * kCount neighbouring positions of one map.
// Splits fill the device at small batches. They depend on C alone, and so does the order of the sums: the same bits in
// any batch. Warp k sums channels k, k + 8, ... of its split; the partial sums meet in shared memory.
//
//            positions s .. s + 32 * kCount - 1
//   warp 0   channels 0, 8, 16, ...   -> partial[0][position]  |
//   ...                                                      | sum in order of warps -> sums[b][split][position]
//   warp 7   channels 7, 15, ...      -> partial[7][position]  |
template <bool kVectors, class T, class A>
__global__ void weigh_channels(const T* activations, Layout at, const A* weights, A* sums) {
  constexpr int kCount = kVectors ? 16 / sizeof(T) : 1, kTile = kWarp * kCount;
  PYWS_SHARED(A, partial, kMapWarps * kTile);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t positions = at.T * at.H * at.W, tiles = ceil_div(positions, kTile);
  const std::int64_t splits = gradcam_splits(at.channels), split = blockIdx.x / tiles % splits;
  const std::int64_t b = blockIdx.x / tiles / splits, s = blockIdx.x % tiles * kTile + lane * kCount;
  const std::int64_t end = min64(at.channels, (split + 1) * kGradcamSplit);
  A sum[kCount] = {};
  if (s < positions) {
    const T* x = activations + b * at.b;
    const A* weight = weights + b * at.channels;
    std::int64_t c = split * kGradcamSplit + warp;
    A values[kInFlight][kCount];
    for (; c + (kInFlight - 1) * kMapWarps < end; c += kInFlight * kMapWarps) {
      for (int u = 0; u < kInFlight; ++u)
        load_positions<kVectors, kCount>(x + (c + u * kMapWarps) * at.c, at, s, values[u]);
      for (int u = 0; u < kInFlight; ++u)
        for (int k = 0; k < kCount; ++k) sum[k] += weight[c + u * kMapWarps] * values[u][k];
    }
    for (; c < end; c += kMapWarps) {
      load_positions<kVectors, kCount>(x + c * at.c, at, s, values[0]);
      for (int k = 0; k < kCount; ++k) sum[k] += weight[c] * values[0][k];
    }
  }
  for (int k = 0; k < kCount; ++k) partial[warp * kTile + lane * kCount + k] = sum[k];
  __syncthreads();
  static_assert(kTile <= kWarp * kMapWarps, "a thread adds one position");
  const int i = threadIdx.x;
  const std::int64_t target = blockIdx.x % tiles * kTile + i;
  if (i >= kTile || target >= positions) return;
  A total = partial[i];
  for (int other = 1; other < kMapWarps; ++other) total += partial[other * kTile + i];
  sums[(b * splits + split) * positions + target] = total;
}

// Traffic: B * splits * S sums are read, from L2 where they fit, and B*S values written. Ownership: one thread a
// position; it adds the splits in rising order.
template <class T, class A>
__global__ void add_splits(const A* sums, std::int64_t batch, std::int64_t splits, std::int64_t positions, T* maps) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kMinMaxThreads + threadIdx.x;
  if (i >= batch * positions) return;
  const A* from = sums + i / positions * splits * positions + i % positions;
  A sum = 0;
  for (std::int64_t split = 0; split < splits; ++split) sum += from[split * positions];
  narrow(relu(sum), maps + i);
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

template <class T, class A = typename Accumulator<T>::type>
void run(const GradcamParams& p, void* stream) {
  const Layout activation = layout(p.shape, p.activation_strides), gradient = layout(p.shape, p.gradient_strides);
  const std::int64_t batch = p.shape[0], channels = p.shape[1], positions = p.shape[2] * p.shape[3] * p.shape[4];
  const T *activations = p.activations.as<T>(), *gradients = p.gradients.as<T>();
  T* maps = p.maps.as<T>();
  const std::int64_t splits = gradcam_splits(channels);
  if (batch == 0 || positions == 0) return;
  A* weights = p.scratch.as<A>();
  A* sums = weights + batch * channels;
  launch("gradcam3d", vectors_fit<T>(gradients, gradient) ? mean_rows<true, T, A> : mean_rows<false, T, A>,
         grid_1d("gradcam3d", ceil_div(batch * channels, kMeanWarps)), dim3(kMeanWarps * kWarp), 0, stream, gradients,
         gradient, weights);
  constexpr int kCount = 16 / sizeof(T);
  const bool vectors = vectors_fit<T>(activations, activation) && positions % kCount == 0;
  const std::int64_t tiles = ceil_div(positions, kWarp * (vectors ? kCount : 1));
  launch("gradcam3d", vectors ? weigh_channels<true, T, A> : weigh_channels<false, T, A>,
         grid_1d("gradcam3d", batch * splits * tiles), dim3(kMapWarps * kWarp), 0, stream, activations, activation,
         weights, sums);
  launch("gradcam3d", add_splits<T, A>, grid_1d("gradcam3d", ceil_div(batch * positions, kMinMaxThreads)),
         dim3(kMinMaxThreads), 0, stream, sums, batch, splits, positions, maps);
  if (p.minmax)
    launch("gradcam3d", normalize_map<T, A>, grid_1d("gradcam3d", batch), dim3(kMinMaxThreads), 0, stream, maps,
           positions);
}

}  // namespace

void gradcam3d_cuda(const GradcamParams& p, void* stream) {
  check_dtypes(p);
  with_floats("gradcam3d", "activations", p.activations.dtype, [&](auto zero) { run<decltype(zero)>(p, stream); });
}

}  // namespace pyws
