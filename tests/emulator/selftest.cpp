// Kernels that test the emulator itself: right ones with known results, and wrong ones that it must catch. All have one
// signature, so that tests/core/test_emulator.py starts them by name through one C function.
#include <cstring>
#include <string>

#include "common/cuda_launch.h"
#include "common/host_device.h"

namespace {

constexpr unsigned kAll = 0xffffffffu;

__device__ int warp_sum(int value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(kAll, value, offset);
  return value;
}

// Sum of each block's numbers: shuffles in the warps, then shared memory.
template <bool barrier>
__device__ void sum_block(const int* in, int* out) {
  PYWS_SHARED(int, partial, 32);
  const int sum = warp_sum(in[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  if (barrier) __syncthreads();
  if (threadIdx.x >= 32) return;
  const int total = warp_sum(threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0);
  if (threadIdx.x == 0) out[blockIdx.x] = total;
}
__global__ void block_sum(const int* in, int* out) { sum_block<true>(in, out); }
__global__ void block_sum_without_barrier(const int* in, int* out) { sum_block<false>(in, out); }

// Neighbours in a warp through shared memory: lane l gets the number of lane l + 1.
template <bool sync>
__device__ void rotate_lanes(const int* in, int* out) {
  PYWS_SHARED(int, slots, 32);
  slots[threadIdx.x] = in[threadIdx.x];
  if (sync) __syncwarp();
  out[threadIdx.x] = slots[(threadIdx.x + 1) % 32];
}
__global__ void rotate(const int* in, int* out) { rotate_lanes<true>(in, out); }
__global__ void rotate_without_sync(const int* in, int* out) { rotate_lanes<false>(in, out); }

// As rotate, but the even lanes wait for the even ones and the odd for the odd ones: a neighbour is never waited for.
// A detector that lets two barriers share what they order does not see it.
__global__ void rotate_half_synced(const int* in, int* out) {
  PYWS_SHARED(int, slots, 32);
  slots[threadIdx.x] = in[threadIdx.x];
  __syncwarp(threadIdx.x % 2 == 0 ? 0x55555555u : 0xaaaaaaaau);
  out[threadIdx.x] = slots[(threadIdx.x + 1) % 32];
}

// The even and the odd lanes shuffle and vote among themselves, at different times. Rows of out: sums, votes.
__global__ void half_warps(const int* in, int* out) {
  const unsigned even = 0x55555555u, lane = threadIdx.x;
  int sum = in[lane];
  if (lane % 2 == 0) {
    for (int step = 2; step < 32; step *= 2) sum += __shfl_xor_sync(even, sum, step);
    out[32 + lane] = static_cast<int>(__ballot_sync(even, lane < 8));
  } else {
    out[32 + lane] = static_cast<int>(__ballot_sync(~even, lane < 8));
    for (int step = 2; step < 32; step *= 2) sum += __shfl_xor_sync(~even, sum, step);
  }
  out[lane] = sum;
}

// Rows of out: __shfl_sync, _up, _down, _xor, each in groups of eight lanes; any and all of (lane > 30).
__global__ void shuffles(const int* in, int* out) {
  const int lane = static_cast<int>(threadIdx.x), value = in[lane];
  out[lane] = __shfl_sync(kAll, value, 9, 8);
  out[32 + lane] = __shfl_up_sync(kAll, value, 3, 8);
  out[64 + lane] = __shfl_down_sync(kAll, value, 3, 8);
  out[96 + lane] = __shfl_xor_sync(kAll, value, 12, 8);
  out[128 + lane] = __any_sync(kAll, lane > 30) * 2 + __all_sync(kAll, lane > 30);
  out[160 + lane] = static_cast<int>(__shfl_sync(kAll, value * 0.5, lane ^ 1) * 2);
}

// Row of out, a thread: the bit intrinsics of in[0..2].
__global__ void bits(const int* in, int* out) {
  const int x = in[threadIdx.x];
  const long long wide = static_cast<long long>(x) << 20;
  const int results[] = {__popc(static_cast<unsigned>(x)),
                         __popcll(static_cast<unsigned long long>(wide)),
                         __ffs(x),
                         __ffsll(wide),
                         __clz(x),
                         __clzll(wide),
                         min(x, 2),
                         max(x, 2)};
  for (int i = 0; i < 8; ++i) out[threadIdx.x * 8 + i] = results[i];
}

// A histogram of 7 values: counts in dynamic shared memory, added to global memory; then the largest value.
__global__ void histogram(const int* in, int* out) {
  PYWS_DYNAMIC_SHARED(int, counts);
  if (threadIdx.x < 7) counts[threadIdx.x] = 0;
  __syncthreads();
  const int value = in[blockIdx.x * blockDim.x + threadIdx.x];
  atomicAdd(&counts[value], 1);
  atomicMax(&out[7], value);
  __syncthreads();
  if (threadIdx.x < 7) atomicAdd(&out[threadIdx.x], counts[threadIdx.x]);
}

// The bits of shared memory before anything is written.
__global__ void uninitialised(const int*, int* out) {
  PYWS_SHARED(int, values, 64);
  out[threadIdx.x] = values[threadIdx.x];
}
// Of each block the thread that ran last.
__global__ void last_threads(const int*, int* out) {
  __syncthreads();
  atomicExch(&out[blockIdx.x], static_cast<int>(threadIdx.x));
}

// Counts by two atomics, between which others may count.
__global__ void lost_counts(const int*, int* out) { atomicExch(out, atomicAdd(out, 0) + 1); }

// Every block writes one address.
__global__ void colliding_blocks(const int*, int* out) {
  if (threadIdx.x == 0) *out = static_cast<int>(blockIdx.x);
}

__global__ void overflow(const int* in, int* out) {
  PYWS_SHARED(int, slots, 8);
  PYWS_SHARED(int, next, 8);
  int* first = slots;
  next[0] = 2;
  *out = first[in[8]];
}
__global__ void write_beyond(const int*, int*) {
  PYWS_SHARED(int, slots, 8);
  PYWS_SHARED(int, next, 8);
  next[threadIdx.x] = 2;
  slots[threadIdx.x + 1] = 1;
}
__global__ void misaligned(const int* in, int* out) {
  const int4 vector = *reinterpret_cast<const int4*>(in + 1 + threadIdx.x);  // one of the two is not aligned
  out[threadIdx.x] = vector.x + vector.w;
}

// Races that no order of the threads shows: all write the same, add without an atomic, or read what they all but know.
__global__ void same_value(const int*, int* out) { *out = 7; }
__global__ void plain_sum(const int* in, int* out) {
  if (threadIdx.x % 32 == 0) *out += in[threadIdx.x];
}
__global__ void plain_beside_atomic(const int*, int* out) {
  if (threadIdx.x < 32) atomicAdd(&out[1], 1);
  if (threadIdx.x == 32) out[0] = out[1];
}
// The shuffle makes the lanes wait for each other, but it orders no memory.
__global__ void rotate_by_shuffle(const int* in, int* out) {
  PYWS_SHARED(int, slots, 32);
  slots[threadIdx.x] = in[threadIdx.x];
  __shfl_sync(kAll, 0, 0);
  out[threadIdx.x] = slots[(threadIdx.x + 1) % 32];
}
// The second round overwrites what others may still read.
__global__ void write_after_read(const int* in, int* out) {
  PYWS_SHARED(int, slot, 1);
  for (int round = 0; round < 2; ++round) {
    if (threadIdx.x == 0) slot[0] = in[round];
    __syncthreads();
    out[threadIdx.x] += slot[0];
  }
}
// A word by all lanes beside a byte by one of them.
__global__ void byte_in_word(const int*, int* out) {
  reinterpret_cast<unsigned char*>(out)[threadIdx.x] = 1;
  if (threadIdx.x == 4) out[0] = 0;
}
__global__ void bytes(const int*, int* out) { reinterpret_cast<unsigned char*>(out)[threadIdx.x] = 1; }

// What a GPU would hang on, or leave undefined.
__global__ void diverged_barrier(const int*, int*) {
  if (threadIdx.x != 7) __syncthreads();
  __syncwarp();
}
__global__ void early_exit(const int*, int*) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
}
__global__ void two_barriers(const int*, int*) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void exit_before_shuffle(const int*, int* out) {
  if (threadIdx.x == 3) return;
  out[threadIdx.x] = __shfl_sync(kAll, 1, 0);
}
__global__ void mask_without_caller(const int*, int*) { __syncwarp(0xffffu); }
__global__ void masks_differ(const int*, int*) { __syncwarp(threadIdx.x == 5 ? 0x20u : kAll); }
__global__ void mixed_votes(const int*, int*) {
  if (threadIdx.x < 16)
    __any_sync(kAll, 1);
  else
    __all_sync(kAll, 1);
}
__global__ void sync_full_warp(const int*, int*) { __syncwarp(); }
__global__ void much_shared_memory(const int*, int* out) {
  PYWS_SHARED(double, values, 6000);
  values[threadIdx.x] = 1;
  *out = static_cast<int>(values[threadIdx.x]);
}
__global__ void nothing(const int*, int*) {}

using Kernel = void (*)(const int*, int*);
struct Named {
  const char* name;
  Kernel kernel;
};
#define PYWS_NAMED(kernel) {#kernel, kernel}
const Named kernels[] = {
    PYWS_NAMED(block_sum),
    PYWS_NAMED(block_sum_without_barrier),
    PYWS_NAMED(rotate),
    PYWS_NAMED(rotate_without_sync),
    PYWS_NAMED(half_warps),
    PYWS_NAMED(rotate_half_synced),
    PYWS_NAMED(shuffles),
    PYWS_NAMED(bits),
    PYWS_NAMED(histogram),
    PYWS_NAMED(uninitialised),
    PYWS_NAMED(lost_counts),
    PYWS_NAMED(colliding_blocks),
    PYWS_NAMED(overflow),
    PYWS_NAMED(write_beyond),
    PYWS_NAMED(misaligned),
    PYWS_NAMED(diverged_barrier),
    PYWS_NAMED(early_exit),
    PYWS_NAMED(two_barriers),
    PYWS_NAMED(mask_without_caller),
    PYWS_NAMED(exit_before_shuffle),
    PYWS_NAMED(masks_differ),
    PYWS_NAMED(mixed_votes),
    PYWS_NAMED(sync_full_warp),
    PYWS_NAMED(much_shared_memory),
    PYWS_NAMED(same_value),
    PYWS_NAMED(plain_sum),
    PYWS_NAMED(plain_beside_atomic),
    PYWS_NAMED(rotate_by_shuffle),
    PYWS_NAMED(write_after_read),
    PYWS_NAMED(byte_in_word),
    PYWS_NAMED(bytes),
    PYWS_NAMED(last_threads),
    PYWS_NAMED(nothing),
};

}  // namespace

// Returns the error message, or "".
extern "C" const char* run_kernel(const char* name, int seed, const unsigned* grid, const unsigned* block,
                                  int shared_bytes, const int* in, int* out) {
  static std::string message;
  message = std::string("no kernel ") + name;
  for (const Named& each : kernels) {
    if (std::strcmp(each.name, name) != 0) continue;
    message.clear();
    try {
      pyws::launch("selftest", each.kernel, dim3(grid[0], grid[1]), dim3(block[0], block[1]),
                   static_cast<std::size_t>(shared_bytes), reinterpret_cast<void*>(static_cast<std::uintptr_t>(seed)),
                   in, out);
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
  }
  return message.c_str();
}
