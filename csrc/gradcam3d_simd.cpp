#include "gradcam3d_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

template <class T>
void add_lanes(const T* x, std::int64_t stride, std::int64_t n, std::int64_t first_lane,
               typename Accumulator<T>::type* lanes) {
  using A = typename Accumulator<T>::type;
  std::int64_t i = 0;
  for (; i < n && (first_lane + i) % kGradcamLanes != 0; ++i)
    lanes[(first_lane + i) % kGradcamLanes] += widen(x[i * stride]);
  if (stride == 1) {
    A local[kGradcamLanes];
    for (int lane = 0; lane < kGradcamLanes; ++lane) local[lane] = lanes[lane];
    for (; i + kGradcamLanes <= n; i += kGradcamLanes)
      for (int lane = 0; lane < kGradcamLanes; ++lane) local[lane] += widen(x[i + lane]);
    for (int lane = 0; lane < kGradcamLanes; ++lane) lanes[lane] = local[lane];
  }
  for (; i < n; ++i) lanes[(first_lane + i) % kGradcamLanes] += widen(x[i * stride]);
}

// kChannels is a constant so that the inner sum unrolls; the stride of one gets its own, vectorised, instance.
template <int kChannels, class T>
inline __attribute__((always_inline)) void add_channels(const T* x, std::int64_t channel_stride, std::int64_t stride,
                                                        std::int64_t n, const typename Accumulator<T>::type* weights,
                                                        typename Accumulator<T>::type* __restrict__ sums) {
  for (std::int64_t i = 0; i < n; ++i) {
    typename Accumulator<T>::type sum = sums[i];
    for (int k = 0; k < kChannels; ++k) sum += weights[k] * widen(x[k * channel_stride + i * stride]);
    sums[i] = sum;
  }
}

template <class T>
void add_weighted(const T* x, std::int64_t channel_stride, std::int64_t stride, std::int64_t n, int channels,
                  const typename Accumulator<T>::type* weights, typename Accumulator<T>::type* sums) {
  if (channels == kGradcamChannels && stride == 1) {
    add_channels<kGradcamChannels>(x, channel_stride, 1, n, weights, sums);
  } else {
    for (int k = 0; k < channels; ++k)
      add_channels<1>(x + k * channel_stride, channel_stride, stride, n, weights + k, sums);
  }
}

}  // namespace

const GradcamLoops gradcam_loops = {
    {add_lanes<float>, add_weighted<float>},
    {add_lanes<double>, add_weighted<double>},
    {add_lanes<half_t>, add_weighted<half_t>},
    {add_lanes<bfloat16_t>, add_weighted<bfloat16_t>},
};

}  // namespace PYWS_ISA
}  // namespace pyws
