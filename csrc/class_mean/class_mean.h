// class_mean: which snippets no segment tells apart, and the mean of values over each such class (GauFuse eq. 6).
//
// Two snippets of a group belong to one class iff their columns of W (constraint_rows.h) are equal. Classes are
// numbered by their first snippet, from 1; class 0 holds the snippets that no row touches, and may be empty.
//
// snippet_classes   `segments` bounds; those of group g: offsets[g] .. offsets[g+1]-1; it has lengths[g] snippets
//   starts          (ClassStarts, groups+1): where the rows, snippets and entries of W of each group start
//   class_offsets   (groups+1,) where the classes of each group start
//   scratch         (kClassScratch, slots), slots = class_slot(segments, groups)
//   ids             (snippets of all groups,) scratch for class_rows
// class_rows        goes on with the same starts, class_offsets, scratch and ids. C = class_offsets[groups] classes:
//   ids             class of each snippet, numbered over all groups
//   size, row_offsets   (C,), (C+1,) its snippets; where its entries start, row_offsets[0] comes as 0
//   rows, signs     (starts[kEntries][groups],) the entries of each class in rising order of the rows
// class_mean        out[i, d] = mean of values[j, d] over the j of group and class of i, float64 sums in the order of j
//                   (CPU) or of 32 at a time (CUDA); float32 or float64 as DType. A snippet whose id is not one of its
//                   group keeps its value, and unknown[g] is the first of those, or -1.
//   class_offsets, snippet_offsets   (groups+1,) any contents: read clamped to the `classes` and to the `total`
//                   snippets. 0 for one group of all
//   sums            (classes, columns) scratch
// Exactness         columns are compared entry by entry: each row in turn parts what it tells apart, no hash decides.
// Contents          any: spans are clipped, lengths below 0 are 0, offsets are clamped, and never fall for the kernels.
// Determinism       the same bits for any number of threads and any batch composition.
#pragma once

#include <cstdint>

#include "class_mean/constraint_rows.h"
#include "common/host_device.h"
#include "common/params.h"
#include "common/ragged.h"

namespace pyws {

enum ClassStarts : int { kRows, kSnippets, kEntries };

// Arrays of a group from its slot on. An interval is what lies between two places where some row changes its sign.
enum ClassScratch : int {
  kSpans,     // RowSpans of the rows
  kBounds,    // bounds of the intervals, the length of the group after the last
  kName,      // intervals: class within the group
  kFirst,     // classes: first snippet, for all but class 0
  kSize,      // classes: snippets
  kTouching,  // classes: rows that touch it
  kWork,      // scratch of snippet_classes
  kClassScratch = kWork + 9
};

// n rows part a group into at most 4n+1 intervals, and class 0 may be empty.
PYWS_HD std::int64_t class_slot(std::int64_t rows_before, std::int64_t group) { return 4 * rows_before + 2 * group; }

// What both launches know of a group.
struct ClassGroup {
  std::int64_t row, rows, snippet, length, slots;
  std::int64_t* scratch;  // from the group's slot on
};

template <class Params>
PYWS_HD ClassGroup class_group(const Params& p, std::int64_t g) {
  const std::int64_t *rows = p.starts + g, *snippets = rows + kSnippets * (p.groups + 1);
  return {
      rows[0], rows[1] - rows[0], snippets[0], snippets[1] - snippets[0], p.slots, p.scratch + class_slot(rows[0], g)};
}

PYWS_HD std::int64_t* array_of(const ClassGroup& group, int index) { return group.scratch + index * group.slots; }
PYWS_HD RowSpans* spans_of(const ClassGroup& group) { return reinterpret_cast<RowSpans*>(array_of(group, kSpans)); }

struct SnippetClassesParams {
  const double *start, *end;
  std::int64_t segments;
  const std::int64_t *offsets, *lengths;
  std::int64_t groups;
  RowGeometry geometry;
  double margin;
  std::int64_t slots;
  std::int64_t *starts, *class_offsets, *scratch, *ids;
  PYWS_FIELDS(start, end, segments, offsets, lengths, groups, geometry, margin, slots, starts, class_offsets, scratch,
              ids)
};

void snippet_classes_cpu(const SnippetClassesParams& p, int threads);
void snippet_classes_cuda(const SnippetClassesParams& p, void* stream);

struct ClassRowsParams {
  const std::int64_t *starts, *class_offsets;
  std::int64_t groups, slots;
  std::int64_t *scratch, *ids, *size, *row_offsets, *rows;
  std::int8_t* signs;
  PYWS_FIELDS(starts, class_offsets, groups, slots, scratch, ids, size, row_offsets, rows, signs)
};

void class_rows_cpu(const ClassRowsParams& p, int threads);
void class_rows_cuda(const ClassRowsParams& p, void* stream);

// A sum over a class, and then the mean.
struct ClassSum {
  double sum, count;
};

struct ClassMeanParams {
  Array<const void> values;  // float32 or float64
  const std::int64_t* ids;
  Optional<const std::int64_t> snippet_offsets, class_offsets;
  std::int64_t groups, total, classes, columns;
  double* sums;  // ClassSum of each class and column
  Array<void> out;
  std::int64_t* unknown;
  PYWS_FIELDS(values, ids, snippet_offsets, class_offsets, groups, total, classes, columns, sums, out, unknown)
};
inline void check_dtypes(const ClassMeanParams& p) { check_dtype("class_mean", "out", p.out.dtype, p.values.dtype); }
PYWS_HD ClassSum* class_sums(const ClassMeanParams& p) { return reinterpret_cast<ClassSum*>(p.sums); }

void class_mean_cpu(const ClassMeanParams& p, int threads);
void class_mean_cuda(const ClassMeanParams& p, void* stream);

// Elements of scratch memory, int64, of snippet_classes and class_rows together.
inline std::int64_t class_slots(std::int64_t segments, std::int64_t groups) { return class_slot(segments, groups); }
inline std::int64_t snippet_classes_scratch(std::int64_t segments, std::int64_t groups) {
  return kClassScratch * class_slots(segments, groups);
}

// The sign of a row at a snippet.
PYWS_HD int row_sign(const RowSpans& row, std::int64_t snippet) {
  if (snippet < row.left || snippet >= row.right) return 0;
  return snippet >= row.start && snippet < row.end ? 1 : -1;
}

// The snippets or classes of a group, or all where there is no more than one.
PYWS_HD Range class_range(const std::int64_t* offsets, std::int64_t group, std::int64_t total) {
  return offsets == nullptr ? Range{0, total} : group_range(offsets, group, total);
}

}  // namespace pyws
