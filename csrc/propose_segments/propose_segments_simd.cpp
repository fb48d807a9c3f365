#include "propose_segments/propose_segments_simd.h"

#include "components/pixel_runs_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

constexpr int kLanes = 32;

std::int64_t levels(const double* x, std::int64_t n, const double* thresholds, std::int64_t count,
                    std::uint8_t* level) {
  bool finite = true;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    std::int64_t passed[kLanes] = {};
    for (std::int64_t t = 0; t < count; ++t)
      for (int lane = 0; lane < kLanes; ++lane) passed[lane] += x[i + lane] > thresholds[t] ? 1 : 0;
    for (int lane = 0; lane < kLanes; ++lane) level[i + lane] = static_cast<std::uint8_t>(passed[lane]);
    for (int lane = 0; lane < kLanes; ++lane) finite &= x[i + lane] - x[i + lane] == 0.0;
  }
  for (; i < n; ++i) {
    int passed = 0;
    for (std::int64_t t = 0; t < count; ++t) passed += x[i] > thresholds[t] ? 1 : 0;
    level[i] = static_cast<std::uint8_t>(passed);
    finite &= x[i] - x[i] == 0.0;
  }
  if (finite) return n;
  for (i = 0; x[i] - x[i] == 0.0;) ++i;
  return i;
}

// The morphological opening: each snippet gets the highest among the windows of `shortest` snippets that hold it, of
// the lowest level in each. Windows double in width; no snippet beside the video passes any threshold.
void drop_short(std::uint8_t* level, std::int64_t length, std::int64_t shortest) {
  shortest = max64(1, min64(shortest, length + 1));
  for (std::int64_t width = 1, step; width < shortest; width += step) {
    step = min64(width, shortest - width);
    for (std::int64_t i = 0; i + width + step <= length; ++i)
      level[i] = level[i + step] < level[i] ? level[i + step] : level[i];
  }
  for (std::int64_t i = length - shortest + 1; i < length; ++i) level[i] = 0;
  for (std::int64_t width = 1, step; width < shortest; width += step) {
    step = min64(width, shortest - width);
    for (std::int64_t i = length - 1; i >= step; --i)
      level[i] = level[i - step] > level[i] ? level[i - step] : level[i];
  }
}

// Bit i: is level[i] above the threshold?
inline std::uint64_t above_64(const std::uint8_t* level, int threshold) {
#if defined(__AVX512BW__)
  return _mm512_cmpgt_epu8_mask(_mm512_loadu_si512(level), _mm512_set1_epi8(static_cast<char>(threshold)));
#elif defined(__AVX2__)
  const __m256i next = _mm256_set1_epi8(static_cast<char>(threshold + 1));
  std::uint64_t bits = 0;
  for (int i = 0; i < 64; i += 32) {
    const __m256i levels = load_32(level + i);
    const __m256i above = _mm256_cmpeq_epi8(_mm256_max_epu8(levels, next), levels);
    bits |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(_mm256_movemask_epi8(above))) << i;
  }
  return bits;
#else
  std::uint64_t bits = 0;
  for (int i = 0; i < 64; ++i) bits |= static_cast<std::uint64_t>(level[i] > threshold) << i;
  return bits;
#endif
}

// Calls visit(first, bits, before) for each 64 snippets: bit i of `bits` is set where the level of first + i is above
// the threshold, bit i of `before` where the level of first + i - 1 is. Nothing behind the end is above.
template <class Visit>
inline void each_word(const std::uint8_t* level, std::int64_t length, int threshold, bool above, const Visit& visit) {
  std::uint64_t last = above;
  for (std::int64_t first = 0; first < length; first += kWordPixels) {
    const std::int64_t rest = length - first;
    std::uint8_t padded[kWordPixels] = {};
    if (rest < kWordPixels) std::memcpy(padded, level + first, static_cast<std::size_t>(rest));
    const std::uint64_t bits = above_64(rest < kWordPixels ? padded : level + first, threshold);
    visit(first, bits, bits << 1 | last);
    last = bits >> 63;
  }
}

std::int64_t runs(const std::uint8_t* level, std::int64_t length, int threshold) {
  std::int64_t count = 0;
  each_word(level, length, threshold, false, [&](std::int64_t, std::uint64_t bits, std::uint64_t before) {
    count += __builtin_popcountll(bits & ~before);
  });
  return count;
}

std::int64_t crossings(const std::uint8_t* level, std::int64_t length, int threshold, bool above, std::int32_t* at) {
  std::int32_t* end = at;
  each_word(level, length, threshold, above, [&](std::int64_t first, std::uint64_t bits, std::uint64_t before) {
    end = append_positions(bits ^ before, static_cast<int>(first), end);
  });
  return end - at;
}

}  // namespace

const ProposalLoops proposal_loops = {levels, drop_short, runs, crossings};

}  // namespace PYWS_ISA
}  // namespace pyws
