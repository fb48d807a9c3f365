// A fiber: a call stack of its own that the scheduler enters with resume() and that returns with suspend().
//
// AddressSanitizer is told of every change of stack. ThreadSanitizer sees each fiber as a thread, and no ordering in a
// switch: only release() and acquire() order what fibers do, as barriers do on a GPU.
#pragma once

#include <cstddef>

namespace pyws {
namespace emulator {

class Fiber {
 public:
  // `main` is called on the fiber's own stack at the first resume() and must not return.
  explicit Fiber(void (*main)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();          // from the scheduler: run until the fiber suspends itself
  static void suspend();  // from inside a fiber: back to the scheduler

  const void* stack() const;
  static std::size_t stack_bytes();

  // What this fiber did so far becomes visible to those that acquire `variable` later. No-ops but for ThreadSanitizer.
  void release(void* variable);
  void acquire(void* variable);

 private:
  static void enter();
  struct State;
  State* state_;
};

// The same two for the thread that runs the scheduler.
void host_release(void* variable);
void host_acquire(void* variable);

// While one lives, what the scheduler writes, allocates and frees races with nothing, and what it allocates has no
// past.
struct Unobserved {
  Unobserved();
  ~Unobserved();
};

}  // namespace emulator
}  // namespace pyws
