// From clusters to superpixels: connected parts, small ones joined to a neighbour, numbered. See slic.h; a part of slic
// on the CPU.
//
// shape       la, bx: features (height, width); labels (height, width): the cluster of each pixel, less than 0 outside
//             the mask, in; the superpixel of each pixel, out
// scratch     slic_components_scratch(height, width) numbers of 64 bits; la and bx are lost
// nanoseconds what the whole frame takes, by which parallel_for decides
#pragma once

#include "common/host_device.h"
#include "slic/slic_simd.h"

namespace pyws {

PYWS_HD std::int64_t slic_components_scratch(std::int64_t height, std::int64_t width) {
  return 8 * height * width + 2 * height + 2;
}

void slic_components(const SlicLoops& loops, std::int64_t height, std::int64_t width, std::uint32_t* la,
                     std::uint32_t* bx, std::int64_t min_size, std::int64_t* scratch, std::int32_t* labels,
                     double nanoseconds, int threads);

}  // namespace pyws
