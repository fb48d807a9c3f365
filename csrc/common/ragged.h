// Ragged batches: what all families do with offsets.
#pragma once

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

// Counts in offsets[1..groups] become offsets, none beyond `most`: where there is no room for more, since groups whose
// offsets fall share values.
inline void scan_counts(std::int64_t* offsets, std::int64_t groups, std::int64_t most = INT64_MAX) {
  offsets[0] = 0;
  for (std::int64_t group = 0; group < groups; ++group)
    offsets[group + 1] = min64(offsets[group] + offsets[group + 1], most);
}

}  // namespace pyws
