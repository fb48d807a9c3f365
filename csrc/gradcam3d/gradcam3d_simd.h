// The leaf loops of gradcam3d, one table an instruction set. Strides count elements.
#pragma once

#include "common/simd.h"
#include "gradcam3d/gradcam3d.h"

namespace pyws {

constexpr std::int64_t kGradcamTile = 4096;         // positions whose sums stay in cache while the channels stream past
constexpr std::int64_t kGradcamChannelBlock = 256;  // channels whose 16 lanes stay in cache while positions stream past

// The first two functions serve positions that are neighbours in memory, the last two channels that are.
template <class T>
struct GradcamLayouts {
  using A = typename Accumulator<T>::type;
  // means[r] = mean of x[r * row_stride + 0 .. positions-1]
  void (*mean_rows)(const T* x, std::int64_t row_stride, std::int64_t rows, std::int64_t positions, A* means);
  // out[i] = relu(sum over c of weights[c] * x[c * channel_stride + i]), at most kGradcamTile positions
  void (*weigh_rows)(const T* x, std::int64_t channel_stride, std::int64_t channels, std::int64_t positions,
                     const A* weights, T* out);
  // means[c] = mean over i of x[i * stride + c], at most kGradcamChannelBlock channels
  void (*mean_columns)(const T* x, std::int64_t stride, std::int64_t positions, std::int64_t channels, A* means);
  // out[i] = relu(sum over c of weights[c] * x[i * stride + c])
  void (*weigh_columns)(const T* x, std::int64_t stride, std::int64_t channels, std::int64_t positions,
                        const A* weights, T* out);
};

struct GradcamLoops {
  GradcamLayouts<float> f32;
  GradcamLayouts<double> f64;
  GradcamLayouts<half_t> f16;
  GradcamLayouts<bfloat16_t> bf16;
};

PYWS_DECLARE_LOOPS(GradcamLoops, gradcam_loops)

}  // namespace pyws
