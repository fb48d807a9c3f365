// Connected components on CUDA, for the .cu files that look for them: a forest in which every pixel leads to an earlier
// one, the first of its component to itself.
#pragma once

#include "common/warp.cuh"

namespace pyws {

__device__ __forceinline__ std::int32_t root(const std::int32_t* parent, std::int32_t i) {
  while (parent[i] != i) i = parent[i];
  return i;
}

// While others join: reads where the atomics of all blocks take place.
__device__ __forceinline__ std::int32_t root_now(std::int32_t* parent, std::int32_t i) {
  for (std::int32_t next; (next = atomicAdd(parent + i, 0)) != i;) i = next;
  return i;
}

// The later root is led to the earlier one; where somebody else led it elsewhere meanwhile, that one is joined too.
// Whatever the order, the end is the same components and first pixels.
__device__ __forceinline__ void join(std::int32_t* parent, std::int32_t a, std::int32_t b) {
  while ((a = root_now(parent, a)) != (b = root_now(parent, b))) {
    const std::int32_t later = a > b ? a : b, first = a > b ? b : a;
    const std::int32_t before = atomicMin(parent + later, first);
    if (before == later) return;
    a = before;
    b = first;
  }
}

}  // namespace pyws
