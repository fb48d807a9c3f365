#include "emulator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "fiber.h"
#include "races.h"

#if defined(PYWS_SANITIZE_ADDRESS)
#include <sanitizer/asan_interface.h>
#define PYWS_POISON(address, bytes) __asan_poison_memory_region(address, bytes)
#define PYWS_UNPOISON(address, bytes) __asan_unpoison_memory_region(address, bytes)
#else
#define PYWS_POISON(address, bytes) static_cast<void>(0)
#define PYWS_UNPOISON(address, bytes) static_cast<void>(0)
#endif

KernelPosition kernel_position;

namespace pyws {
namespace emulator {
namespace {

constexpr unsigned kMaxThreads = 1024, kLanes = 32, kMaxWarps = kMaxThreads / kLanes;
constexpr std::size_t kSharedLimit = 48 * 1024;
constexpr std::size_t kArena = 2 * kSharedLimit;  // space for alignment and a gap after each array
constexpr std::size_t kGap = 16;
constexpr unsigned kInterrupts = 8;  // one of so many atomics lets other threads go first
constexpr unsigned char kUntouched = 0xff;

const char* name_of(Sync kind) {
  const char* names[] = {"__syncwarp",      "__shfl_sync",   "__shfl_up_sync", "__shfl_down_sync",
                         "__shfl_xor_sync", "__ballot_sync", "__any_sync",     "__all_sync"};
  return names[static_cast<int>(kind)];
}

// splitmix64. Neighbouring seeds start far apart: otherwise one stream would be the other's, a step later.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0xd1342543de82ef95u) {}
  std::uint64_t operator()() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) { return (*this)() % n; }
  // One of the bits that are set.
  unsigned bit_of(unsigned bits) {
    const unsigned turn = (*this)() % 32;
    const unsigned turned = turn == 0 ? bits : (bits >> turn | bits << (32 - turn));
    return (static_cast<unsigned>(__builtin_ctz(turned)) + turn) % 32;
  }

 private:
  std::uint64_t state_;
};

enum class State { kReady, kAtBarrier, kAtSync, kExited };

struct Thread {
  Fiber* fiber;
  uint3 index;
  unsigned warp, lane;
  State state;
  // Where and for what it waits.
  const char* file;
  int line;
  Sync kind;
  unsigned mask;
  int source;
  std::uint64_t value, result;
};

struct Warp {
  unsigned ready, waiting;  // a bit a lane
};

struct SharedArray {
  const void* site;
  void* address;
  std::size_t bytes;
};

struct Grid {
  std::string op;
  dim3 grid, block;
  unsigned threads;
  std::size_t shared_bytes;
  void (*kernel)(const void*);
  const void* arguments;
};

std::string text(const uint3& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

std::string place(const Thread& thread) {
  const char* slash = std::strrchr(thread.file, '/');
  return std::string(slash ? slash + 1 : thread.file) + ":" + std::to_string(thread.line);
}

std::string hex(unsigned mask) {
  char digits[11];
  std::snprintf(digits, sizeof(digits), "0x%08x", mask);
  return digits;
}

std::string doing(const Thread& thread) {
  const std::string who = "thread " + text(thread.index);
  if (thread.state == State::kExited) return who + " has exited";
  if (thread.state == State::kAtBarrier) return who + " waits in __syncthreads at " + place(thread);
  return who + " waits in " + name_of(thread.kind) + " of mask " + hex(thread.mask) + " at " + place(thread);
}

// One block on the fibers, which live on from block to block and from launch to launch.
class Machine {
 public:
  void run(const Grid& grid, Random& random);

  void wait_at_barrier(const char* file, int line);
  void maybe_interrupt();
  std::uint64_t wait_for_lanes(Sync kind, unsigned mask, std::uint64_t value, int source, const char* file, int line);
  unsigned lane() const { return running_->lane; }
  void* shared_array(const void* site, std::size_t bytes, std::size_t alignment);
  void* dynamic_shared() { return arena_.get(); }
  [[noreturn]] void fail_in_thread(const std::string& what);
  [[noreturn]] void stop_at_race();

 private:
  static void thread_main();
  void new_arena();
  void run_one(std::uint64_t block, Random& random);
  void start_block(Random& random);
  void run_block(Random& random);
  void finish_grid();
  void check_gaps();
  void make_ready();  // all threads of the block
  void open_barrier();
  void open_lanes(Warp& warp, unsigned first, unsigned mask);
  void order(Thread* const* members, unsigned count);
  [[noreturn]] void fail(const std::string& what);
  std::string deadlock() const;

  const Grid* grid_ = nullptr;
  Random* random_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  Thread threads_[kMaxThreads];
  Warp warps_[kMaxWarps];
  Thread* running_ = nullptr;
  unsigned ready_warps_ = 0, at_barrier_ = 0, exited_ = 0;
  std::string error_;
  bool race_ = false;

  std::unique_ptr<unsigned char, decltype(&std::free)> arena_{nullptr, &std::free};
  std::vector<SharedArray> arrays_;
  std::size_t arena_used_ = 0, shared_used_ = 0;
};

Machine machine;
std::mutex one_launch;
std::uint64_t most_blocks = 0;  // number of last blocks of a grid that are run; 0: all

void Machine::run(const Grid& grid, Random& random) {
  grid_ = &grid;
  random_ = &random;
  races::start_launch();
  while (fibers_.size() < grid.threads) fibers_.push_back(std::make_unique<Fiber>(thread_main));
  blockDim = grid.block;
  gridDim = grid.grid;
  const std::uint64_t blocks = std::uint64_t{grid.grid.x} * grid.grid.y * grid.grid.z;
  if (most_blocks > 0 && blocks > most_blocks) {
    for (std::uint64_t b = blocks - most_blocks; b < blocks; ++b) run_one(b, random);
    return finish_grid();
  }
  // Blocks in the order start, start + step, ... modulo their number, which visits all where the two are coprime.
  const std::uint64_t start = random.below(blocks);
  std::uint64_t step = 1 + random.below(blocks);
  while (std::gcd(step, blocks) != 1) ++step;
  for (std::uint64_t i = 0, b = start; i < blocks; ++i, b = (b + step) % blocks) run_one(b, random);
  finish_grid();
}

void Machine::run_one(std::uint64_t block, Random& random) {
  const std::uint64_t x = gridDim.x, y = gridDim.y;
  blockIdx = {static_cast<unsigned>(block % x), static_cast<unsigned>(block / x % y),
              static_cast<unsigned>(block / (x * y))};
  start_block(random);
  run_block(random);
}

// Each block has its own, as on a GPU, so that blocks cannot seem to race for it.
void Machine::new_arena() {
  const Unobserved unobserved;
  arena_.reset(static_cast<unsigned char*>(std::malloc(kArena)));
  if (!arena_) throw std::bad_alloc();
  std::memset(arena_.get(), kUntouched, kArena);
}

void Machine::start_block(Random& random) {
  new_arena();
  arrays_.clear();
  shared_used_ = grid_->shared_bytes;
  arena_used_ = (grid_->shared_bytes + 31) / 16 * 16;
  PYWS_POISON(arena_.get() + grid_->shared_bytes, kArena - grid_->shared_bytes);

  races::start_block(arena_.get(), kArena);

  const unsigned count = grid_->threads, turn = static_cast<unsigned>(random.below(count));
  std::memset(warps_, 0, sizeof(warps_));
  ready_warps_ = exited_ = 0;
  for (unsigned t = 0; t < count; ++t) {
    Thread& thread = threads_[t];
    thread.fiber = fibers_[(t + turn) % count].get();  // so that it is rarely the same one for a thread of two blocks
    thread.index = {t % grid_->block.x, t / grid_->block.x % grid_->block.y, t / (grid_->block.x * grid_->block.y)};
    thread.warp = t / kLanes;
    thread.lane = t % kLanes;
  }
  make_ready();
  // Threads see what the host did before, and nothing of other blocks.
  host_release(this);
  for (unsigned t = 0; t < count; ++t) threads_[t].fiber->acquire(this);
}

void Machine::make_ready() {
  for (unsigned t = 0; t < grid_->threads; ++t) {
    Thread& thread = threads_[t];
    thread.state = State::kReady;
    warps_[thread.warp].ready |= 1u << thread.lane;
    ready_warps_ |= 1u << thread.warp;
  }
  at_barrier_ = 0;
}

void Machine::run_block(Random& random) {
  unsigned w = random.bit_of(ready_warps_);
  while (ready_warps_ != 0) {
    // Mostly one warp runs on as far as it can, which shows what another should have waited for; sometimes they mix.
    if (warps_[w].ready == 0 || random.below(8) == 0) w = random.bit_of(ready_warps_);
    Warp& warp = warps_[w];
    const unsigned lane = random.bit_of(warp.ready);
    warp.ready &= ~(1u << lane);
    if (warp.ready == 0) ready_warps_ &= ~(1u << w);
    running_ = &threads_[w * kLanes + lane];
    threadIdx = running_->index;
    races::enter(w * kLanes + lane, running_->fiber->stack(), Fiber::stack_bytes());
    running_->fiber->resume();
    races::leave();
    if (race_) error_ = races::found();
    if (!error_.empty()) fail(error_);
  }
  if (exited_ < grid_->threads) fail(deadlock());
  check_gaps();
}

// What lies between shared arrays is as new_arena left it. AddressSanitizer, which poisons it, says more, and earlier;
// ThreadSanitizer would take the host for one more thread.
void Machine::check_gaps() {
#if !defined(PYWS_SANITIZE_ADDRESS) && !defined(PYWS_SANITIZE_THREAD)
  arrays_.push_back({nullptr, arena_.get(), grid_->shared_bytes});
  for (const SharedArray& array : arrays_) {
    const auto* gap = static_cast<const unsigned char*>(array.address) + array.bytes;
    if (std::any_of(gap, gap + kGap, [](unsigned char byte) { return byte != kUntouched; }))
      fail("a shared array of " + std::to_string(array.bytes) + " bytes was written beyond its end");
  }
#endif
}

void Machine::finish_grid() {
  for (unsigned t = 0; t < fibers_.size(); ++t) fibers_[t]->release(&arrays_);
  host_acquire(&arrays_);
  arena_.reset();
}

void Machine::thread_main() {
  for (;;) {
    machine.grid_->kernel(machine.grid_->arguments);
    machine.running_->state = State::kExited;
    ++machine.exited_;
    Fiber::suspend();
  }
}

void Machine::wait_at_barrier(const char* file, int line) {
  Thread& self = *running_;
  self.state = State::kAtBarrier;
  self.file = file;
  self.line = line;
  if (++at_barrier_ == grid_->threads) open_barrier();
  Fiber::suspend();
}

// A thread that has seen something by one atomic may find it changed at the next.
void Machine::maybe_interrupt() {
  if (random_->below(kInterrupts) != 0) return;
  warps_[running_->warp].ready |= 1u << running_->lane;
  ready_warps_ |= 1u << running_->warp;
  Fiber::suspend();
}

void Machine::open_barrier() {
  const Thread& first = threads_[0];
  Thread* members[kMaxThreads];
  for (unsigned t = 0; t < grid_->threads; ++t) {
    Thread& thread = threads_[t];
    if (thread.line != first.line || std::strcmp(thread.file, first.file) != 0)
      fail_in_thread("one __syncthreads is reached at different lines: " + doing(first) + ", " + doing(thread));
    members[t] = &thread;
  }
  make_ready();
  races::at_barrier();
  order(members, grid_->threads);
}

std::uint64_t Machine::wait_for_lanes(Sync kind, unsigned mask, std::uint64_t value, int source, const char* file,
                                      int line) {
  Thread& self = *running_;
  Warp& warp = warps_[self.warp];
  self.state = State::kAtSync;
  self.kind = kind;
  self.mask = mask;
  self.value = value;
  self.source = source;
  self.file = file;
  self.line = line;
  if ((mask >> self.lane & 1) == 0) fail_in_thread("the mask lacks the calling lane: " + doing(self));
  warp.waiting |= 1u << self.lane;
  if ((mask & ~warp.waiting) == 0) open_lanes(warp, self.warp * kLanes, mask);
  Fiber::suspend();
  return self.result;
}

// The lanes of `mask` all wait; they go on if they wait for each other.
void Machine::open_lanes(Warp& warp, unsigned first, unsigned mask) {
  Thread* members[kLanes];
  unsigned count = 0, votes = 0;
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    Thread& thread = threads_[first + static_cast<unsigned>(__builtin_ctz(rest))];
    if (thread.mask != mask || thread.kind != running_->kind) return;
    if (thread.value != 0) votes |= 1u << thread.lane;
    members[count++] = &thread;
  }
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = *members[i];
    if (thread.kind >= Sync::kBallot)
      thread.result = votes;
    else if (mask >> thread.source & 1)
      thread.result = threads_[first + static_cast<unsigned>(thread.source)].value;
    else
      thread.result = ~std::uint64_t{0};
    thread.state = State::kReady;
  }
  warp.waiting &= ~mask;
  warp.ready |= mask;
  ready_warps_ |= 1u << (first / kLanes);
  if (running_->kind != Sync::kWarp) return;  // a shuffle or a vote orders no memory
  races::at_syncwarp(first / kLanes, mask);
  order(members, count);
}

// What each member did before is seen by all of them after; by nobody else. A variable that outlived the barrier, or
// that two barriers shared, would order more than that and hide races.
void Machine::order(Thread* const* members, unsigned count) {
#if defined(PYWS_SANITIZE_THREAD)
  void* variable = std::malloc(16);
  for (unsigned i = 0; i < count; ++i) members[i]->fiber->release(variable);
  for (unsigned i = 0; i < count; ++i) members[i]->fiber->acquire(variable);
  std::free(variable);
#else
  static_cast<void>(members);
  static_cast<void>(count);
#endif
}

void* Machine::shared_array(const void* site, std::size_t bytes, std::size_t alignment) {
  for (const SharedArray& array : arrays_)
    if (array.site == site) return array.address;
  shared_used_ += bytes;
  if (shared_used_ > kSharedLimit)
    fail_in_thread("a block has 48 KB of shared memory, the kernel declares " + std::to_string(shared_used_) +
                   " bytes or more");
  const std::size_t step = alignment < 16 ? 16 : alignment;
  const std::size_t begin = (arena_used_ + step - 1) / step * step;
  arena_used_ = begin + bytes + kGap;
  if (arena_used_ > kArena) fail_in_thread("too many shared arrays for the emulator");
  void* address = arena_.get() + begin;
  PYWS_UNPOISON(address, bytes);
  arrays_.push_back({site, address, bytes});
  return address;
}

std::string Machine::deadlock() const {
  const Thread *waiting = nullptr, *missing = nullptr;
  for (unsigned t = 0; t < grid_->threads && !waiting; ++t)
    if (threads_[t].state != State::kExited) waiting = &threads_[t];
  // Who keeps it: at a barrier anyone elsewhere; at a *_sync a lane of its mask that is elsewhere.
  for (unsigned t = 0; t < grid_->threads && !missing; ++t) {
    const Thread& other = threads_[t];
    const bool together =
        other.state == waiting->state &&
        (other.state == State::kAtBarrier || (other.kind == waiting->kind && other.mask == waiting->mask));
    const bool awaited =
        waiting->state == State::kAtBarrier || (other.warp == waiting->warp && (waiting->mask >> other.lane & 1));
    if (awaited && !together) missing = &other;
  }
  return doing(*waiting) + ", but " +
         (missing ? doing(*missing) : std::string("its mask names lanes that the block does not have"));
}

void Machine::fail_in_thread(const std::string& what) {
  error_ = what;
  for (;;) Fiber::suspend();
}

void Machine::stop_at_race() {
  race_ = true;
  for (;;) Fiber::suspend();
}

void Machine::fail(const std::string& what) {
  const std::string message = grid_->op + ": emulated kernel, block " + text(blockIdx) + ": " + what;
  error_.clear();
  race_ = false;
  fibers_.clear();  // they are in the middle of the kernel
  arena_.reset();
  throw std::runtime_error(message);
}

void check_launch(const char* op, const dim3& grid, const dim3& block, std::size_t shared_bytes) {
  const auto require = [op](bool holds, const std::string& what) {
    if (!holds) throw std::runtime_error(std::string(op) + ": CUDA launch failed: " + what);
  };
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  require(threads > 0 && threads <= kMaxThreads && block.z <= 64,
          "a block has 1 to 1024 threads, got " + text({block.x, block.y, block.z}));
  require(grid.x <= 0x7fffffffu && grid.y <= 0xffffu && grid.z <= 0xffffu,
          "a grid has at most 2^31-1, 65535 and 65535 blocks, got " + text({grid.x, grid.y, grid.z}));
  require(shared_bytes <= kSharedLimit,
          "a block has 48 KB of shared memory, got " + std::to_string(shared_bytes) + " bytes");
}

}  // namespace

void before_atomic() { machine.maybe_interrupt(); }

void sync_threads(const char* file, int line) { machine.wait_at_barrier(file, line); }

std::uint64_t sync_lanes(Sync kind, unsigned mask, std::uint64_t value, int source, const char* file, int line) {
  return machine.wait_for_lanes(kind, mask, value, source, file, line);
}

int lane() { return static_cast<int>(machine.lane()); }

void* shared_array(const void* site, std::size_t bytes, std::size_t alignment) {
  return machine.shared_array(site, bytes, alignment);
}

void stop_at_race() { machine.stop_at_race(); }

void check_alignment(const void* address, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0)
    machine.fail_in_thread("a vector of " + std::to_string(bytes) + " bytes at an address that they do not divide");
}

void* dynamic_shared() { return machine.dynamic_shared(); }

std::int64_t first_unit(std::int64_t units) {
  const auto most = static_cast<std::int64_t>(most_blocks);
  return most > 0 && units > most ? units - most : 0;
}

void run_grid(const char* op, dim3 grid, dim3 block, std::size_t shared_bytes, std::uint64_t seed,
              void (*kernel)(const void*), const void* arguments) {
  check_launch(op, grid, block, shared_bytes);
  const std::lock_guard<std::mutex> lock(one_launch);
  Random random(seed);
  machine.run({op, grid, block, block.x * block.y * block.z, shared_bytes, kernel, arguments}, random);
}

}  // namespace emulator
}  // namespace pyws

extern "C" __attribute__((visibility("default"))) void pyws_run_last_blocks(std::uint64_t count) {
  pyws::emulator::most_blocks = count;
}
