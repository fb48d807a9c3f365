// Walking a frame by runs: how many are kept, and the room they take. A frame with more than run_limit() runs is
// incoherent, and is walked pixel by pixel.
#pragma once

#include "host_device.h"

namespace pyws {

constexpr int kWordPixels = 64;

PYWS_HD std::int64_t run_limit(std::int64_t pixels) { return pixels / 4 + 1; }
// Room for the starts of one frame: the runs, its end, and what the word that goes over the limit may append.
PYWS_HD std::int64_t start_capacity(std::int64_t pixels) { return run_limit(pixels) + 2 * kWordPixels; }

// A label or class as an index; what is negative or too large is at or above every valid bound.
template <class Label>
PYWS_HD std::uint64_t index_of(Label label) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(label));
}

}  // namespace pyws
