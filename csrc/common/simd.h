// Run-time choice of the instruction set.
//
// <family>_simd.cpp holds the leaf loops of a family: plain loops on raw pointers that the compiler vectorises. CMake
// compiles it once for each instruction set with PYWS_ISA = portable, avx2, avx512; each object fills one table of
// function pointers. Rules for such a file: no templates of the standard library (a weak symbol compiled for AVX-512
// could win at link time; tests/core/test_build.py looks), sums in a fixed tree of lanes, no contraction to FMA, so that
// all paths give the same bits.
#pragma once

namespace pyws {

enum class CpuPath : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

CpuPath cpu_path();                     // the path in use
bool cpu_path_available(CpuPath path);  // compiled in, and the machine has it
void set_cpu_path(const char* name);    // "portable" | "avx2" | "avx512"; throws on others or where unavailable
const char* cpu_path_name(CpuPath path);

// Asks for the n values from x on, which are read soon. They may lie outside of what may be read.
template <class T>
static inline __attribute__((always_inline)) void prefetch(const T* x, int n) {
  for (int i = 0; i < n; i += 64 / static_cast<int>(sizeof(T))) __builtin_prefetch(x + i);
}

}  // namespace pyws

// Declares `Table` instances named `name` in the namespaces of all instruction sets, and `name()` that picks one.
#if defined(PYWS_X86_PATHS)
#define PYWS_DECLARE_LOOPS(Table, name)                                                                    \
  namespace portable {                                                                                     \
  extern const Table name;                                                                                 \
  }                                                                                                        \
  namespace avx2 {                                                                                         \
  extern const Table name;                                                                                 \
  }                                                                                                        \
  namespace avx512 {                                                                                       \
  extern const Table name;                                                                                 \
  }                                                                                                        \
  static inline const Table& name() {                                                                      \
    const CpuPath path = cpu_path();                                                                       \
    return path == CpuPath::kAvx512 ? avx512::name : path == CpuPath::kAvx2 ? avx2::name : portable::name; \
  }
#else
#define PYWS_DECLARE_LOOPS(Table, name) \
  namespace portable {                  \
  extern const Table name;              \
  }                                     \
  static inline const Table& name() { return portable::name; }
#endif
