#include "otsu/otsu_cuda.h"
#include "otsu/otsu_masks.h"

namespace pyws {
namespace {

constexpr int kThreads = kOtsuBins;  // one thread a bin

// The scaled value of one pixel.
template <class T, class A>
__device__ __forceinline__ A scaled_value(const T* map, std::int64_t width, const Between<A>& y, const Between<A>& x) {
  const T *near = map + y.near * width, *far = map + y.far * width;
  const A upper = blend<A>(widen(near[x.near]), widen(near[x.far]), x.rest, x.share);
  const A lower = blend<A>(widen(far[x.near]), widen(far[x.far]), x.rest, x.share);
  return blend(upper, lower, y.rest, y.share);
}

// Traffic: the map, a few kilobytes, stays in L1, and its scaled values are made three times over (extremes, histogram,
// mask); one byte a pixel is written, coalesced. Ownership: one block a map, so a few maps leave multiprocessors idle.
template <class T, class A>
__global__ void cut_maps(const T* maps, int height, int width, int rows, unsigned columns, std::uint8_t* masks,
                         A* thresholds) {
  const T* map = maps + static_cast<std::int64_t>(blockIdx.x) * height * width;
  const unsigned pixels = rows * columns;
  const auto each = [&](const auto& body) {
    for (unsigned i = threadIdx.x; i < pixels; i += kThreads) {
      const Between<A> y = between<A>(i / columns, height, rows), x = between<A>(i % columns, width, columns);
      body(i, scaled_value(map, width, y, x));
    }
  };
  const Between<A> top = between<A>(0, height, rows), left = between<A>(0, width, columns);
  A low, high, threshold = 0;
  otsu_extremes([&](const auto& body) { each([&](unsigned, A value) { body(value); }); },
                scaled_value(map, width, top, left), &low, &high);
  const A range = high - low;
  if (!otsu_in_range(low, high)) {  // the whole block takes the same way
    threshold = std::numeric_limits<A>::quiet_NaN();
  } else if (range > A(0)) {
    threshold =
        block_split([&](const auto& body) { each([&](unsigned, A value) { body(in_unit(value, low, range)); }); },
                    otsu_bins(A(0), A(1)));
  }
  if (threadIdx.x == 0) thresholds[blockIdx.x] = threshold;
  std::uint8_t* mask = masks + static_cast<std::int64_t>(blockIdx.x) * pixels;
  each([&](unsigned i, A value) { mask[i] = range > A(0) && in_unit(value, low, range) > threshold ? 1 : 0; });
}

template <class T, class A = typename Accumulator<T>::type>
void run(const OtsuMasksParams& p, void* stream) {
  launch("otsu_masks", cut_maps<T, A>, grid_1d("otsu_masks", p.batch), dim3(kThreads), 0, stream, p.maps.as<T>(),
         p.height, p.width, p.rows, p.columns, p.masks, p.thresholds.as<A>());
}

}  // namespace

void otsu_masks_cuda(const OtsuMasksParams& p, void* stream) {
  check_dtype("otsu_masks", "thresholds", p.thresholds.dtype, summing_type(p.maps.dtype));
  with_floats("otsu_masks", "maps", p.maps.dtype, [&](auto zero) { run<decltype(zero)>(p, stream); });
}

}  // namespace pyws
