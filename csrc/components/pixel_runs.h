// What the kernels that count pixels by their labels share.
#pragma once

#include "common/host_device.h"

namespace pyws {

constexpr int kWordPixels = 64;  // whose edges fit into one machine word

// A label or class as an index; what is negative or too large is at or above every valid bound.
template <class Label>
PYWS_HD std::uint64_t index_of(Label label) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(label));
}

}  // namespace pyws
