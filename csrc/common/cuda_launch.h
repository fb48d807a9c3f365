// How a .cu file starts kernels and declares shared memory, on a GPU and under the tests' emulator alike.
//
//   PYWS_SHARED(float, partial, 32);            a static shared array, in templates too
//   PYWS_DYNAMIC_SHARED(float, weights);        the block's dynamic shared memory, 16-byte aligned
//   launch("gradcam3d", kernel<T>, grid, block, shared_bytes, stream, arguments...);
//
// launch() converts the arguments to the kernel's parameter types, and raises std::runtime_error with the operation's
// name where the launch itself fails (no driver, bad grid). It never synchronises.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#if defined(PYWS_EMULATOR)
#include "emulator.h"
#else
#include <cuda_runtime.h>

#define PYWS_SHARED(type, name, count) __shared__ type name[count]
#define PYWS_DYNAMIC_SHARED(type, name)                         \
  extern __shared__ __align__(16) unsigned char pyws_dynamic[]; \
  type* name = reinterpret_cast<type*>(pyws_dynamic)

namespace pyws {

inline void check_cuda(const char* op, cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(op) + ": CUDA launch failed: " + cudaGetErrorString(error));
}

template <class... Parameters, class... Arguments>
void launch(const char* op, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            void* stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(static_cast<Parameters>(arguments)...);
  check_cuda(op, cudaGetLastError());
}

}  // namespace pyws
#endif

namespace pyws {

// A one-dimensional grid; CUDA takes at most 2^31 - 1 blocks.
inline dim3 grid_1d(const char* op, std::int64_t blocks) {
  if (blocks > 0x7fffffff) throw std::runtime_error(std::string(op) + ": too large for one launch");
  return dim3(static_cast<unsigned>(blocks));
}

}  // namespace pyws
