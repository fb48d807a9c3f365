// CUDA kernels on the CPU: what common/cuda_launch.h includes instead of cuda_runtime.h under PYWS_EMULATOR.
//
// Each CUDA thread is a fiber, one block runs at a time, and fibers change only at barriers and *_sync, in an order
// drawn from a seed: the integer passed as `stream`. Before each block its shared memory is filled with 0xFF (NaN, -1).
// Raised as std::runtime_error with the operation's name, where a GPU would hang, compute nonsense or refuse the
// launch:
//   a __syncthreads that not every thread of the block reaches, or that threads reach at different lines;
//   a *_sync that not every lane of its mask reaches, with another mask, or whose mask lacks the caller;
//   a thread that exits while others wait for it;
//   a block of over 1024 threads or 48 KB of shared memory, a grid beyond the limits;
//   two accesses to one place that nothing orders, one of them a write; shared memory that nothing wrote (races.h);
//   a vector that is loaded or stored where its size does not divide the address.
// A lane outside the mask of a shuffle contributes 0xFF.
// After pyws_run_last_blocks(n) only the last n blocks of a grid are run: what a kernel does at the end of tensors of more
// than 2^31 elements, which nothing but these blocks touches. So are of the CPU kernels only the last n units of work.
// It proves logic, not speed; g++'s float functions differ from a GPU's in the last bits.
#pragma once

#include <math.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Side by side, so that what looks at accesses knows these by their addresses.
struct KernelPosition {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern KernelPosition kernel_position;
#define threadIdx kernel_position.thread
#define blockIdx kernel_position.block
#define blockDim kernel_position.block_size
#define gridDim kernel_position.grid_size
constexpr int warpSize = 32;

namespace pyws {
namespace emulator {
void check_alignment(const void* address, std::size_t bytes);
}
}  // namespace pyws

// A vector is loaded and stored in one piece, which a GPU does at multiples of its size only.
#define PYWS_VECTOR2(type, name)                                                                        \
  struct alignas(2 * sizeof(type)) name {                                                               \
    type x, y;                                                                                          \
    name() = default;                                                                                   \
    name(type x_, type y_) : x(x_), y(y_) {}                                                            \
    name(const name& v) : x(v.x), y(v.y) { pyws::emulator::check_alignment(&v, sizeof(v)); }            \
    name& operator=(const name& v) {                                                                    \
      pyws::emulator::check_alignment(this, sizeof(v)), pyws::emulator::check_alignment(&v, sizeof(v)); \
      x = v.x, y = v.y;                                                                                 \
      return *this;                                                                                     \
    }                                                                                                   \
  };                                                                                                    \
  inline name make_##name(type x, type y) { return {x, y}; }
#define PYWS_VECTOR4(type, name)                                                                             \
  struct alignas(16) name {                                                                                  \
    type x, y, z, w;                                                                                         \
    name() = default;                                                                                        \
    name(type x_, type y_, type z_, type w_) : x(x_), y(y_), z(z_), w(w_) {}                                 \
    name(const name& v) : x(v.x), y(v.y), z(v.z), w(v.w) { pyws::emulator::check_alignment(&v, sizeof(v)); } \
    name& operator=(const name& v) {                                                                         \
      pyws::emulator::check_alignment(this, sizeof(v)), pyws::emulator::check_alignment(&v, sizeof(v));      \
      x = v.x, y = v.y, z = v.z, w = v.w;                                                                    \
      return *this;                                                                                          \
    }                                                                                                        \
  };                                                                                                         \
  inline name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; }
PYWS_VECTOR2(int, int2)
PYWS_VECTOR2(unsigned, uint2)
PYWS_VECTOR2(float, float2)
PYWS_VECTOR2(double, double2)
PYWS_VECTOR2(long long, longlong2)
PYWS_VECTOR4(int, int4)
PYWS_VECTOR4(unsigned, uint4)
PYWS_VECTOR4(float, float4)
#undef PYWS_VECTOR2
#undef PYWS_VECTOR4

namespace pyws {
namespace emulator {

enum class Sync { kWarp, kShfl, kShflUp, kShflDown, kShflXor, kBallot, kAny, kAll };

void sync_threads(const char* file, int line);
// Waits for the lanes of `mask`; returns the value of lane `source`, or for votes the lanes whose value is not 0.
std::uint64_t sync_lanes(Sync kind, unsigned mask, std::uint64_t value, int source, const char* file, int line);
int lane();

// One array of the block's static shared memory; `site` tells the declarations apart.
void* shared_array(const void* site, std::size_t bytes, std::size_t alignment);
void* dynamic_shared();

void run_grid(const char* op, dim3 grid, dim3 block, std::size_t shared_bytes, std::uint64_t seed,
              void (*kernel)(const void* arguments), const void* arguments);

template <class T>
T shuffle(Sync kind, unsigned mask, T value, int source, const char* file, int line) {
  static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "a type that CUDA shuffles");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = sync_lanes(kind, mask, bits, source, file, line);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulator

template <class... Parameters, class... Arguments>
void launch(const char* op, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            void* stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const auto call = [&] { kernel(static_cast<Parameters>(arguments)...); };
  emulator::run_grid(
      op, grid, block, shared_bytes, reinterpret_cast<std::uintptr_t>(stream),
      [](const void* context) { (*static_cast<decltype(call)*>(context))(); }, &call);
}

}  // namespace pyws

// The static variable is one for each instance of a template, as the array is on a GPU.
#define PYWS_SHARED(type, name, count)               \
  static char name##_site;                           \
  type(&name)[count] = *static_cast<type(*)[count]>( \
      pyws::emulator::shared_array(&name##_site, sizeof(type) * static_cast<std::size_t>(count), alignof(type)))
#define PYWS_DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(pyws::emulator::dynamic_shared())

#define PYWS_CALL_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(PYWS_CALL_SITE) { pyws::emulator::sync_threads(file, line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, PYWS_CALL_SITE) {
  pyws::emulator::sync_lanes(pyws::emulator::Sync::kWarp, mask, 0, 0, file, line);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, PYWS_CALL_SITE) {
  const int first = pyws::emulator::lane() & ~(width - 1);
  return pyws::emulator::shuffle(pyws::emulator::Sync::kShfl, mask, value, first | (source & (width - 1)), file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, PYWS_CALL_SITE) {
  const int lane = pyws::emulator::lane(), first = lane & ~(width - 1), source = lane - static_cast<int>(delta);
  return pyws::emulator::shuffle(pyws::emulator::Sync::kShflUp, mask, value, source < first ? lane : source, file,
                                 line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, PYWS_CALL_SITE) {
  const int lane = pyws::emulator::lane(), last = lane | (width - 1), source = lane + static_cast<int>(delta);
  return pyws::emulator::shuffle(pyws::emulator::Sync::kShflDown, mask, value, source > last ? lane : source, file,
                                 line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize, PYWS_CALL_SITE) {
  const int lane = pyws::emulator::lane(), last = lane | (width - 1), source = lane ^ lane_mask;
  return pyws::emulator::shuffle(pyws::emulator::Sync::kShflXor, mask, value, source > last ? lane : source, file,
                                 line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, PYWS_CALL_SITE) {
  using pyws::emulator::Sync;
  return static_cast<unsigned>(pyws::emulator::sync_lanes(Sync::kBallot, mask, predicate != 0, 0, file, line));
}
inline int __any_sync(unsigned mask, int predicate, PYWS_CALL_SITE) {
  return pyws::emulator::sync_lanes(pyws::emulator::Sync::kAny, mask, predicate != 0, 0, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, PYWS_CALL_SITE) {
  return pyws::emulator::sync_lanes(pyws::emulator::Sync::kAll, mask, predicate != 0, 0, file, line) == mask;
}
#undef PYWS_CALL_SITE

// Atomics on integers; on floats there are none on purpose: their order would decide the bits.
namespace pyws {
namespace emulator {
void atomic_access(const void* address, std::size_t bytes, const void* code);
void before_atomic();

#if !defined(PYWS_RACES)
#define PYWS_ATOMIC inline
#else
#define PYWS_ATOMIC __attribute__((noinline, no_sanitize_thread)) inline
#endif
template <class T, class Change>
PYWS_ATOMIC T atomic_update(T* address, const Change& change) {
  before_atomic();
#if defined(PYWS_RACES)
  atomic_access(address, sizeof(T), __builtin_return_address(0));
#endif
  T before = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &before, change(before), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return before;
}
#undef PYWS_ATOMIC
}  // namespace emulator
}  // namespace pyws

#define PYWS_ATOMIC(type, name, change)                                        \
  inline type name(type* p, type v) {                                          \
    return pyws::emulator::atomic_update(p, [v](type old) { return change; }); \
  }
#define PYWS_ATOMICS(type)                                                                        \
  PYWS_ATOMIC(type, atomicAdd, old + v)                                                           \
  PYWS_ATOMIC(type, atomicExch, (static_cast<void>(old), v))                                      \
  PYWS_ATOMIC(type, atomicAnd, old& v)                                                            \
  PYWS_ATOMIC(type, atomicOr, old | v)                                                            \
  PYWS_ATOMIC(type, atomicXor, old ^ v)                                                           \
  PYWS_ATOMIC(type, atomicMin, v < old ? v : old)                                                 \
  PYWS_ATOMIC(type, atomicMax, v > old ? v : old)                                                 \
  inline type atomicCAS(type* p, type expected, type v) {                                         \
    return pyws::emulator::atomic_update(p, [=](type old) { return old == expected ? v : old; }); \
  }
PYWS_ATOMICS(int)
PYWS_ATOMICS(unsigned)
PYWS_ATOMICS(unsigned long long)
PYWS_ATOMIC(long long, atomicMin, v < old ? v : old)
PYWS_ATOMIC(long long, atomicMax, v > old ? v : old)
PYWS_ATOMIC(int, atomicSub, old - v)
PYWS_ATOMIC(unsigned, atomicSub, old - v)
#undef PYWS_ATOMICS
#undef PYWS_ATOMIC

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
template <class T>
T __ldg(const T* address) {
  return *address;
}

#define PYWS_MIN_MAX(type)                                  \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
PYWS_MIN_MAX(int)
PYWS_MIN_MAX(unsigned)
PYWS_MIN_MAX(long)
PYWS_MIN_MAX(unsigned long)
PYWS_MIN_MAX(long long)
PYWS_MIN_MAX(unsigned long long)
#undef PYWS_MIN_MAX
// As on a GPU, the one that is not NaN.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
