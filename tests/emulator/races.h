// Finds accesses of CUDA threads that nothing orders: two to one place, by different threads, one of them a write.
//
// Kernels are compiled with the compiler's instrumentation for ThreadSanitizer, but its functions are defined here: each
// access is compared with what a shadow cell says of earlier ones. What orders accesses, as on a GPU:
//   __syncthreads   all threads of the block
//   __syncwarp      the lanes of its mask. Shuffles and votes order nothing: they carry registers only
//   a launch        everything before it
// Atomics go together with atomics and with nothing else. Whether a race is found does not depend on the order in which
// threads run, nor on how long ago the other access was. Shared memory that is read before anything wrote it is found
// as well.
#pragma once

#include <cstddef>
#include <string>

namespace pyws {
namespace emulator {
namespace races {

void start_launch();
// Shared memory lies in [shared, shared + bytes).
void start_block(const void* shared, std::size_t bytes);
void at_barrier();
void at_syncwarp(unsigned warp, unsigned mask);
// The thread whose accesses follow; those to its own stack are not looked at.
void enter(unsigned thread, const void* stack, std::size_t stack_bytes);
void leave();
// What was found, in words; from the scheduler, whose stack is large enough to look for lines.
std::string found();

}  // namespace races

// An atomic access, in one piece, from the instruction before `code`.
void atomic_access(const void* address, std::size_t bytes, const void* code);
// The running thread goes no further, and the scheduler says what was found.
[[noreturn]] void stop_at_race();

}  // namespace emulator
}  // namespace pyws
