#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(PYWS_SANITIZE_ADDRESS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(PYWS_SANITIZE_THREAD)
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#endif

#if defined(__x86_64__)
// Saves the registers that a call preserves and continues on another stack: swapcontext without its system call, which
// would take most of the emulator's time.
extern "C" void pyws_switch_stack(void** saved_stack, void* next_stack);
asm(R"(
.text
.type pyws_switch_stack, @function
pyws_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pyws_switch_stack, .-pyws_switch_stack
)");
#endif

namespace pyws {
namespace emulator {
namespace {

constexpr std::size_t kPage = 4096;
#if defined(PYWS_SANITIZE_ADDRESS) || defined(PYWS_SANITIZE_THREAD)
constexpr std::size_t kStack = 64 * kPage;
#else
constexpr std::size_t kStack = 16 * kPage;
#endif

// A suspended flow of control: the scheduler's or a fiber's.
#if defined(__x86_64__)
struct Context {
  void* stack = nullptr;

  void prepare(unsigned char* memory, std::size_t size, void (*main)()) {
    void** top = reinterpret_cast<void**>(memory + size);
    top[-2] = reinterpret_cast<void*>(main);         // popped by ret; leaves the stack as after a call
    for (int i = 3; i <= 8; ++i) top[-i] = nullptr;  // the six registers
    stack = top - 8;
  }
  void switch_to(Context& next) { pyws_switch_stack(&stack, next.stack); }
};
#else
struct Context {
  ucontext_t context;

  void prepare(unsigned char* memory, std::size_t size, void (*main)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = memory;
    context.uc_stack.ss_size = size;
    context.uc_link = nullptr;
    makecontext(&context, main, 0);
  }
  void switch_to(Context& next) { swapcontext(&context, &next.context); }
};
#endif

}  // namespace

struct Fiber::State {
  void (*main)();
  unsigned char* memory;  // a guard page, then the stack
  Context context;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* thread = nullptr;      // ThreadSanitizer's
};

namespace {

struct Scheduler {
  Context context;
  Fiber* running = nullptr;
  void* fake_stack = nullptr;
  const void* stack = nullptr;
  std::size_t stack_size = 0;
  void* thread = nullptr;
};
Scheduler scheduler;

// The first lines on a fiber's stack finish the switch that led there.
void arrive(void* fake_stack) {
#if defined(PYWS_SANITIZE_ADDRESS)
  __sanitizer_finish_switch_fiber(fake_stack, &scheduler.stack, &scheduler.stack_size);
#else
  static_cast<void>(fake_stack);
#endif
}

}  // namespace

void Fiber::enter() {
  arrive(nullptr);
  scheduler.running->state_->main();
}

Fiber::Fiber(void (*main)()) : state_(new State) {
  void* memory = mmap(nullptr, kPage + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kPage, PROT_NONE);
  state_->main = main;
  state_->memory = static_cast<unsigned char*>(memory);
  state_->context.prepare(state_->memory + kPage, kStack, enter);
#if defined(PYWS_SANITIZE_THREAD)
  state_->thread = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(PYWS_SANITIZE_THREAD)
  __tsan_destroy_fiber(state_->thread);
#endif
#if defined(PYWS_SANITIZE_ADDRESS)
  __asan_unpoison_memory_region(state_->memory, kPage + kStack);
#endif
  munmap(state_->memory, kPage + kStack);
  delete state_;
}

const void* Fiber::stack() const { return state_->memory + kPage; }
std::size_t Fiber::stack_bytes() { return kStack; }

void Fiber::resume() {
  scheduler.running = this;
#if defined(PYWS_SANITIZE_ADDRESS)
  __sanitizer_start_switch_fiber(&scheduler.fake_stack, state_->memory + kPage, kStack);
#endif
#if defined(PYWS_SANITIZE_THREAD)
  scheduler.thread = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(state_->thread, __tsan_switch_to_fiber_no_sync);
#endif
  scheduler.context.switch_to(state_->context);
#if defined(PYWS_SANITIZE_ADDRESS)
  __sanitizer_finish_switch_fiber(scheduler.fake_stack, nullptr, nullptr);
#endif
}

void Fiber::suspend() {
  State* state = scheduler.running->state_;
#if defined(PYWS_SANITIZE_ADDRESS)
  __sanitizer_start_switch_fiber(&state->fake_stack, scheduler.stack, scheduler.stack_size);
#endif
#if defined(PYWS_SANITIZE_THREAD)
  __tsan_switch_to_fiber(scheduler.thread, __tsan_switch_to_fiber_no_sync);
#endif
  state->context.switch_to(scheduler.context);
  arrive(state->fake_stack);
}

#if defined(PYWS_SANITIZE_THREAD)
namespace {
template <class Action>
void as_thread(void* thread, const Action& action) {
  void* self = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(thread, __tsan_switch_to_fiber_no_sync);
  action();
  __tsan_switch_to_fiber(self, __tsan_switch_to_fiber_no_sync);
}
}  // namespace

void Fiber::release(void* variable) {
  as_thread(state_->thread, [&] { __tsan_release(variable); });
}
void Fiber::acquire(void* variable) {
  as_thread(state_->thread, [&] { __tsan_acquire(variable); });
}
void host_release(void* variable) { __tsan_release(variable); }
void host_acquire(void* variable) { __tsan_acquire(variable); }
Unobserved::Unobserved() { AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
Unobserved::~Unobserved() { AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }
#else
void Fiber::release(void*) {}
void Fiber::acquire(void*) {}
void host_release(void*) {}
void host_acquire(void*) {}
Unobserved::Unobserved() {}
Unobserved::~Unobserved() {}
#endif

}  // namespace emulator
}  // namespace pyws
