#include "otsu/otsu_cuda.h"

namespace pyws {
namespace {

constexpr int kThreads = kOtsuBins;  // one thread a bin

// Calls body(value) for every value of a map that belongs to this thread: 16 bytes a load where the map is aligned.
template <class T, class Body>
__device__ __forceinline__ void each_value(const T* map, std::int64_t n, const Body& body) {
  constexpr int kVector = 16 / sizeof(T);
  std::int64_t done = 0;
  if (reinterpret_cast<std::uintptr_t>(map) % 16 == 0) {
    for (std::int64_t i = threadIdx.x; i < n / kVector; i += kThreads) {
      const int4 loaded = reinterpret_cast<const int4*>(map)[i];
      T values[kVector];
      std::memcpy(values, &loaded, sizeof(loaded));
      for (int k = 0; k < kVector; ++k) body(widen(values[k]));
    }
    done = n / kVector * kVector;
  }
  for (std::int64_t i = done + threadIdx.x; i < n; i += kThreads) body(widen(map[i]));
}

// Traffic: a map is read twice, the second time from L2 where it fits; one number is written. Ownership: one block a
// map, so a few large maps leave multiprocessors idle.
template <class T, class A>
__global__ void otsu_threshold(const T* maps, std::int64_t positions, A* thresholds) {
  const T* map = maps + blockIdx.x * positions;
  const A threshold = block_otsu<A>([&](const auto& body) { each_value(map, positions, body); }, widen(map[0]));
  if (threadIdx.x == 0) thresholds[blockIdx.x] = threshold;
}

template <class T, class A = typename Accumulator<T>::type>
void run(const void* maps, std::int64_t batch, std::int64_t positions, void* thresholds, void* stream) {
  launch("otsu", otsu_threshold<T, A>, grid_1d("otsu", batch), dim3(kThreads), 0, stream, static_cast<const T*>(maps),
         positions, static_cast<A*>(thresholds));
}

}  // namespace

void otsu_cuda(const OtsuParams& p, void* stream) {
  check_dtype("otsu", "thresholds", p.thresholds.dtype, summing_type(p.maps.dtype));
  with_floats("otsu", "maps", p.maps.dtype,
              [&](auto zero) { run<decltype(zero)>(p.maps.data, p.batch, p.positions, p.thresholds.data, stream); });
}

}  // namespace pyws
