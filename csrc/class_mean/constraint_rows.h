// Which snippets a segment scores: one row of W in GauFuse eq. 5, +1 inside the segment, -1 in a margin on each side.
//
//   paper     s <= i < e: +1;  s - a(e-s) <= i < s and e <= i < e + a(e-s): -1                       (a = margin)
//   released  h = a(e-s)^0.9;  [s, e): +1;  [int(s-h), s) and [e, min(l-1, int(e+h+1))): -1
//             one snippet wider on the right than on the left, and never the last snippet of the video
//
// Bounds of fused segments are real: both rules first truncate them towards zero, s = int(start), e = int(end).
// Everything is clipped to the snippets 0..length-1 that exist. Any double is safe, NaN counts as 0.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"
#include "common/params.h"

namespace pyws {

enum RowGeometry : int { kPaperRows, kReleasedRows };
PYWS_NAMES(RowGeometry, "paper", "released")

// 0 <= left <= start <= end <= right <= length; -1 on [left, start), +1 on [start, end), -1 on [end, right).
struct RowSpans {
  std::int64_t left, start, end, right;
};

// The integer part of x, limited to magnitudes whose sums and differences doubles still hold exactly.
PYWS_HD double truncate_bound(double x) {
  constexpr double kLimit = 1125899906842624.0;  // 2^50
  if (!(x > -kLimit)) return x <= -kLimit ? -kLimit : 0.0;
  return x < kLimit ? trunc(x) : kLimit;
}

PYWS_HD std::int64_t clip_bound(double x, std::int64_t low, std::int64_t high) {
  if (!(x > static_cast<double>(low))) return low;
  return x < static_cast<double>(high) ? static_cast<std::int64_t>(x) : high;
}

// power(d) is d^0.9, at whole numbers.
template <class Power>
PYWS_HD RowSpans row_spans(RowGeometry geometry, double margin, double start, double end, std::int64_t length,
                           const Power& power) {
  const double s = truncate_bound(start), e = truncate_bound(end), d = e > s ? e - s : 0.0;
  double left, right;
  if (geometry == kReleasedRows) {
    const double h = margin * power(d);
    left = trunc(s - h);
    right = trunc(e + h + 1.0);
  } else {
    left = ceil(s - margin * d);
    right = ceil(e + margin * d);
  }
  const std::int64_t last = geometry == kReleasedRows && length > 0 ? length - 1 : length;
  RowSpans row;
  row.start = clip_bound(s, 0, length);
  row.end = clip_bound(s + d, row.start, length);
  row.left = clip_bound(left, 0, row.start);
  row.right = max64(row.end, clip_bound(right, 0, last));
  return row;
}

PYWS_HD RowSpans row_spans(RowGeometry geometry, double margin, double start, double end, std::int64_t length) {
  return row_spans(geometry, margin, start, end, length, [](double d) { return pow(d, 0.9); });
}

}  // namespace pyws
