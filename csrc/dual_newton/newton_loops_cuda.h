// The leaf loops of DualNewton for a warp: the sums of dual_newton_simd.cpp in the same order, over the same lanes.
#pragma once

#include "common/team_cuda.h"
#include "dual_newton/dual_newton.h"

namespace pyws {

// The sum of kNewtonLanes values, one of each of the first lanes, for all lanes.
__device__ __forceinline__ double sum_lanes(double x) {
  for (int step = kNewtonLanes / 2; step > 0; step /= 2) x += __shfl_down_sync(kWholeWarp, x, step);
  return __shfl_sync(kWholeWarp, x, 0);
}

__device__ inline double clipped_sum(const WarpTeam& team, const double* column, const double* change,
                                     const double* weight, double step, double mu, double upper, std::int64_t n) {
  double sum = 0.0;
  for (std::int64_t i = team.lane(); i < n && team.lane() < kNewtonLanes; i += kNewtonLanes) {
    const double raw = column[i] + step * change[i] - mu;
    const double above = raw > 0.0 ? raw : 0.0;
    sum += weight[i] * (above < upper ? above : upper);
  }
  return sum_lanes(sum);
}

// Column after column; of what a column takes off those behind it, each lane has entries of its own.
__device__ inline void factor_band(const WarpTeam& team, double* band, std::int64_t n, std::int64_t width,
                                   double min_pivot, double* column) {
  const int size = static_cast<int>(width);
  for (std::int64_t i = 0; i < n; ++i) {
    double* entries = band + i * width;
    team.each(size, [&](int d) { column[d] = entries[d]; });
    const double inverse = 1.0 / (column[0] > min_pivot ? column[0] : min_pivot);
    team.each(size, [&](int d) { entries[d] = d == 0 ? inverse : entries[d] * inverse; });
    team.each((size - 1) * size, [&](int k) {
      const int d = k / size + 1, e = k % size;
      if (entries[d] != 0.0 && d + e < size) band[(i + d) * width + e] -= entries[d] * column[d + e];
    });
  }
}

__device__ inline void solve_band(const WarpTeam& team, const double* band, std::int64_t n, std::int64_t width,
                                  double* x) {
  const int size = static_cast<int>(width);
  for (std::int64_t i = 0; i < n; ++i, band += width) {
    const double value = x[i];
    team.barrier();
    team.each(size, [&](int d) { x[i + d] = d == 0 ? value * band[0] : x[i + d] - value * band[d]; });
  }
  for (std::int64_t i = n; i-- > 0;) {
    band -= width;
    double sum = 0.0;
    for (int d = team.lane(); d < size && team.lane() < kNewtonLanes; d += kNewtonLanes)
      sum += d == 0 ? 0.0 : band[d] * x[i + d];
    sum = sum_lanes(sum);
    team.in_order([&] { x[i] -= sum; });
  }
}

}  // namespace pyws
