// What the CPU and the CUDA kernels share below the families: function qualifiers, element types, integer helpers.
// Functions here have internal linkage on purpose: the same header is compiled for several instruction sets,
// and the linker must never hand AVX-512 code to a machine without it.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define PYWS_HD static __host__ __device__ __forceinline__
#else
#define PYWS_HD static inline __attribute__((always_inline))
#endif

namespace pyws {

// Element types. The first four are numbers that linpro's and class_mean's launchers still take.
enum DType : int { kFloat32, kFloat64, kFloat16, kBFloat16, kUInt8, kInt8, kInt32, kInt64, kBool };
constexpr int kDTypes = kBool + 1;

inline const char* dtype_name(int dtype) {
  constexpr const char* kNames[kDTypes] = {"float32", "float64", "float16", "bfloat16", "uint8",
                                           "int8",    "int32",   "int64",   "bool"};
  return kNames[dtype];
}

struct half_t {
  std::uint16_t bits;
};
struct bfloat16_t {
  std::uint16_t bits;
};

template <class To, class From>
PYWS_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

PYWS_HD double widen(double x) { return x; }
PYWS_HD float widen(float x) { return x; }
PYWS_HD float widen(bfloat16_t x) { return bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }
PYWS_HD float widen(half_t x) {
  // Exponent and mantissa move 13 places up; the product with 2^112 re-biases and normalises denormals.
  // Branch-free, so that loops over it are vectorised.
  const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7fffu) << 13;
  const float scaled = bit_cast<float>(magnitude) * bit_cast<float>(0x77800000u);
  const std::uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  return bit_cast<float>(bit_cast<std::uint32_t>(scaled) | special | sign);
}

PYWS_HD void narrow(double x, double* out) { *out = x; }
PYWS_HD void narrow(float x, float* out) { *out = x; }
PYWS_HD void narrow(float x, bfloat16_t* out) {
  const std::uint32_t u = bit_cast<std::uint32_t>(x);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  out->bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : rounded);
}
PYWS_HD void narrow(float x, half_t* out) {
  const std::uint32_t u = bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  std::uint32_t bits;
  if (magnitude > 0x7f800000u) {
    bits = 0x7e00u;  // NaN
  } else if (magnitude >= 0x477ff000u) {
    bits = 0x7c00u;  // rounds to 65536 or more: infinity
  } else if (magnitude < 0x38800000u) {
    // Denormal: adding 0.5 lets the hardware round the mantissa at half's last place.
    const float shifted = bit_cast<float>(magnitude) + 0.5f;
    bits = bit_cast<std::uint32_t>(shifted) - 0x3f000000u;
  } else {
    bits = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  out->bits = static_cast<std::uint16_t>(bits | sign);
}

// The type in which values of T are summed.
template <class T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};

PYWS_HD std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
PYWS_HD std::int64_t min64(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
PYWS_HD std::int64_t max64(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

}  // namespace pyws
