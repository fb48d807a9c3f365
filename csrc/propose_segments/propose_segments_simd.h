// The leaf loops of propose_segments, one table an instruction set.
#pragma once

#include "common/simd.h"
#include "propose_segments/propose_segments.h"

namespace pyws {

constexpr int kProposalSlack = 16;  // crossings that may be written behind the last

struct ProposalLoops {
  // level[i] = number of thresholds below x[i]; returns the first i where x[i] is not finite, or n
  std::int64_t (*levels)(const double* x, std::int64_t n, const double* thresholds, std::int64_t count,
                         std::uint8_t* level);
  // Lowers levels so that at every threshold the runs of at least `shortest` stay and the others vanish.
  void (*drop_short)(std::uint8_t* level, std::int64_t length, std::int64_t shortest);
  // How many runs of levels above the threshold there are.
  std::int64_t (*runs)(const std::uint8_t* level, std::int64_t length, int threshold);
  // Lists where the level rises above the threshold or falls from above it, and returns how often; `above`: is the
  // level before the first? A fall at the end is listed or not.
  std::int64_t (*crossings)(const std::uint8_t* level, std::int64_t length, int threshold, bool above,
                            std::int32_t* at);
};

PYWS_DECLARE_LOOPS(ProposalLoops, proposal_loops)

}  // namespace pyws
