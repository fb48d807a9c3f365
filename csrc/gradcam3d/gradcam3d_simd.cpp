#include "gradcam3d/gradcam3d_simd.h"

#include <type_traits>

// Vectors are written out (GCC's and Clang's vector extension) because the compiler's own vectoriser leaves the tails
// of short rows scalar: at 7x7 positions they would take more time than the rest.
namespace pyws {
namespace PYWS_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class E, int kLanes>
struct VectorOf {
  typedef E type __attribute__((vector_size(kLanes * sizeof(E))));
};
template <class E, int kLanes>
using Vector = typename VectorOf<E, kLanes>::type;

// A full register of numbers that are added up, and one of their bits.
template <class A>
using Register = Vector<A, kVectorBytes / sizeof(A)>;
template <class A>
using BitsOf = std::conditional_t<sizeof(A) == 4, std::uint32_t, std::uint64_t>;
template <class A>
constexpr auto kAllBits = static_cast<BitsOf<A>>(-1);

template <class To, class From>
inline __attribute__((always_inline)) To load_as(const From* x) {
  To loaded;
  std::memcpy(&loaded, x, sizeof(loaded));
  return loaded;
}

template <int kLanes>
inline __attribute__((always_inline)) Vector<float, kLanes> load(const float* x) {
  return load_as<Vector<float, kLanes>>(x);
}
template <int kLanes>
inline __attribute__((always_inline)) Vector<double, kLanes> load(const double* x) {
  return load_as<Vector<double, kLanes>>(x);
}
template <int kLanes>
inline __attribute__((always_inline)) Vector<std::uint32_t, kLanes> load_16_bits(const void* x) {
  return __builtin_convertvector(load_as<Vector<std::uint16_t, kLanes>>(x), Vector<std::uint32_t, kLanes>);
}
template <int kLanes>
inline __attribute__((always_inline)) Vector<float, kLanes> load(const bfloat16_t* x) {
  return (Vector<float, kLanes>)(load_16_bits<kLanes>(x) << 16);
}
template <int kLanes>
inline __attribute__((always_inline)) Vector<float, kLanes> load(const half_t* x) {  // widen(half_t), lane by lane
  using Word = Vector<std::uint32_t, kLanes>;
  const Word bits = load_16_bits<kLanes>(x);
  const Word magnitude = (bits & 0x7fffu) << 13;
  const auto scaled = (Vector<float, kLanes>)magnitude * bit_cast<float>(0x77800000u);
  const Word special = (Word)(magnitude >= 0x0f800000u) & 0x7f800000u;
  return (Vector<float, kLanes>)((Word)scaled | special | ((bits & 0x8000u) << 16));
}

// Asks for bytes that will be read soon, into L2: the hardware does not look as far ahead as the next rows.
inline __attribute__((always_inline)) void prefetch(const void* x) { __builtin_prefetch(x, 0, 2); }

// Lane k of the result is lane k + by of v.
template <class Bits, class V>
inline __attribute__((always_inline)) V rotate(V v, int by) {
  constexpr int kLanes = sizeof(V) / sizeof(v[0]);
#if defined(__clang__)
  V rotated{};
  for (int lane = 0; lane < kLanes; ++lane) rotated[lane] = v[(lane + by) % kLanes];
  return rotated;
#else
  Bits from{};
  for (int lane = 0; lane < kLanes; ++lane) from[lane] = (lane + by) % kLanes;
  return __builtin_shuffle(v, from);
#endif
}

// The first lane is the sum of all: lane k takes lane k + kWidth, then k + kWidth / 2, and so on to k + 1.
template <int kWidth, class Bits, class V>
inline __attribute__((always_inline)) V fold(V v) {
  if constexpr (kWidth == 0)
    return v;
  else
    return fold<kWidth / 2, Bits>(v + rotate<Bits>(v, kWidth));
}

// The sums of the blocks of rows that lie alike: all have `positions`, at most kGradcamBlock.
template <class T, class A = typename Accumulator<T>::type>
class BlockSum {
 public:
  explicit BlockSum(std::int64_t positions)
      : positions_(positions), full_(positions / kGradcamLanes * kGradcamLanes), last_(positions - kGradcamLanes) {
    // The tail is the end of the last 16 positions; the lanes before it were added already.
    for (int part = 0; part < kParts; ++part)
      for (int lane = 0; lane < kLanes; ++lane)
        tail_[part][lane] = part * kLanes + lane + last_ < full_ ? 0 : kAllBits<A>;
  }

  inline __attribute__((always_inline)) A operator()(const T* row) const {
    if (last_ < 0) {
      A few[kGradcamLanes] = {};
      for (std::int64_t i = 0; i < positions_; ++i) few[i - last_] = widen(row[i]);
      return gradcam_add_lanes(few);
    }
    V lanes[kParts] = {};
    for (std::int64_t i = 0; i < full_; i += kGradcamLanes) {
      prefetch(row + i + 1024 / sizeof(T));
      for (int part = 0; part < kParts; ++part) lanes[part] += load<kLanes>(row + i + part * kLanes);
    }
    if (full_ < positions_)
      for (int part = 0; part < kParts; ++part)
        lanes[part] += (V)((Bits)load<kLanes>(row + last_ + part * kLanes) & tail_[part]);
    for (int parts = kParts / 2; parts > 0; parts /= 2)
      for (int part = 0; part < parts; ++part) lanes[part] += lanes[part + parts];
    return fold<kLanes / 2, Bits>(lanes[0])[0];
  }

 private:
  static constexpr int kLanes = kVectorBytes / sizeof(A), kParts = kGradcamLanes / kLanes;
  using V = Register<A>;
  using Bits = Vector<BitsOf<A>, kLanes>;
  std::int64_t positions_, full_, last_;
  Bits tail_[kParts];
};

template <class T, class A = typename Accumulator<T>::type>
void mean_rows(const T* x, std::int64_t row_stride, std::int64_t rows, std::int64_t positions, A* means) {
  const std::int64_t blocks = (positions - 1) / kGradcamBlock * kGradcamBlock;  // positions before the last one
  const BlockSum<T> whole(kGradcamBlock), rest(positions - blocks);
  if (blocks == 0) {
    for (std::int64_t r = 0; r < rows; ++r) means[r] = rest(x + r * row_stride);
    for (std::int64_t r = 0; r < rows; ++r) means[r] /= static_cast<A>(positions);
    return;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* row = x + r * row_stride;
    double sum = 0;
    for (std::int64_t first = 0; first < blocks; first += kGradcamBlock) sum += whole(row + first);
    means[r] = static_cast<A>((sum + rest(row + blocks)) / static_cast<double>(positions));
  }
}

// sums += the weighted sum of kChannels rows, a vector of positions at a time; the last vector overlaps its neighbour.
template <int kChannels, class T, class A = typename Accumulator<T>::type>
inline __attribute__((always_inline)) void add_channels(const T* x, std::int64_t channel_stride, std::int64_t positions,
                                                        const A* weights, Register<A>* sums) {
  using V = Register<A>;
  constexpr int kLanes = kVectorBytes / sizeof(A);
  const auto add = [&](std::int64_t i, V& sum) {
    V products[kChannels];
    for (int k = 0; k < kChannels; ++k) products[k] = weights[k] * load<kLanes>(x + k * channel_stride + i);
    for (int width = kChannels / 2; width > 0; width /= 2)
      for (int k = 0; k < width; ++k) products[k] += products[k + width];
    sum += products[0];
  };
  std::int64_t i = 0;
  for (; i + kLanes <= positions; i += kLanes) {
    for (int k = 0; k < kChannels; ++k) prefetch(x + kChannels * (channel_stride + i) + k * kLanes);
    add(i, *sums++);
  }
  if (i < positions) add(positions - kLanes, *sums);
}

template <class T, class A>
void weigh_few_positions(const T* x, std::int64_t channel_stride, std::int64_t channels, std::int64_t positions,
                         const A* weights, T* out) {
  for (std::int64_t i = 0; i < positions; ++i)
    narrow(relu(gradcam_weigh(x + i, channel_stride, channels, weights)), out + i);
}

template <class T, class A = typename Accumulator<T>::type>
void weigh_rows(const T* x, std::int64_t channel_stride, std::int64_t channels, std::int64_t positions,
                const A* weights, T* out) {
  using V = Register<A>;
  constexpr int kLanes = kVectorBytes / sizeof(A);
  if (positions < kLanes) return weigh_few_positions(x, channel_stride, channels, positions, weights, out);
  V sums[kGradcamTile / kLanes];
  const std::int64_t vectors = ceil_div(positions, kLanes);
  for (std::int64_t v = 0; v < vectors; ++v) sums[v] = V{};
  std::int64_t c = 0;
  for (; c + kGradcamChannels <= channels; c += kGradcamChannels)
    add_channels<kGradcamChannels>(x + c * channel_stride, channel_stride, positions, weights + c, sums);
  for (; c < channels; ++c) add_channels<1>(x + c * channel_stride, channel_stride, positions, weights + c, sums);
  for (std::int64_t v = 0; v < vectors; ++v) {
    const std::int64_t i = min64(v * kLanes, positions - kLanes);
    A values[kLanes];
    std::memcpy(values, &sums[v], sizeof(values));
    for (int lane = 0; lane < kLanes; ++lane) narrow(relu(values[lane]), out + i + lane);
  }
}

template <class T, class A = typename Accumulator<T>::type>
void mean_columns(const T* x, std::int64_t stride, std::int64_t positions, std::int64_t channels, A* means) {
  double sums[kGradcamChannelBlock] = {};
  for (std::int64_t first = 0; first < positions; first += kGradcamBlock) {
    const std::int64_t n = min64(kGradcamBlock, positions - first);
    A lanes[kGradcamLanes][kGradcamChannelBlock] = {};
    for (std::int64_t i = 0; i < n; ++i) {
      A* __restrict__ lane = lanes[gradcam_lane(i, n)];
      const T* row = x + (first + i) * stride;
      pyws::prefetch(row + 4 * stride, static_cast<int>(channels));
      for (std::int64_t c = 0; c < channels; ++c) lane[c] += widen(row[c]);
    }
    for (int width = kGradcamLanes / 2; width > 0; width /= 2)
      for (int lane = 0; lane < width; ++lane)
        for (std::int64_t c = 0; c < channels; ++c) lanes[lane][c] += lanes[lane + width][c];
    for (std::int64_t c = 0; c < channels; ++c) sums[c] += lanes[0][c];
  }
  for (std::int64_t c = 0; c < channels; ++c) means[c] = static_cast<A>(sums[c] / static_cast<double>(positions));
}

// Lanes of a (0 to 7) and of b (8 to 15).
template <int... kFrom, class V>
inline __attribute__((always_inline)) V pick(V a, V b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kFrom...);
#else
  return __builtin_shuffle(a, b, decltype(a < b){kFrom...});
#endif
}

// Lane p of the result is the sum of the lanes of rows[p]: k and k + 4, k + 2, k + 1, as gradcam_weigh adds them.
template <class V>
inline __attribute__((always_inline)) V add_across(V* rows) {
  for (int p = 0; p < 4; ++p)
    rows[p] =
        pick<0, 1, 2, 3, 8, 9, 10, 11>(rows[p], rows[p + 4]) + pick<4, 5, 6, 7, 12, 13, 14, 15>(rows[p], rows[p + 4]);
  for (int p = 0; p < 2; ++p)
    rows[p] =
        pick<0, 1, 8, 9, 4, 5, 12, 13>(rows[p], rows[p + 2]) + pick<2, 3, 10, 11, 6, 7, 14, 15>(rows[p], rows[p + 2]);
  return pick<0, 8, 2, 10, 4, 12, 6, 14>(rows[0], rows[1]) + pick<1, 9, 3, 11, 5, 13, 7, 15>(rows[0], rows[1]);
}

template <class T, class A = typename Accumulator<T>::type>
void weigh_columns(const T* x, std::int64_t stride, std::int64_t channels, std::int64_t positions, const A* weights,
                   T* out) {
  constexpr int kPositions = 8;  // at once
  using V = Vector<A, kGradcamChannels>;
  static_assert(kPositions == 8 && kGradcamChannels == 8);
  std::int64_t i = 0;
  for (; i + kPositions <= positions; i += kPositions) {
    const T* at = x + i * stride;
    V sums{};
    std::int64_t c = 0;
    for (; c + kGradcamChannels <= channels; c += kGradcamChannels) {
      V rows[kPositions];
      const V weight = load<kGradcamChannels>(weights + c);
      for (int p = 0; p < kPositions; ++p) rows[p] = weight * load<kGradcamChannels>(at + p * stride + c);
      sums += add_across(rows);
    }
    for (int p = 0; p < kPositions; ++p) {
      A sum = sums[p];
      for (std::int64_t k = c; k < channels; ++k) sum += weights[k] * widen(at[p * stride + k]);
      narrow(relu(sum), out + i + p);
    }
  }
  for (; i < positions; ++i) narrow(relu(gradcam_weigh(x + i * stride, 1, channels, weights)), out + i);
}

template <class T>
constexpr GradcamLayouts<T> loops_of() {
  return {mean_rows<T>, weigh_rows<T>, mean_columns<T>, weigh_columns<T>};
}

}  // namespace

const GradcamLoops gradcam_loops = {loops_of<float>(), loops_of<double>(), loops_of<half_t>(), loops_of<bfloat16_t>()};

}  // namespace PYWS_ISA
}  // namespace pyws
