// A warp as a team, in memory of its own.
#pragma once

#include "common/team.h"
#include "common/warp.cuh"

namespace pyws {

class WarpTeam {
 public:
  // A part of the warp's memory.
  template <class T>
  struct Array {
    T* values;
    __device__ T& operator[](std::int64_t i) const { return values[i]; }
    __device__ T* data() const { return values; }
  };

  static constexpr int kLanes = kWarp;
  __device__ static int lane() { return static_cast<int>(threadIdx.x % kWarp); }

  __device__ WarpTeam(double* memory, std::int64_t size) : memory_(memory), size_(size), used_(0) {}
  __device__ void forget_arrays() { used_ = 0; }

  template <class T>
  __device__ void resize(Array<T>& array, std::int64_t size) {
    array.values = reinterpret_cast<T*>(memory_ + used_);
    used_ += ceil_div(size * static_cast<std::int64_t>(sizeof(T)), sizeof(double));
  }
  __device__ bool fits() const { return used_ <= size_; }

  template <class Body>
  __device__ void each(int n, const Body& body) const {
    for (int i = lane(); i < n; i += kLanes) body(i);
    __syncwarp();
  }

  template <class Body>
  __device__ auto in_order(const Body& body) const {
    using Answer = decltype(body());
    if constexpr (std::is_void_v<Answer>) {
      if (lane() == 0) body();
      __syncwarp();
    } else {
      Answer answer{};
      if (lane() == 0) answer = body();
      __syncwarp();
      return __shfl_sync(kWholeWarp, answer, 0);
    }
  }

  __device__ void barrier() const { __syncwarp(); }

  __device__ bool all(bool holds) const {
    __syncwarp();
    return __all_sync(kWholeWarp, holds);
  }
  __device__ bool any(bool holds) const {
    __syncwarp();
    return __any_sync(kWholeWarp, holds);
  }
  __device__ double greatest(double x) const {
    __syncwarp();
    for (int step = kWarp / 2; step > 0; step /= 2) x = greater_of(x, __shfl_xor_sync(kWholeWarp, x, step));
    return x;
  }
  __device__ double least(double x) const {
    __syncwarp();
    for (int step = kWarp / 2; step > 0; step /= 2) x = least_of(x, __shfl_xor_sync(kWholeWarp, x, step));
    return x;
  }

 private:
  double* memory_;
  std::int64_t size_, used_;
};

}  // namespace pyws
