// libFuzzer's program for the CPU kernels: PYWS_FUZZ names the launchers that its inputs drive (.ci/fuzz runs all).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "common/simd.h"
#include "fuzz.h"

namespace {

using pyws::fuzz::Run;

void (*target)(Run&) = nullptr;

// The answer, empty where the contract does not say it.
std::vector<std::uint8_t> run_on(const char* path, int threads, std::uint8_t dirt, const std::uint8_t* data,
                                 std::size_t size) {
  pyws::set_cpu_path(path);
  Run run(data, size, threads, dirt);
  target(run);
  return run.specified ? std::move(run.answer) : std::vector<std::uint8_t>{};
}

void compare(const std::vector<std::uint8_t>& expected, const std::vector<std::uint8_t>& found, const char* what) {
  if (expected == found) return;
  std::size_t at = 0;
  while (at < expected.size() && at < found.size() && expected[at] == found[at]) ++at;
  std::fprintf(stderr, "fuzz: %s gives another answer, from byte %zu of %zu on\n", what, at, expected.size());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* const name = std::getenv("PYWS_FUZZ");
  for (const auto* targets : {&pyws::fuzz::kMaskTargets, &pyws::fuzz::kSegmentTargets})
    for (const auto& each : *targets) {
      if (name == nullptr) std::puts(each.name);
      if (name != nullptr && std::strcmp(each.name, name) == 0) target = each.run;
    }
  if (target == nullptr) std::exit(name == nullptr ? 0 : 2);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto expected = run_on("portable", 1, 0xff, data, size);
  const pyws::CpuPath path = size % 2 == 0 ? pyws::CpuPath::kAvx2 : pyws::CpuPath::kAvx512;
  const char* const name = pyws::cpu_path_available(path) ? pyws::cpu_path_name(path) : "portable";
  compare(expected, run_on(name, 1, 0x5a, data, size), name);
  if (size % 32 == 1) compare(expected, run_on(name, 3, 0x00, data, size), "a run of three threads");
  return 0;
}
