#include "otsu/otsu_masks.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "common/parallel.h"
#include "otsu/otsu_masks_simd.h"
#include "otsu/otsu_simd.h"

namespace pyws {
namespace {

constexpr std::int64_t kAtOnce = 4096;  // scaled values that are held at a time, in whole rows: they stay in L1

struct Size {
  std::int64_t height, width, rows, columns;
  std::int64_t strip() const { return max64(1, kAtOnce / columns); }
};

// The interpolation of all columns, the same for every map of a call.
template <class A>
class ColumnTable {
 public:
  explicit ColumnTable(const Size& size)
      : indices_(new std::int32_t[2 * size.columns]), weights_(new A[2 * size.columns]) {
    for (std::int64_t x = 0; x < size.columns; ++x) {
      const Between<A> at = between<A>(x, size.width, size.columns);
      indices_[x] = static_cast<std::int32_t>(at.near);
      indices_[size.columns + x] = static_cast<std::int32_t>(at.far);
      weights_[x] = at.rest;
      weights_[size.columns + x] = at.share;
    }
    columns_ = {indices_.get(), indices_.get() + size.columns, weights_.get(), weights_.get() + size.columns};
  }
  const Columns<A>* get() const { return &columns_; }

 private:
  std::unique_ptr<std::int32_t[]> indices_;
  std::unique_ptr<A[]> weights_;
  Columns<A> columns_;
};

// Where the frame's rows lie among the map rows that any of them needs, `needed` of them and numbered in their order.
template <class A>
class RowTable {
 public:
  explicit RowTable(const Size& size) {
    for (std::int64_t y = 0; y < size.rows; ++y) {
      Between<A> at = between<A>(y, size.height, size.rows);
      at.near = number(at.near);
      at.far = number(at.far);
      rows_.push_back(at);
    }
  }
  const Between<A>& operator[](std::int64_t y) const { return rows_[y]; }
  const std::vector<std::int64_t>& needed() const { return needed_; }

 private:
  std::int64_t number(std::int64_t row) {  // asked in rising order, but for the last one's neighbour
    const std::int64_t n = static_cast<std::int64_t>(needed_.size());
    for (std::int64_t i = n - 1; i >= 0 && i >= n - 2; --i)
      if (needed_[i] == row) return i;
    needed_.push_back(row);
    return n;
  }

  std::vector<Between<A>> rows_;
  std::vector<std::int64_t> needed_;
};

// The rows of one map at the frame's width. Every walk over the frame scales them to its height again, strip by strip.
template <class T, class A = typename Accumulator<T>::type>
class Scaled {
 public:
  Scaled(const ScaleRow<T>& row, const ScaleMap<A>& map, const ColumnTable<A>& columns, const RowTable<A>& rows,
         const Size& size)
      : row_(row),
        map_(map),
        columns_(columns),
        rows_(rows),
        size_(size),
        wide_(new A[rows.needed().size() * size.columns]),
        strip_(new A[size.strip() * size.columns]) {}

  void load(const T* map) {
    A* wide = wide_.get();
    for (std::int64_t y : rows_.needed()) {
      row_.along(map + y * size_.width, columns_.get(), size_.columns, wide);
      wide += size_.columns;
    }
  }

  // body(values, count, first) for every strip, from pixel `first` of the frame on.
  template <class Body>
  void walk(const Body& body) {
    const std::int64_t n = size_.columns;
    for (std::int64_t begin = 0; begin < size_.rows; begin += size_.strip()) {
      const std::int64_t end = min64(begin + size_.strip(), size_.rows);
      for (std::int64_t y = begin; y < end; ++y) {
        const Between<A>& at = rows_[y];
        map_.across(&wide_[at.near * n], &wide_[at.far * n], at.rest, at.share, n, &strip_[(y - begin) * n]);
      }
      body(strip_.get(), (end - begin) * n, begin * n);
    }
  }

 private:
  ScaleRow<T> row_;
  ScaleMap<A> map_;
  const ColumnTable<A>& columns_;
  const RowTable<A>& rows_;
  Size size_;
  std::unique_ptr<A[]> wide_, strip_;
};

// The lowest value in (low, high] whose unit value exceeds the threshold, found by halving: unit values rise with the
// values, from 0 to 1, so that a comparison then does for the division of every pixel.
template <class A>
A min_above(A low, A high, A threshold) {
  A below = low, above = high;
  for (;;) {
    const A middle = below + (above - below) / A(2);
    if (middle == below || middle == above) return above;
    (in_unit(middle, low, high - low) > threshold ? above : below) = middle;
  }
}

// Cuts one map and returns its threshold.
template <class T, class A = typename Accumulator<T>::type>
A cut(const OtsuMap<A>& otsu, const ScaleMap<A>& loops, Scaled<T>& scaled, const T* map, std::int64_t pixels,
      std::uint8_t* mask) {
  scaled.load(map);
  A low = std::numeric_limits<A>::infinity(), high = -low, poison = 0;
  scaled.walk([&](A* x, std::int64_t n, std::int64_t) {
    A lowest, greatest;
    otsu.extremes(x, n, &lowest, &greatest);
    poison += lowest * A(0);  // NaN where a value is not finite
    low = lowest < low ? lowest : low;
    high = greatest > high ? greatest : high;
  });
  const bool usable = otsu_in_range(low + poison, high);
  if (!usable || low == high) {
    std::fill(mask, mask + pixels, std::uint8_t{0});
    return usable ? A(0) : std::numeric_limits<A>::quiet_NaN();
  }
  const OtsuBins<A> bins = otsu_bins(A(0), A(1));
  std::uint32_t counts[kOtsuBins] = {};
  scaled.walk([&](A* x, std::int64_t n, std::int64_t) {
    loops.to_unit(x, n, low, high - low);
    otsu.count(x, n, bins, counts);
  });
  const A threshold = otsu.split(counts, bins);
  const A lowest = min_above(low, high, threshold);
  scaled.walk([&](A* x, std::int64_t n, std::int64_t first) { loops.from(x, n, lowest, mask + first); });
  return threshold;
}

template <class T, class A = typename Accumulator<T>::type>
void run(const OtsuMap<A>& otsu, const ScaleMap<A>& map, const OtsuMasksParams& p, int threads) {
  const Size size = {p.height, p.width, p.rows, p.columns};
  const ScaleRow<T>& row = loops_of<T>(scale_loops());
  const ColumnTable<A> columns(size);
  const RowTable<A> table(size);
  const std::int64_t pixels = size.rows * size.columns;
  parallel_for(p.batch, 1000.0 + 3.0 * static_cast<double>(pixels), threads, [&](std::int64_t begin, std::int64_t end) {
    Scaled<T> scaled(row, map, columns, table, size);
    for (std::int64_t b = begin; b < end; ++b)
      p.thresholds.as<A>()[b] =
          cut(otsu, map, scaled, p.maps.as<T>() + b * size.height * size.width, pixels, p.masks + b * pixels);
  });
}

}  // namespace

void otsu_masks_cpu(const OtsuMasksParams& p, int threads) {
  check_dtype("otsu_masks", "thresholds", p.thresholds.dtype, summing_type(p.maps.dtype));
  with_floats("otsu_masks", "maps", p.maps.dtype, [&](auto zero) {
    if constexpr (std::is_same_v<decltype(zero), double>)
      run<double>(otsu_loops().f64, scale_loops().wide, p, threads);
    else
      run<decltype(zero)>(otsu_loops().f32, scale_loops().single, p, threads);
  });
}

}  // namespace pyws
