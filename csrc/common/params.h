// What a kernel's launcher takes: a struct of named fields, which the bindings fill from Python by their names.
//
//   enum Overlap : int { kOverlapIou, kOverlapOwn };
//   PYWS_NAMES(Overlap, "iou", "own")          the names that Python gives for the values 0, 1, ...
//
//   struct FuseParams {
//     const double *start, *end;               a tensor of that element type
//     Optional<const bool> wanted;             or None
//     Array<const void> maps;                  a tensor of any type, which comes with it
//     std::int64_t groups;
//     Overlap overlap;
//     PYWS_FIELDS(start, end, wanted, maps, groups, overlap)
//   };
#pragma once

#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>

#include "common/host_device.h"

#define PYWS_FIELDS(...)                          \
  auto fields() { return std::tie(__VA_ARGS__); } \
  static constexpr const char* field_names() { return #__VA_ARGS__; /* parted by commas */ }

namespace pyws {

template <class Enum>
struct Names;

// An address that may be null. Members are constexpr so that device code may call them.
template <class T>
struct Optional {
  T* data;
  constexpr operator T*() const { return data; }
};

// An address and the type of what lies there.
template <class Void>
struct Array {
  Void* data;
  DType dtype;

  template <class T>
  constexpr auto as() const {
    if constexpr (std::is_const_v<Void>)
      return static_cast<const T*>(data);
    else
      return static_cast<T*>(data);
  }
};

[[noreturn]] inline void refuse_dtype(const char* op, const char* name, const char* wanted, DType dtype) {
  throw std::invalid_argument(std::string(op) + ": " + name + " must be " + wanted + ", got " + dtype_name(dtype));
}

inline void check_dtype(const char* op, const char* name, DType dtype, DType wanted) {
  if (dtype != wanted) refuse_dtype(op, name, dtype_name(wanted), dtype);
}

// ---- from an element type to a C++ type: each calls body(T{})

constexpr const char* kFloats = "float32, float64, float16 or bfloat16";

inline DType summing_type(DType dtype) { return dtype == kFloat64 ? kFloat64 : kFloat32; }

// The type of an element; uint32 counters are int32 tensors.
template <class T>
constexpr DType kDTypeOf = std::is_same_v<T, double>         ? kFloat64
                           : std::is_same_v<T, float>        ? kFloat32
                           : std::is_same_v<T, half_t>       ? kFloat16
                           : std::is_same_v<T, bfloat16_t>   ? kBFloat16
                           : std::is_same_v<T, bool>         ? kBool
                           : std::is_same_v<T, std::int8_t>  ? kInt8
                           : std::is_same_v<T, std::uint8_t> ? kUInt8
                           : sizeof(T) == 4                  ? kInt32
                                                             : kInt64;

template <class... Types, class Body>
void with_types(const char* op, const char* name, const char* wanted, DType dtype, const Body& body) {
  const bool served = ((dtype == kDTypeOf<Types> && (body(Types{}), true)) || ...);
  if (!served) refuse_dtype(op, name, wanted, dtype);
}

template <class Body>
void with_floats(const char* op, const char* name, DType dtype, const Body& body) {
  with_types<float, double, half_t, bfloat16_t>(op, name, kFloats, dtype, body);
}

template <class Body>
void with_singles(const char* op, const char* name, DType dtype, const Body& body) {
  with_types<float, double>(op, name, "float32 or float64", dtype, body);
}

template <class Body>
void with_labels(const char* op, const char* name, DType dtype, const Body& body) {
  with_types<std::int32_t, std::int64_t>(op, name, "int32 or int64", dtype, body);
}

template <class Body>
void with_classes(const char* op, const char* name, DType dtype, const Body& body) {
  with_types<std::uint8_t, std::int32_t, std::int64_t>(op, name, "uint8, int32 or int64", dtype, body);
}

// A kernel's loops for an element type, which have its name.
template <class T, class Loops>
const auto& loops_of(const Loops& loops) {
  if constexpr (std::is_same_v<T, float>)
    return loops.f32;
  else if constexpr (std::is_same_v<T, double>)
    return loops.f64;
  else if constexpr (std::is_same_v<T, half_t>)
    return loops.f16;
  else if constexpr (std::is_same_v<T, bfloat16_t>)
    return loops.bf16;
  else if constexpr (std::is_same_v<T, std::uint8_t>)
    return loops.u8;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return loops.i32;
  else
    return loops.i64;
}

}  // namespace pyws

#define PYWS_NAMES(Enum, ...)                           \
  template <>                                           \
  struct Names<Enum> {                                  \
    static constexpr const char* all[] = {__VA_ARGS__}; \
  };
