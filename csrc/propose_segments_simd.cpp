#include "propose_segments_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

constexpr int kLanes = 32;

std::int64_t levels(const double* x, std::int64_t n, const double* thresholds, std::int64_t count,
                    std::uint8_t* level) {
  bool finite = true;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    std::int64_t passed[kLanes] = {};
    for (std::int64_t t = 0; t < count; ++t)
      for (int lane = 0; lane < kLanes; ++lane) passed[lane] += x[i + lane] > thresholds[t] ? 1 : 0;
    for (int lane = 0; lane < kLanes; ++lane) level[i + lane] = static_cast<std::uint8_t>(passed[lane]);
    for (int lane = 0; lane < kLanes; ++lane) finite &= x[i + lane] - x[i + lane] == 0.0;
  }
  for (; i < n; ++i) {
    int passed = 0;
    for (std::int64_t t = 0; t < count; ++t) passed += x[i] > thresholds[t] ? 1 : 0;
    level[i] = static_cast<std::uint8_t>(passed);
    finite &= x[i] - x[i] == 0.0;
  }
  if (finite) return n;
  for (i = 0; x[i] - x[i] == 0.0;) ++i;
  return i;
}

}  // namespace

const ProposalLoops proposal_loops = {levels};

}  // namespace PYWS_ISA
}  // namespace pyws
