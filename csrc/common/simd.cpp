#include "common/simd.h"

#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>

namespace pyws {
namespace {

CpuPath best_path() {
  for (CpuPath path : {CpuPath::kAvx512, CpuPath::kAvx2})
    if (cpu_path_available(path)) return path;
  return CpuPath::kPortable;
}

std::atomic<CpuPath>& chosen() {
  static std::atomic<CpuPath> path{best_path()};
  return path;
}

}  // namespace

CpuPath cpu_path() { return chosen().load(std::memory_order_relaxed); }

bool cpu_path_available(CpuPath path) {
  if (path == CpuPath::kPortable) return true;
#if defined(PYWS_X86_PATHS)
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  if (path == CpuPath::kAvx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

const char* cpu_path_name(CpuPath path) {
  return path == CpuPath::kAvx512 ? "avx512" : path == CpuPath::kAvx2 ? "avx2" : "portable";
}

void set_cpu_path(const char* name) {
  for (CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512}) {
    if (std::strcmp(name, cpu_path_name(path)) != 0) continue;
    if (!cpu_path_available(path))
      throw std::invalid_argument(std::string("PYWS_CPU: this machine or build has no ") + name);
    chosen().store(path);
    return;
  }
  throw std::invalid_argument(std::string("PYWS_CPU: must be portable, avx2 or avx512, got ") + name);
}

}  // namespace pyws
