// class_mean: which snippets no segment tells apart, and the mean of values over each such class (GauFuse eq. 6).
//
// Two snippets of a group belong to one class iff their columns of W (csrc/snippet_rows.h) are equal. Classes are
// numbered by their first snippet, from 1; class 0 holds the snippets that no row touches, and may be empty.
//
// snippet_classes   segments of group g: offsets[g] .. offsets[g+1]-1; its snippets: snippet_offsets[g] ..
//   ids             (snippets,) class within the group
//   classes         (groups,) number of classes, class 0 included
//   first, size, entries   of class k of group g at slot class_slot(offsets, g) + k: its first snippet within the group
//                   (-1 for an empty class 0), its snippets, the rows that touch it; zeroed by the caller
//   scratch         (kClassScratch, slots), slots = class_slot(offsets, groups)
// class_rows        rows, signs of class c (over all groups): those of row_offsets[c] .. row_offsets[c+1]-1, in rising
//                   order of the rows; first (all classes,), class_offsets (groups+1,); next: scratch, like first
// class_mean        out[i, d] = mean of values[j, d] over the j of group and class of i, float64 sums in the order of j
//                   (CPU) or of 32 at a time (CUDA); float32 or float64 as DType. A snippet whose id is not one of its
//                   group keeps its value. sums and sizes (classes, columns) come zeroed. Any offsets: read
//                   clamped to the `total` snippets and to the `classes`
// Exactness         columns are compared entry by entry: each row in turn parts what it tells apart, no hash decides.
// Contents          any double and any length: spans are clipped. Other offsets must rise within what they point into.
// Determinism       the same bits for any number of threads and any batch composition.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "ragged.h"
#include "snippet_rows.h"

namespace pyws {

constexpr int kClassScratch = 10;

// n rows part a group into at most 4n+1 intervals, and class 0 may be empty.
PYWS_HD std::int64_t class_slot(const std::int64_t* offsets, std::int64_t group) {
  return 4 * offsets[group] + 2 * group;
}

void snippet_classes_cpu(const double* start, const double* end, const std::int64_t* offsets,
                         const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                         std::int64_t slots, std::int64_t* scratch, std::int64_t* ids, std::int64_t* classes,
                         std::int64_t* first, std::int64_t* size, std::int64_t* entries, int threads);
void snippet_classes_cuda(const double* start, const double* end, const std::int64_t* offsets,
                          const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                          std::int64_t slots, std::int64_t* scratch, std::int64_t* ids, std::int64_t* classes,
                          std::int64_t* first, std::int64_t* size, std::int64_t* entries, void* stream);

void class_rows_cpu(const double* start, const double* end, const std::int64_t* offsets,
                    const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                    const std::int64_t* first, const std::int64_t* class_offsets, const std::int64_t* row_offsets,
                    std::int64_t* next, std::int64_t* rows, std::int8_t* signs, int threads);
void class_rows_cuda(const double* start, const double* end, const std::int64_t* offsets,
                     const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                     const std::int64_t* first, const std::int64_t* class_offsets, const std::int64_t* row_offsets,
                     std::int64_t* next, std::int64_t* rows, std::int8_t* signs, void* stream);

void class_mean_cpu(int dtype, const void* values, const std::int64_t* ids, const std::int64_t* snippet_offsets,
                    const std::int64_t* class_offsets, std::int64_t groups, std::int64_t total, std::int64_t classes,
                    std::int64_t columns, double* sums, std::int64_t* sizes, void* out, int threads);
void class_mean_cuda(int dtype, const void* values, const std::int64_t* ids, const std::int64_t* snippet_offsets,
                     const std::int64_t* class_offsets, std::int64_t groups, std::int64_t total, std::int64_t classes,
                     std::int64_t columns, double* sums, std::int64_t* sizes, void* out, void* stream);

// The sign of a row at a snippet.
PYWS_HD int row_sign(const RowSpans& row, std::int64_t snippet) {
  if (snippet < row.left || snippet >= row.right) return 0;
  return snippet >= row.start && snippet < row.end ? 1 : -1;
}

// The mean that value `d` of a snippet becomes; its own value where its id is none of the group's.
template <class T>
PYWS_HD T class_average(T value, std::int64_t id, std::int64_t low, std::int64_t high, std::int64_t columns,
                        std::int64_t d, const double* sums, const std::int64_t* sizes) {
  if (id < low || id >= high) return value;
  return static_cast<T>(sums[id * columns + d] / static_cast<double>(sizes[id * columns + d]));
}

}  // namespace pyws
