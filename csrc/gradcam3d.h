// gradcam3d: the fused reduction of WS^2 eq. 4-5.
//
//   weight[b,c] = mean over S of gradients[b,c,S]                 (eq. 4, Z = number of positions)
//   map[b,S]    = relu(sum over c of weight[b,c] * activations[b,c,S])   (eq. 5)
//   with minmax: map[b] = (map[b] - min) / (max - min); a constant map becomes zeros
//
// shape     B, C, T, H, W; ranks 1 and 2 of S come with T = H = 1 or T = 1
// strides   in elements, any sign, for B, C, T, H, W; neither input is copied
// dtype     DType of both inputs and of the map; float32 and narrower are summed in float32, float64 in float64
// weights   scratch, (B, C) of the summing type
// maps      (B, T, H, W) contiguous
// Sums      the mean: 16 lanes of a row, added pairwise; the map: channels in rising order, eight at a time.
//           Both orders are fixed: same bits for any number of threads, any batch composition, any instruction set.
// NaN       propagates into every position its row or weight touches; relu(NaN) is NaN; min-max spreads it over the
// map. Nothing is read out of bounds. Empty     B = 0 or S = 0 gives an empty map; C = 0 gives zeros.
#pragma once

#include <array>
#include <cstdint>

#include "host_device.h"

namespace pyws {

using Shape5 = std::array<std::int64_t, 5>;

constexpr int kGradcamLanes = 16;
constexpr int kGradcamChannels = 8;

void gradcam3d_cpu(int dtype, const void* activations, const void* gradients, Shape5 shape, Shape5 activation_strides,
                   Shape5 gradient_strides, bool minmax, void* weights, void* maps, int threads);
void gradcam3d_cuda(int dtype, const void* activations, const void* gradients, Shape5 shape, Shape5 activation_strides,
                    Shape5 gradient_strides, bool minmax, void* weights, void* maps, void* stream);

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
