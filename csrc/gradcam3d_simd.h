// The leaf loops of gradcam3d, one table an instruction set. `stride` counts elements between neighbours.
#pragma once

#include "gradcam3d.h"
#include "simd.h"

namespace pyws {

template <class T>
struct GradcamRow {
  using A = typename Accumulator<T>::type;
  // lanes[i % 16] += x[i * stride]; the caller adds the lanes up
  void (*add_lanes)(const T* x, std::int64_t stride, std::int64_t n, std::int64_t first_lane, A* lanes);
  // sums[i] += sum over k < 8 of weights[k] * x[k * channel_stride + i * stride]
  void (*add_weighted)(const T* x, std::int64_t channel_stride, std::int64_t stride, std::int64_t n, int channels,
                       const A* weights, A* sums);
};

struct GradcamLoops {
  GradcamRow<float> f32;
  GradcamRow<double> f64;
  GradcamRow<half_t> f16;
  GradcamRow<bfloat16_t> bf16;
};

PYWS_DECLARE_LOOPS(GradcamLoops, gradcam_loops)

}  // namespace pyws
