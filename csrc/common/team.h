// Who solves one small problem together: one thread of the CPU (OneThread), or one warp on CUDA (team_cuda.h).
//
// What is written for a team gives the same bits as either: loops over independent elements are shared out (each), sums
// are taken in order by the first lane (in_order), and only what has no order, like a maximum, is found side by side.
// Each of these ends with a barrier. A lane has its own copy of every scalar, so that what the first lane alone found
// out is handed on by its answer; arrays are one for all.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <vector>

#include "common/host_device.h"

#if defined(__CUDACC__)
#define PYWS_TEAM __device__ __forceinline__
#else
#define PYWS_TEAM
#endif

namespace pyws {

struct OneThread {
  template <class T>
  using Array = std::vector<T>;

  static constexpr int kLanes = 1;
  int lane() const { return 0; }

  // The memory of arrays, which holds anything. fits() is false where there was not enough: then none of them may be
  // touched.
  template <class T>
  void resize(std::vector<T>& array, std::int64_t size) {
    array.resize(static_cast<std::size_t>(size));
#if defined(PYWS_EMULATOR)  // tests: what relies on zeros, or on what an earlier problem left, shows as on CUDA
    if (size > 0) std::memset(static_cast<void*>(array.data()), 0xff, array.size() * sizeof(T));
#endif
  }
  bool fits() const { return true; }

  // body(i) for 0 .. n-1
  template <class Body>
  void each(int n, const Body& body) const {
    for (int i = 0; i < n; ++i) body(i);
  }

  // What body() of the first lane returns, for all lanes.
  template <class Body>
  auto in_order(const Body& body) const {
    return body();
  }

  void barrier() const {}

  // Over the lanes, each of which gives its own.
  bool all(bool holds) const { return holds; }
  bool any(bool holds) const { return holds; }
  double greatest(double x) const { return x; }
  double least(double x) const { return x; }
};

// The first of equals, and where one is NaN.
PYWS_HD double least_of(double a, double b) { return b < a ? b : a; }
PYWS_HD double most_of(double a, double b) { return a < b ? b : a; }

// The greater of two numbers of 0 or more; NaN counts as infinite, in any order.
PYWS_HD double greater_of(double a, double b) {
  if (!(a <= HUGE_VAL) || !(b <= HUGE_VAL)) return HUGE_VAL;
  return a < b ? b : a;
}

}  // namespace pyws
