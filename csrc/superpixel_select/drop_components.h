// drop_components: clears the connected parts of masks that cover too much of their frame, for the beta of WS^2's
// Alg. 2 that bounds objects instead of superpixels.
//
//   part = pixels set that are linked by steps to one of eight neighbours; dropped iff |part| / pixels >= beta
//
// masks         (batch, height, width) bytes 0 or 1, changed in place
// parent, size  scratch, (batch, height, width) each: a forest in which every pixel of a part leads to an earlier one,
//               the first of the part to itself; the pixels of a part, at its first
// Decisions     on counts and float64 ratios: the same on CPU and CUDA, for any number of threads and any batch
//               composition. NaN as beta drops nothing.
// Empty         batch = 0 or no pixels: nothing happens. height * width < 2^31.
#pragma once

#include "superpixel_select/superpixel_select.h"

namespace pyws {

struct DropParams {
  std::uint8_t* masks;
  std::int64_t batch, height, width;
  double beta;
  std::int32_t *parent, *size;
  PYWS_FIELDS(masks, batch, height, width, beta, parent, size)
};
void drop_components_cpu(const DropParams& params, int threads);
void drop_components_cuda(const DropParams& params, void* stream);

}  // namespace pyws
