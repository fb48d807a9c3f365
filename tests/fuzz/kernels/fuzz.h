// What fuzzed kernels share: a run draws the arguments of a launcher from an input, in memory of their exact sizes, and
// gives what was written. main.cpp makes the same run with another instruction set, and with threads, over memory full
// of other bytes: what they give must be the same bits.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <type_traits>
#include <vector>

#include "common/params.h"

namespace pyws {
namespace fuzz {

// Numbers of any element type. Empty ones have no address, as tensors without elements.
struct AnyArray {
  DType dtype;
  std::vector<std::uint8_t> bytes;

  operator Array<const void>() const { return {bytes.data(), dtype}; }
  operator Array<void>() { return {bytes.data(), dtype}; }
};

class Run {
 public:
  Run(const std::uint8_t* data, std::size_t size, int threads, std::uint8_t dirt)
      : threads(threads), input_(data, size), dirt_(dirt) {}

  const int threads;
  bool specified = true;             // the contents keep the contract, which then says every bit of the answer
  std::vector<std::uint8_t> answer;  // all outputs

  bool flag() { return input_.ConsumeBool(); }
  std::int64_t between(std::int64_t least, std::int64_t most) { return input_.ConsumeIntegralInRange(least, most); }
  template <class Enum>
  Enum choice() {
    return static_cast<Enum>(between(0, static_cast<std::int64_t>(std::size(Names<Enum>::all)) - 1));
  }
  DType one_of(std::initializer_list<DType> types) {
    return types.begin()[between(0, static_cast<std::int64_t>(types.size()) - 1)];
  }

  // Often small and equal to others, sometimes odd, sometimes any double.
  double number() {
    constexpr double kOdd[] = {0.0,   -0.0,   HUGE_VAL, -HUGE_VAL, NAN,   1e300, -1e300,       1e-300,
                               1e-18, 5e-324, 1e18,     -1e18,     65504, 1e15,  -1.79769e308, 0.1};
    const int kind = input_.ConsumeIntegral<std::uint8_t>();
    if (kind < 200) return (kind - 80) / 8.0;
    if (kind < 216) return kOdd[kind - 200];
    return bit_cast<double>(input_.ConsumeIntegral<std::uint64_t>());
  }
  double finite() {
    const double x = number();
    return std::isfinite(x) ? std::fmin(std::fmax(x, -1e300), 1e300) : 1.0;
  }
  double positive() {
    const double x = std::fabs(finite());
    return x > 0 ? x : 0.5;
  }
  double share() { return static_cast<double>(between(0, 40)) / 40; }
  // -2 .. most, or any integer.
  std::int64_t integer(std::int64_t most) {
    const std::int64_t x = between(-3, most);
    return x == -3 ? input_.ConsumeIntegral<std::int64_t>() : x;
  }

  // Each is drawn by `draw`; of more than kDrawn the later ones repeat those.
  template <class T, class Draw>
  std::vector<T> drawn(std::int64_t count, const Draw& draw) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = i < kDrawn ? static_cast<T>(draw()) : values[(i * 37 + i / kDrawn) % kDrawn];
    return values;
  }
  std::vector<double> numbers(std::int64_t count) {
    return drawn<double>(count, [this] { return number(); });
  }
  std::vector<double> finites(std::int64_t count) {
    return drawn<double>(count, [this] { return finite(); });
  }
  std::vector<std::int64_t> integers(std::int64_t count, std::int64_t most) {
    return drawn<std::int64_t>(count, [&] { return integer(most); });
  }
  std::vector<std::uint8_t> bits(std::int64_t count) {
    return drawn<std::uint8_t>(count, [this] { return flag(); });
  }

  // Values of a float type, of uint8 below 256, or of an integer type up to `most` and beyond.
  AnyArray any(DType dtype, std::int64_t count, std::int64_t most = 255) {
    AnyArray array{dtype, {}};
    array.bytes.reserve(static_cast<std::size_t>(count) * width(dtype));
    const auto put = [&](auto zero) {
      using T = decltype(zero);
      const auto values = drawn<T>(count, [&] {
        if constexpr (std::is_integral_v<T>) return static_cast<T>(integer(most));
        T value;
        if constexpr (!std::is_integral_v<T>) {
          if constexpr (std::is_same_v<T, double>)
            narrow(number(), &value);
          else
            narrow(static_cast<float>(number()), &value);
        }
        return value;
      });
      const auto* first = reinterpret_cast<const std::uint8_t*>(values.data());
      array.bytes = std::vector<std::uint8_t>(first, first + values.size() * sizeof(T));
    };
    if (dtype <= kBFloat16)
      with_floats("fuzz", "values", dtype, put);
    else
      with_classes("fuzz", "values", dtype, put);
    return array;
  }

  // Memory to be written, full of what nothing may depend on.
  template <class T>
  std::vector<T> room(std::int64_t count) const {
    std::vector<T> values(static_cast<std::size_t>(count));
    if (count > 0) std::memset(values.data(), dirt_, values.size() * sizeof(T));
    return values;
  }
  AnyArray any_room(DType dtype, std::int64_t count) const {
    return {dtype, room<std::uint8_t>(count * static_cast<std::int64_t>(width(dtype)))};
  }

  // Offsets of `groups` over `total`: rising; or any, where a contract clamps them but two groups may share values.
  std::vector<std::int64_t> offsets(std::int64_t groups, std::int64_t total, bool wild) {
    if (wild) {
      specified = false;
      return integers(groups + 1, total + 2);
    }
    std::vector<std::int64_t> rising(static_cast<std::size_t>(groups) + 1, 0);
    for (std::size_t g = 1; g + 1 < rising.size(); ++g) rising[g] = between(rising[g - 1], total);
    if (groups > 0)
      rising.back() = total;
    else
      specified &= total == 0;
    return rising;
  }

  // An output: any NaN is as good as another.
  template <class T>
  void give(const T* values, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      T value = values[i];
      if constexpr (!std::is_integral_v<T>)
        if (widen(value) != widen(value)) narrow(std::numeric_limits<float>::quiet_NaN(), &value);
      const auto* first = reinterpret_cast<const std::uint8_t*>(&value);
      answer.insert(answer.end(), first, first + sizeof(T));
    }
  }
  template <class T>
  void give(const std::vector<T>& values) {
    give(values.data(), static_cast<std::int64_t>(values.size()));
  }
  void give(const AnyArray& array) {
    const auto put = [&](auto zero) {
      using T = decltype(zero);
      give(reinterpret_cast<const T*>(array.bytes.data()), static_cast<std::int64_t>(array.bytes.size() / sizeof(T)));
    };
    if (array.dtype <= kBFloat16)
      with_floats("fuzz", "values", array.dtype, put);
    else
      with_classes("fuzz", "values", array.dtype, put);
  }

  // What the header promises of an answer.
  void must(bool holds, const char* what) const {
    if (holds) return;
    std::fprintf(stderr, "fuzz: %s does not hold\n", what);
    std::abort();
  }

  static std::size_t width(DType dtype) {
    return dtype == kFloat64 || dtype == kInt64   ? 8
           : dtype == kFloat32 || dtype == kInt32 ? 4
           : dtype == kUInt8                      ? 1
                                                  : 2;
  }

 private:
  static constexpr std::size_t kDrawn = 48;
  FuzzedDataProvider input_;
  std::uint8_t dirt_;
};

inline void narrow(float x, double* out) { *out = x; }

struct Target {
  const char* name;
  void (*run)(Run&);
};
extern const std::vector<Target> kMaskTargets, kSegmentTargets;

}  // namespace fuzz
}  // namespace pyws
