// gradcam3d: the fused reduction of WS^2 eq. 4-5.
//
//   weight[b,c] = mean over S of gradients[b,c,S]                 (eq. 4, Z = number of positions)
//   map[b,S]    = relu(sum over c of weight[b,c] * activations[b,c,S])   (eq. 5)
//   with minmax: map[b] = (map[b] - min) / (max - min); a constant map becomes zeros
//
// shape     B, C, T, H, W; ranks 1 and 2 of S come with T = H = 1 or T = 1
// strides   in elements, any sign, for B, C, T, H, W; neither input is copied
// dtype     a float type for both inputs and the map; float32 and narrower are summed in float32, float64 in float64
// scratch   gradcam3d_scratch(B, C, S) of the summing type: the weights, and on CUDA the sums of the splits
// maps      (B, T, H, W) contiguous
// Sums      the mean: blocks of 512 positions, each by 16 lanes (gradcam_lane) that are added pairwise; the blocks in
//           float64, so that large maps lose nothing. The map: channels eight at a time (gradcam_weigh).
//           Both orders depend on C and S alone: same bits on the CPU for any strides, number of threads, batch
//           composition and instruction set. The CUDA kernels have a fixed order of their own.
// NaN       propagates into every position its row or weight touches; relu(NaN) is NaN; min-max spreads it over the map
// Empty     B = 0 or S = 0 gives an empty map; C = 0 gives zeros
#pragma once

#include <array>
#include <cstdint>

#include "common/params.h"

namespace pyws {

using Shape5 = std::array<std::int64_t, 5>;

constexpr int kGradcamLanes = 16;
constexpr std::int64_t kGradcamBlock = 512;  // positions that are summed in the summing type
constexpr int kGradcamChannels = 8;
constexpr std::int64_t kGradcamSplit = 128;  // channels a CUDA block sums

struct GradcamParams {
  Array<const void> activations, gradients;
  Shape5 shape, activation_strides, gradient_strides;
  bool minmax;
  Array<void> scratch, maps;
  PYWS_FIELDS(activations, gradients, shape, activation_strides, gradient_strides, minmax, scratch, maps)
};
void gradcam3d_cpu(const GradcamParams& params, int threads);
void gradcam3d_cuda(const GradcamParams& params, void* stream);

// Blocks of channels that CUDA sums apart.
PYWS_HD std::int64_t gradcam_splits(std::int64_t channels) { return max64(1, ceil_div(channels, kGradcamSplit)); }

PYWS_HD std::int64_t gradcam3d_scratch(std::int64_t batch, std::int64_t channels, std::int64_t positions) {
  return batch * (channels + gradcam_splits(channels) * positions);
}

inline void check_dtypes(const GradcamParams& params) {
  const DType dtype = params.activations.dtype;
  check_dtype("gradcam3d", "gradients", params.gradients.dtype, dtype);
  check_dtype("gradcam3d", "maps", params.maps.dtype, dtype);
  check_dtype("gradcam3d", "scratch", params.scratch.dtype, summing_type(dtype));
}

// The lane that sums position i of a block of n: i % 16, but the n % 16 last positions take the last lanes, so that they are the
// end of one vector.
PYWS_HD int gradcam_lane(std::int64_t i, std::int64_t n) {
  return static_cast<int>(i < n - n % kGradcamLanes ? i % kGradcamLanes : i - n + kGradcamLanes);
}

// The sum of the lanes: lane k takes lane k + 8, then k + 4, k + 2, k + 1.
template <class A>
PYWS_HD A gradcam_add_lanes(A* lanes) {
  for (int width = kGradcamLanes / 2; width > 0; width /= 2)
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return lanes[0];
}

// One position: the sum over channels of weights[c] * x[c * stride]. Eight products at a time are added pairwise, k and
// k + 4, k + 2, k + 1; the rest one by one.
template <class T, class A>
PYWS_HD A gradcam_weigh(const T* x, std::int64_t stride, std::int64_t channels, const A* weights) {
  A sum = 0;
  std::int64_t c = 0;
  for (; c + kGradcamChannels <= channels; c += kGradcamChannels) {
    A products[kGradcamChannels];
    for (int k = 0; k < kGradcamChannels; ++k) products[k] = weights[c + k] * widen(x[(c + k) * stride]);
    for (int width = kGradcamChannels / 2; width > 0; width /= 2)
      for (int k = 0; k < width; ++k) products[k] += products[k + width];
    sum += products[0];
  }
  for (; c < channels; ++c) sum += weights[c] * widen(x[c * stride]);
  return sum;
}

// relu that keeps NaN, as torch.relu does.
template <class A>
PYWS_HD A relu(A x) {
  return x < A(0) ? A(0) : x;
}

// One position of a min-max normalised map. A NaN anywhere in the map makes low and high NaN, and so the whole map.
template <class A>
PYWS_HD A min_max_scale(A x, A low, A high) {
  return high > low ? (x - low) / (high - low) : (low == high ? A(0) : low);
}

}  // namespace pyws
