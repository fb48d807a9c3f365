#include "races.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator.h"

namespace pyws {
namespace emulator {
namespace races {
namespace {

constexpr unsigned kLanes = 32, kMost = 1024;  // threads of a warp, of a block
constexpr std::uintptr_t kPage = 4096;
constexpr std::size_t kMostPages = 4096;  // pages of shadow cells, before a launch forgets those of earlier ones

enum Kind { kRead, kWrite, kAtomic };
const char* const kVerbs[] = {"reads", "writes", "changes atomically"};

// When and where: the block by its number among all that ever ran, how many barriers it had passed, and how many
// __syncwarp of its warp the thread had seen.
struct Moment {
  std::uint32_t block, phase, ticket, code;
};

struct LastWrite {
  Moment at;
  std::uint32_t thread;
};

// Accesses that may go together, none of them before another: the lanes of one warp, or a note that there are more.
struct Together {
  Moment at;  // the latest, with the least ticket of all
  std::uint32_t lanes;
  std::uint8_t warp;
  bool several_warps, several_blocks;
};

struct Cell {
  LastWrite written;
  Together reads, atomics;
};

// The cells of a page of memory: one a word, one a byte where something smaller was accessed.
struct Page {
  std::vector<Cell> cells = std::vector<Cell>(kPage / 4);
  unsigned shift = 2;

  void split() {
    std::vector<Cell> bytes(kPage);
    for (std::size_t i = 0; i < kPage; ++i) bytes[i] = cells[i / 4];
    cells = std::move(bytes);
    shift = 0;
  }
};

std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages;
struct Recent {
  std::uintptr_t number;
  Page* page;
} recent[64];

std::uint32_t block = 0, first_block = 1, phase = 0;  // first_block: of this launch
std::uint32_t oldest =
    1;  // the first block whose accesses can race with this one: first_block, in shared memory itself
std::uint32_t tickets[kMost / kLanes];
std::uint32_t seen[kMost / kLanes][kLanes][kLanes];  // [warp][lane][other]: the last ticket of the other it knows of
std::uintptr_t shared_begin = 0, shared_end = 0;

bool looking = true, running = false;
unsigned thread = 0, warp = 0, lane = 0;
std::uintptr_t stack_begin = 0, stack_end = 0;

Page& page_of(std::uintptr_t number) {
  Recent& slot = recent[number % 64];
  if (slot.page != nullptr && slot.number == number) return *slot.page;
  std::unique_ptr<Page>& page = pages[number];
  if (!page) page = std::make_unique<Page>();
  slot = {number, page.get()};
  return *page;
}

bool knows(unsigned other, std::uint32_t ticket) { return seen[warp][lane][other] > ticket; }

bool before(const LastWrite& write) {
  if (write.at.block < oldest) return true;
  if (write.at.block != block) return false;
  if (write.at.phase != phase || write.thread == thread) return true;
  return write.thread / kLanes == warp && knows(write.thread % kLanes, write.at.ticket);
}

std::uint32_t not_known(const Together& group) {
  std::uint32_t others = group.lanes & ~(1u << lane), left = 0;
  for (; others != 0; others &= others - 1) {
    const unsigned other = static_cast<unsigned>(__builtin_ctz(others));
    if (!knows(other, group.at.ticket)) left |= 1u << other;
  }
  return left;
}

bool before(const Together& group) {
  if (group.at.block < oldest) return true;
  if (group.several_blocks || group.at.block != block) return false;
  if (group.at.phase != phase) return true;
  return !group.several_warps && group.warp == warp && not_known(group) == 0;
}

void join(Together& group, const Moment& now) {
  const std::uint32_t self = 1u << lane;
  const bool old = group.at.block < oldest, elsewhere = !old && group.at.block != block;
  if (old || elsewhere || group.at.phase != phase) {
    const bool several = !old && (group.several_blocks || elsewhere);
    group = {now, self, static_cast<std::uint8_t>(warp), false, several};
  } else if (group.warp != warp) {
    group.several_warps = true;
  } else if (group.at.ticket == now.ticket) {
    group.lanes |= self;
  } else {
    const std::uint32_t left = not_known(group);
    const std::uint32_t least = left == 0 ? now.ticket : std::min(group.at.ticket, now.ticket);
    group.at = now;
    group.at.ticket = least;
    group.lanes = left | self;
  }
}

std::string place(std::uint32_t code) {
  Dl_info module;
  if (dladdr(reinterpret_cast<const void*>(&page_of), &module) == 0) return "?";
  char command[4096];
  std::snprintf(command, sizeof(command), "addr2line -i -e '%s' 0x%x 2>/dev/null", module.dli_fname, code - 1);
  std::string line;
  if (std::FILE* out = popen(command, "r")) {
    // From within outwards; what the emulator does for a kernel is the kernel's.
    while (std::fgets(command, sizeof(command), out))
      if (line.empty() || line.find("emulator.h:") != std::string::npos) line = command;
    pclose(out);
  }
  line = line.substr(0, line.find_first_of(" \n"));
  return line.empty() ? "?" : line.substr(line.rfind('/') + 1);
}

std::string name(unsigned number) {
  const unsigned x = blockDim.x, y = blockDim.y;
  return "thread (" + std::to_string(number % x) + "," + std::to_string(number / x % y) + "," +
         std::to_string(number / (x * y)) + ")";
}

struct Found {
  Kind kind, other_kind;
  Moment now, then;
  unsigned thread, other;
  bool unwritten;
} race;

[[noreturn]] void report(Kind kind, const Moment& now, Kind other_kind, const Moment& then, unsigned other) {
  race = {kind, other_kind, now, then, thread, other, false};
  stop_at_race();
}

void check(const Together& group, Kind kind, const Moment& now, Kind other_kind) {
  if (before(group)) return;
  const std::uint32_t others = group.warp == warp && !group.several_warps ? not_known(group) : group.lanes;
  const unsigned other = others == 0 ? 0 : static_cast<unsigned>(__builtin_ctz(others));
  report(kind, now, other_kind, group.at, group.warp * kLanes + other);
}

void visit(Cell& cell, Kind kind, const Moment& now, bool shared) {
  if (shared && kind != kWrite && cell.written.at.block != block && cell.atomics.at.block != block) {
    race = {kind, kRead, now, {}, thread, 0, true};
    stop_at_race();
  }
  if (!before(cell.written)) report(kind, now, kWrite, cell.written.at, cell.written.thread);
  if (kind != kRead) check(cell.reads, kind, now, kRead);
  if (kind != kAtomic) check(cell.atomics, kind, now, kAtomic);
  if (kind == kWrite)
    cell.written = {now, thread};
  else
    join(kind == kRead ? cell.reads : cell.atomics, now);
}

const std::uintptr_t base = [] {
  Dl_info module;
  return dladdr(reinterpret_cast<const void*>(&page_of), &module) ? reinterpret_cast<std::uintptr_t>(module.dli_fbase)
                                                                  : 0;
}();

void access(const void* pointer, std::size_t bytes, Kind kind, const void* code) {
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (!running || here - stack_begin >= stack_end - stack_begin) return;  // the launcher, or another thread's
  auto at = reinterpret_cast<std::uintptr_t>(pointer);
  if (at - stack_begin < stack_end - stack_begin) return;
  const auto index = reinterpret_cast<std::uintptr_t>(&threadIdx);
  if (at - index < sizeof(kernel_position)) return;
  const Moment now = {block, phase, seen[warp][lane][lane],
                      static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(code) - base)};
  const bool shared = at - shared_begin < shared_end - shared_begin;
  oldest = shared ? block : first_block;
  for (const std::uintptr_t end = at + bytes; at < end;) {
    Page& page = page_of(at / kPage);
    if (page.shift != 0 && (at % 4 != 0 || end - at < 4)) page.split();
    visit(page.cells[at % kPage >> page.shift], kind, now, shared);
    at += std::uintptr_t{1} << page.shift;
  }
}

}  // namespace

void start_launch() {
  first_block = block + 1;
  if (pages.size() < kMostPages) return;
  pages.clear();
  std::fill(std::begin(recent), std::end(recent), Recent{});
}

void start_block(const void* shared, std::size_t bytes) {
  ++block;
  phase = 0;
  shared_begin = reinterpret_cast<std::uintptr_t>(shared);
  shared_end = shared_begin + bytes;
}

void at_barrier() { ++phase; }

void at_syncwarp(unsigned of_warp, unsigned mask) {
  std::uint32_t (&known)[kLanes][kLanes] = seen[of_warp];
  const std::uint32_t ticket = ++tickets[of_warp];
  std::uint32_t joined[kLanes] = {};
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const std::uint32_t* row = known[__builtin_ctz(rest)];
    for (unsigned other = 0; other < kLanes; ++other) joined[other] = std::max(joined[other], row[other]);
  }
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) joined[__builtin_ctz(rest)] = ticket;
  for (unsigned rest = mask; rest != 0; rest &= rest - 1)
    std::copy(std::begin(joined), std::end(joined), known[__builtin_ctz(rest)]);
}

void enter(unsigned next, const void* stack, std::size_t stack_bytes) {
  thread = next;
  warp = next / kLanes;
  lane = next % kLanes;
  stack_begin = reinterpret_cast<std::uintptr_t>(stack);
  stack_end = stack_begin + stack_bytes;
  running = looking;
}

void leave() { running = false; }

std::string found() {
  const std::string here = name(race.thread) + " " + kVerbs[race.kind] + " at " + place(race.now.code) + " ";
  if (race.unwritten) return here + "shared memory that nothing wrote";
  const std::string who = race.then.block == block ? name(race.other) : "another block";
  return "race: " + here + "what " + who + " " + kVerbs[race.other_kind] + " at " + place(race.then.code) +
         ", and nothing orders the two";
}

}  // namespace races

namespace meanwhile {
namespace {

struct Region {
  std::uintptr_t begin, end;
};
std::vector<Region> regions;
std::uint64_t state = 0;

// One of eight words that a kernel reads there holds anything by then.
[[maybe_unused]] void before_read(void* p) {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  for (const Region& region : regions) {
    if (at < region.begin || at >= region.end) continue;
    state = state * 6364136223846793005u + 1442695040888963407u;
    const std::uint64_t word = state ^ state >> 29;
    if (word >> 61 == 0) std::memcpy(p, &word, sizeof(word));
  }
}

}  // namespace
}  // namespace meanwhile

void atomic_access(const void* address, std::size_t bytes, const void* code) {
  races::access(address, bytes, races::kAtomic, code);
}

}  // namespace emulator
}  // namespace pyws

// Contents that break a kernel's contract may make units write the same places.
extern "C" __attribute__((visibility("default"))) void pyws_look_for_races(int wanted) {
  pyws::emulator::races::looking = wanted != 0;
}

// Stands for other blocks, whose groups lie in the same memory where offsets fall: they write there at any time. No
// bytes: nobody does any more.
extern "C" __attribute__((visibility("default"))) void pyws_write_meanwhile(void* begin, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(begin);
  if (bytes == 0)
    pyws::emulator::meanwhile::regions.clear();
  else
    pyws::emulator::meanwhile::regions.push_back({at, at + bytes});
}

#if defined(PYWS_RACES)
// What the compiler calls before each access; nothing of the real ThreadSanitizer is linked.
#define PYWS_ACCESS(bytes)                                                                               \
  void __tsan_read##bytes(void* p) {                                                                     \
    if (bytes == 8) pyws::emulator::meanwhile::before_read(p);                                           \
    pyws::emulator::races::access(p, bytes, pyws::emulator::races::kRead, __builtin_return_address(0));  \
  }                                                                                                      \
  void __tsan_write##bytes(void* p) {                                                                    \
    pyws::emulator::races::access(p, bytes, pyws::emulator::races::kWrite, __builtin_return_address(0)); \
  }
extern "C" {
PYWS_ACCESS(1)
PYWS_ACCESS(2)
PYWS_ACCESS(4)
PYWS_ACCESS(8)
PYWS_ACCESS(16)
void __tsan_read_range(void* p, std::size_t bytes) {
  pyws::emulator::races::access(p, bytes, pyws::emulator::races::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* p, std::size_t bytes) {
  pyws::emulator::races::access(p, bytes, pyws::emulator::races::kWrite, __builtin_return_address(0));
}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
// Whether a launcher's static variable is made yet.
char __tsan_atomic8_load(const volatile char* p, int) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
}
#undef PYWS_ACCESS
#endif
