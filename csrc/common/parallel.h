// The one place where CPU kernels meet threads.
//
// parallel_for(units, nanoseconds_per_unit, threads, body) calls body(begin, end) on disjoint ranges that cover
// 0..units-1. Every unit must write its own outputs and nothing else, so the result is the same for any number of
// threads. With one thread, or with less than about a millisecond of work, no parallel region is entered at all:
// opening one costs more than it saves, and a forked DataLoader worker must never touch the OpenMP runtime.
// What a body throws (memory that cannot be had) reaches the caller once all parts have ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

#include "common/host_device.h"

#if defined(PYWS_STD_THREADS)  // builds with a sanitizer: the race detector does not know libgomp
#include <thread>
#include <vector>
#elif defined(_OPENMP)
#include <omp.h>
#endif

namespace pyws {

#if defined(PYWS_STD_THREADS)
constexpr double kParallelNanoseconds = 0;  // the inputs of tests are small
#else
constexpr double kParallelNanoseconds = 1e6;
#endif

#if defined(PYWS_EMULATOR)  // tests of tensors beyond all memory: the last units alone, as of a grid the last blocks
namespace emulator {
std::int64_t first_unit(std::int64_t units);
}
#else
namespace emulator {
constexpr std::int64_t first_unit(std::int64_t) { return 0; }
}  // namespace emulator
#endif

// The first exception of several threads.
class Failure {
 public:
  template <class Work>
  void guard(const Work& work) noexcept {
    try {
      work();
    } catch (...) {
      if (!taken_.exchange(true)) error_ = std::current_exception();
    }
  }
  void rethrow() const {  // when all threads have ended
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> taken_{false};
  std::exception_ptr error_;
};

template <class Body>
void parallel_for(std::int64_t units, double nanoseconds_per_unit, int threads, const Body& body) {
  const double work = static_cast<double>(units) * nanoseconds_per_unit;
  const std::int64_t first = emulator::first_unit(units);
  const std::int64_t parts = work < kParallelNanoseconds || first > 0 ? 1 : min64(threads, units);
  if (parts <= 1) {
    if (units > 0) body(first, units);
    return;
  }
  Failure failure;
  const auto run = [&](std::int64_t part) {
    failure.guard([&] { body(units * part / parts, units * (part + 1) / parts); });
  };
#if defined(PYWS_STD_THREADS)
  std::vector<std::thread> pool;
  for (std::int64_t part = 0; part < parts; ++part) pool.emplace_back(run, part);
  for (std::thread& thread : pool) thread.join();
#elif defined(_OPENMP)
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(parts))
  for (std::int64_t part = 0; part < parts; ++part) run(part);
#else
  for (std::int64_t part = 0; part < parts; ++part) run(part);
#endif
  failure.rethrow();
}

}  // namespace pyws
