// Kernels that test the emulator itself: right ones with known results, and wrong ones that it must catch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "host_device.h"
#include "launch.h"

namespace {

using pyws::launch;

void* stream(int seed) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(seed)); }

template <class T>
__device__ T warp_sum(T value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  return value;
}

// Sum of each block's numbers: shuffles in the warps, then shared memory. `barrier` = false plants the missing
// __syncthreads.
template <class T, bool barrier>
__global__ void block_sum(const T* numbers, T* sums) {
  PYWS_SHARED(T, partial, 32);
  const T sum = warp_sum(numbers[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  if (barrier) __syncthreads();
  if (threadIdx.x >= 32) return;
  const T total = warp_sum(threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : T(0));
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

template <class T, bool barrier>
std::vector<T> sum_blocks(int blocks, int threads, int seed) {
  std::vector<T> numbers(static_cast<std::size_t>(blocks) * threads), sums(blocks);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<T>(i % 1000);
  launch("selftest", block_sum<T, barrier>, dim3(blocks), dim3(threads), 0, stream(seed), numbers.data(), sums.data());
  return sums;
}

// Neighbours in a warp through shared memory: lane l gets the number of lane l + 1. `sync` = false plants the missing
// __syncwarp.
template <bool sync>
__global__ void rotate(int* out) {
  PYWS_SHARED(int, slots, 32);
  slots[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (sync) __syncwarp();
  out[threadIdx.x] = slots[(threadIdx.x + 1) % 32];
}

template <bool sync>
std::vector<int> rotate_lanes(int seed) {
  std::vector<int> out(32);
  launch("selftest", rotate<sync>, dim3(1), dim3(32), 0, stream(seed), out.data());
  return out;
}

// The even and the odd lanes shuffle and vote among themselves, at different times.
__global__ void half_warps(int* sums, unsigned* votes) {
  const unsigned even = 0x55555555u, mask = threadIdx.x % 2 == 0 ? even : ~even;
  int sum = static_cast<int>(threadIdx.x);
  if (threadIdx.x % 2 == 0) {
    for (int step = 2; step < 32; step *= 2) sum += __shfl_xor_sync(even, sum, step);
    votes[threadIdx.x] = __ballot_sync(even, threadIdx.x < 8);
  } else {
    votes[threadIdx.x] = __ballot_sync(~even, threadIdx.x < 8);
    for (int step = 2; step < 32; step *= 2) sum += __shfl_xor_sync(~even, sum, step);
  }
  sums[threadIdx.x] = sum;
  __syncwarp(mask);
}

std::pair<std::vector<int>, std::vector<unsigned>> sum_half_warps(int seed) {
  std::vector<int> sums(32);
  std::vector<unsigned> votes(32);
  launch("selftest", half_warps, dim3(1), dim3(32), 0, stream(seed), sums.data(), votes.data());
  return {sums, votes};
}

// Rows: __shfl_sync, _up, _down, _xor, each in groups of eight lanes; any and all of (lane > 30).
__global__ void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  out[lane] = __shfl_sync(0xffffffffu, lane, 9, 8);
  out[32 + lane] = __shfl_up_sync(0xffffffffu, lane, 3, 8);
  out[64 + lane] = __shfl_down_sync(0xffffffffu, lane, 3, 8);
  out[96 + lane] = __shfl_xor_sync(0xffffffffu, lane, 12, 8);
  out[128 + lane] = __any_sync(0xffffffffu, lane > 30) * 2 + __all_sync(0xffffffffu, lane > 30);
}

std::vector<int> shuffle(int seed) {
  std::vector<int> out(160);
  launch("selftest", shuffles, dim3(1), dim3(32), 0, stream(seed), out.data());
  return out;
}

// A histogram: counts in dynamic shared memory, added to global memory.
__global__ void count(const int* values, int n, int bins, int* histogram, unsigned long long* largest) {
  PYWS_DYNAMIC_SHARED(int, counts);
  for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) counts[bin] = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) {
    atomicAdd(&counts[values[i]], 1);
    atomicMax(largest, static_cast<unsigned long long>(values[i]));
  }
  __syncthreads();
  for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) atomicAdd(&histogram[bin], counts[bin]);
}

std::pair<std::vector<int>, unsigned long long> count_values(const std::vector<int>& values, int bins, int seed) {
  std::vector<int> histogram(bins);
  unsigned long long largest = 0;
  const int n = static_cast<int>(values.size());
  launch("selftest", count, pyws::grid_1d("selftest", pyws::ceil_div(n, 64)), dim3(64), bins * sizeof(int),
         stream(seed), values.data(), n, bins, histogram.data(), &largest);
  return {histogram, largest};
}

// What shared memory holds before anything is written, and the thread of each block that ran last.
__global__ void uninitialised(float* out, int* last) {
  PYWS_SHARED(float, values, 64);
  out[blockIdx.x * 64 + threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = 0;
  atomicExch(&last[blockIdx.x], static_cast<int>(threadIdx.x));
}

std::pair<std::vector<float>, std::vector<int>> look_at_shared(int seed) {
  std::vector<float> out(3 * 64);
  std::vector<int> last(3);
  launch("selftest", uninitialised, dim3(3), dim3(64), 0, stream(seed), out.data(), last.data());
  return {out, last};
}

// Two blocks write one address.
__global__ void colliding_blocks(int* out) {
  if (threadIdx.x == blockIdx.x) *out = 1;
}

// One element beyond a shared array, and one before its alignment.
__global__ void overflow(int n, int* out) {
  PYWS_SHARED(int, first, 8);
  PYWS_SHARED(int, second, 8);
  int* slots = first;
  slots[n] = 1;
  second[0] = 2;
  *out = slots[n];
}
__global__ void misaligned(const int* in, int* out) { *out = reinterpret_cast<const int4*>(in)->x; }

// Wrong kernels, each of which must raise.
__global__ void diverged_barrier() {
  if (threadIdx.x != 7) __syncthreads();
  __syncwarp();
}
__global__ void early_exit() {
  if (threadIdx.x >= 40) return;
  __syncthreads();
}
__global__ void two_barriers() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void exit_before_shuffle(int* out) {
  if (threadIdx.x == 3) return;
  out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
__global__ void mask_without_caller() { __syncwarp(threadIdx.x < 16 ? 0xffffu : 0xffffu); }
__global__ void masks_differ() { __syncwarp(threadIdx.x == 5 ? 0x20u : 0xffffffffu); }
__global__ void mixed_votes() {
  if (threadIdx.x < 16)
    __any_sync(0xffffffffu, 1);
  else
    __all_sync(0xffffffffu, 1);
}
__global__ void absent_lanes() { __syncwarp(); }
__global__ void much_shared_memory() {
  PYWS_SHARED(double, a, 6000);
  PYWS_DYNAMIC_SHARED(double, b);
  a[threadIdx.x] = b[threadIdx.x] = 0;
}
__global__ void nothing() {}

void run_wrong(const std::string& name, int seed) {
  int out[64] = {};
  const dim3 one(1), two_warps(64), warp(32);
  if (name == "diverged_barrier") launch("selftest", diverged_barrier, one, two_warps, 0, stream(seed));
  if (name == "early_exit") launch("selftest", early_exit, one, two_warps, 0, stream(seed));
  if (name == "two_barriers") launch("selftest", two_barriers, one, two_warps, 0, stream(seed));
  if (name == "exit_before_shuffle") launch("selftest", exit_before_shuffle, one, warp, 0, stream(seed), out);
  if (name == "mask_without_caller") launch("selftest", mask_without_caller, one, warp, 0, stream(seed));
  if (name == "masks_differ") launch("selftest", masks_differ, one, warp, 0, stream(seed));
  if (name == "mixed_votes") launch("selftest", mixed_votes, one, warp, 0, stream(seed));
  if (name == "absent_lanes") launch("selftest", absent_lanes, one, dim3(40), 0, stream(seed));
  if (name == "much_shared_memory") launch("selftest", much_shared_memory, one, warp, 1200 * 8, stream(seed));
  if (name == "many_threads") launch("selftest", nothing, one, dim3(32, 33), 0, stream(seed));
  if (name == "no_threads") launch("selftest", nothing, one, dim3(0), 0, stream(seed));
  if (name == "tall_grid") launch("selftest", nothing, dim3(1, 65536), warp, 0, stream(seed));
  if (name == "dynamic_shared_memory") launch("selftest", nothing, one, warp, 49153, stream(seed));
  if (name == "colliding_blocks") launch("selftest", colliding_blocks, dim3(8), two_warps, 0, stream(seed), out);
  if (name == "overflow") launch("selftest", overflow, one, one, 0, stream(seed), 8, out);
  if (name == "misaligned") launch("selftest", misaligned, one, one, 0, stream(seed), out + 1, out);
}

}  // namespace

PYBIND11_MODULE(_selftest, module) {
  module.def("sum_blocks", sum_blocks<int, true>);
  module.def("sum_blocks_double", sum_blocks<double, true>);
  module.def("sum_blocks_without_barrier", sum_blocks<int, false>);
  module.def("rotate_lanes", rotate_lanes<true>);
  module.def("rotate_lanes_without_sync", rotate_lanes<false>);
  module.def("sum_half_warps", sum_half_warps);
  module.def("shuffle", shuffle);
  module.def("count_values", count_values);
  module.def("look_at_shared", look_at_shared);
  module.def("run_wrong", run_wrong);
}
