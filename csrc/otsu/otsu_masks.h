// otsu_masks: maps scaled to the frame, cut by Otsu's threshold of what results. Only the masks are written.
//
//   scaled = bilinear interpolation of the map, align_corners=False, as stated below
//   unit = (scaled - least) / (greatest - least), over the scaled map
//   threshold = that of otsu.h over all unit values;  mask = unit > threshold
//
// shape       maps (batch, height, width), contiguous; masks (batch, rows, columns) bytes 0 or 1; thresholds (batch)
// dtype       a float type for the maps; thresholds and all arithmetic are float32, for float64 maps float64
// Scaling     along an axis of n values that becomes m, output i lies at max(0, (i + 0.5) * (n / m) - 0.5); its value
//             is near * (1 - d) + far * d of the values before and after it. First along rows, then across them; every
//             step is rounded, none is fused. These are PyTorch's formulas in its order; its vectorised kernels may
//             fuse a product and a sum, and then differ in the last bit.
// Constant    a map whose scaled values are all equal has the threshold 0 and an empty mask
// NaN, inf    in a map, or a value beyond half the largest float: NaN as threshold, an empty mask
// Agreement   the same bits on CPU and CUDA, for any number of threads and any batch composition
// Empty       batch = 0 writes nothing; height, width, rows, columns >= 1; rows * columns < 2^31
#pragma once

#include "otsu/otsu.h"

namespace pyws {

struct OtsuMasksParams {
  Array<const void> maps;
  std::int64_t batch, height, width, rows, columns;
  std::uint8_t* masks;
  Array<void> thresholds;
  PYWS_FIELDS(maps, batch, height, width, rows, columns, masks, thresholds)
};
void otsu_masks_cpu(const OtsuMasksParams& params, int threads);
void otsu_masks_cuda(const OtsuMasksParams& params, void* stream);

// Where an output lies among the inputs of its axis.
template <class A>
struct Between {
  std::int64_t near, far;
  A rest, share;  // weights of near and of far
};

template <class A>
PYWS_HD Between<A> between(std::int64_t i, std::int64_t inputs, std::int64_t outputs) {
  const A scale = static_cast<A>(inputs) / static_cast<A>(outputs);
  const A position = scale * (static_cast<A>(i) + A(0.5)) - A(0.5);
  const A inside = position < A(0) ? A(0) : position;
  const std::int64_t near = min64(static_cast<std::int64_t>(inside), inputs - 1);
  const A offset = inside - static_cast<A>(near);
  const A share = offset > A(1) ? A(1) : offset;
  return {near, min64(near + 1, inputs - 1), A(1) - share, share};
}

// A scaled value on the way from the least to the greatest of its map.
template <class A>
PYWS_HD A in_unit(A x, A low, A range) {
  return (x - low) / range;
}

template <class A>
PYWS_HD A blend(A near, A far, A rest, A share) {
  return near * rest + far * share;
}

}  // namespace pyws
