// Ragged batches: what all families do with offsets.
#pragma once

#include <vector>

#include "common/host_device.h"

namespace pyws {

struct Range {
  std::int64_t begin, end;
};

// The values of a group, inside 0..total whatever the offsets hold.
PYWS_HD Range group_range(const std::int64_t* offsets, std::int64_t group, std::int64_t total) {
  const std::int64_t begin = min64(max64(offsets[group], 0), total);
  return {begin, min64(max64(offsets[group + 1], begin), total)};
}

// Offsets read once: inside 0..total and never falling, whatever they hold.
inline std::vector<std::int64_t> clamped_offsets(const std::int64_t* offsets, std::int64_t groups, std::int64_t total) {
  std::vector<std::int64_t> clamped(static_cast<std::size_t>(groups) + 1);
  std::int64_t last = 0;
  for (std::int64_t& offset : clamped) last = offset = min64(max64(*offsets++, last), total);
  return clamped;
}

// Counts in offsets[1..groups] become offsets, none beyond `limit`, the capacity: groups whose offsets fall share
// values, so that their counts may add up to more.
inline void scan_counts(std::int64_t* offsets, std::int64_t groups, std::int64_t limit = INT64_MAX) {
  offsets[0] = 0;
  for (std::int64_t group = 0; group < groups; ++group)
    offsets[group + 1] = min64(offsets[group] + offsets[group + 1], limit);
}

}  // namespace pyws
