// The leaf loops of propose_segments, one table an instruction set.
#pragma once

#include "propose_segments.h"
#include "simd.h"

namespace pyws {

struct ProposalLoops {
  // level[i] = number of thresholds below x[i]; returns the first i where x[i] is not finite, or n
  std::int64_t (*levels)(const double* x, std::int64_t n, const double* thresholds, std::int64_t count,
                         std::uint8_t* level);
};

PYWS_DECLARE_LOOPS(ProposalLoops, proposal_loops)

}  // namespace pyws
