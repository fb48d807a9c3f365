#include "class_mean/class_mean.h"

#include <algorithm>
#include <type_traits>

#include "common/parallel.h"

namespace pyws {
namespace {

constexpr int kChange = kWork + 7, kClassOf = kWork + 8;  // rows of the scratch; Partition has the seven before

// The classes of the intervals of one group, refined by one row after the other. Interval k has the label of[k]; label
// 0 stays with the intervals that no row touches, the others are used again once no interval has them.
class Partition {
 public:
  std::int64_t* of;

  // Every array has a slot for each interval and one more.
  Partition(std::int64_t* scratch, std::int64_t slots, std::int64_t intervals) : of(scratch) {
    count_ = scratch + slots;
    free_ = scratch + 2 * slots;
    for (int side = 0; side < 2; ++side) {
      moved_by_[side] = scratch + (3 + side) * slots;
      moved_to_[side] = scratch + (5 + side) * slots;
    }
    std::fill_n(of, intervals, 0);
    count_[0] = intervals;
    for (std::int64_t label = 0; label <= intervals; ++label) {
      moved_by_[0][label] = moved_by_[1][label] = -1;
      if (label > 0) free_[unused_++] = intervals + 1 - label;
    }
  }

  // A row has the sign of `side` (0: minus, 1: plus) on the intervals begin .. end-1: of each class, those move on
  // together.
  void move(std::int64_t begin, std::int64_t end, std::int64_t row, int side) {
    for (std::int64_t k = begin; k < end; ++k) {
      const std::int64_t from = of[k];
      if (moved_by_[side][from] != row) {
        if (count_[from] == 1 && from != 0) continue;  // alone: nothing to part from
        const std::int64_t label = free_[--unused_];
        count_[label] = 0;
        moved_by_[side][from] = row;
        moved_to_[side][from] = label;
      }
      of[k] = moved_to_[side][from];
      ++count_[of[k]];
      if (--count_[from] == 0 && from != 0) free_[unused_++] = from;
    }
  }

 private:
  std::int64_t *count_, *free_, *moved_by_[2], *moved_to_[2];
  std::int64_t unused_ = 0;
};

// Numbers the intervals between the places where some row changes its sign, and finds their bounds. ids[i] becomes the
// interval of snippet i.
std::int64_t number_intervals(const ClassGroup& group, std::int64_t* ids) {
  std::fill_n(ids, group.length, 0);
  for (std::int64_t i = 0; i < group.rows; ++i) {
    const RowSpans& row = spans_of(group)[i];
    for (const std::int64_t at : {row.left, row.start, row.end, row.right})
      if (at < group.length) ids[at] = 1;
  }
  std::int64_t* bounds = array_of(group, kBounds);
  std::int64_t intervals = 0;
  for (std::int64_t i = 0; i < group.length; ++i) {
    if (i == 0 || ids[i] != 0) bounds[intervals++] = i;
    ids[i] = intervals - 1;
  }
  bounds[intervals] = group.length;
  return intervals;
}

struct Found {
  std::int64_t classes, entries;
};

// Parts the snippets by the rows, one after the other, and then numbers what is left together by first snippets.
Found classify(const ClassGroup& group, std::int64_t* ids) {
  const std::int64_t intervals = number_intervals(group, ids);
  const auto interval_at = [&](std::int64_t snippet) { return snippet < group.length ? ids[snippet] : intervals; };
  Partition partition(array_of(group, kWork), group.slots, intervals);
  std::int64_t *change = array_of(group, kChange), *class_of = array_of(group, kClassOf);
  std::fill_n(change, intervals + 1, 0);
  std::fill_n(class_of, intervals + 1, -1);
  for (std::int64_t i = 0; i < group.rows; ++i) {
    const RowSpans& row = spans_of(group)[i];
    if (row.left == row.right) continue;
    const std::int64_t left = interval_at(row.left), right = interval_at(row.right);
    const std::int64_t start = interval_at(row.start), end = interval_at(row.end);
    partition.move(left, start, i, 0);
    partition.move(start, end, i, 1);
    partition.move(end, right, i, 0);
    ++change[left];
    --change[right];
  }
  const std::int64_t* bounds = array_of(group, kBounds);
  std::int64_t *name = array_of(group, kName), *first = array_of(group, kFirst);
  std::int64_t *size = array_of(group, kSize), *touching = array_of(group, kTouching);
  Found found{1, 0};
  class_of[0] = size[0] = touching[0] = 0;
  std::int64_t rows = 0;
  for (std::int64_t k = 0; k < intervals; ++k) {
    rows += change[k];
    std::int64_t& known = class_of[partition.of[k]];
    if (known < 0) {
      known = found.classes++;
      first[known] = bounds[k];
      size[known] = 0;
      touching[known] = rows;
      found.entries += rows;
    }
    name[k] = known;
    size[known] += bounds[k + 1] - bounds[k];
  }
  return found;
}

// The entries of each class in rising order of the rows. `next` starts as where they begin.
void list_rows(const ClassGroup& group, std::int64_t classes, std::int64_t* next, std::int64_t* rows,
               std::int8_t* signs) {
  const std::int64_t *low = array_of(group, kFirst) + 1, *high = array_of(group, kFirst) + classes;
  for (std::int64_t i = 0; i < group.rows; ++i) {
    const RowSpans& row = spans_of(group)[i];
    // Classes from 1 on are numbered by their first snippets, so those of a row are neighbours.
    const std::int64_t from = std::lower_bound(low, high, row.left) - low;
    const std::int64_t to = std::lower_bound(low, high, row.right) - low;
    for (std::int64_t k = from; k < to; ++k) {
      const std::int64_t at = next[k + 1]++;
      rows[at] = group.row + i;
      signs[at] = static_cast<std::int8_t>(row_sign(row, low[k]));
    }
  }
}

// `columns` is a number, or a constant for the compiler.
template <class T, class Columns>
void average(const T* values, const std::int64_t* ids, Range snippets, Range known, Columns columns, ClassSum* sums,
             T* out, std::int64_t* unknown) {
  const auto has_class = [known](std::int64_t id) { return id >= known.begin && id < known.end; };
  std::fill(sums + known.begin * columns, sums + known.end * columns, ClassSum{0.0, 0.0});
  std::int64_t odd = -1;
  for (std::int64_t i = snippets.begin; i < snippets.end; ++i) {
    const std::int64_t id = ids[i];
    if (!has_class(id)) {
      if (odd < 0) odd = i;
      continue;
    }
    for (std::int64_t d = 0; d < columns; ++d) {
      ClassSum& sum = sums[id * columns + d];
      sum.sum += values[i * columns + d];
      sum.count += 1.0;
    }
  }
  *unknown = odd;
  for (std::int64_t k = known.begin * columns; k < known.end * columns; ++k) sums[k].sum /= sums[k].count;
  for (std::int64_t i = snippets.begin; i < snippets.end; ++i) {
    const std::int64_t id = ids[i];
    for (std::int64_t d = 0; d < columns; ++d) {
      const std::int64_t at = i * columns + d;
      out[at] = has_class(id) ? static_cast<T>(sums[id * columns + d].sum) : values[at];
    }
  }
}

}  // namespace

void snippet_classes_cpu(const SnippetClassesParams& p, int threads) {
  std::int64_t *rows = p.starts + kRows * (p.groups + 1), *snippets = p.starts + kSnippets * (p.groups + 1);
  std::int64_t* entries = p.starts + kEntries * (p.groups + 1);
  rows[0] = min64(max64(p.offsets[0], 0), p.segments);
  snippets[0] = 0;
  for (std::int64_t g = 0; g < p.groups; ++g) {
    rows[g + 1] = max64(rows[g], min64(p.offsets[g + 1], p.segments));
    snippets[g + 1] = snippets[g] + max64(p.lengths[g], 0);
  }
  const double work = 4.0 * static_cast<double>(snippets[p.groups]) + 200.0 * static_cast<double>(rows[p.groups]);
  const double nanoseconds = work / static_cast<double>(max64(p.groups, 1));
  parallel_for(p.groups, nanoseconds, threads, [&](std::int64_t first_group, std::int64_t last_group) {
    for (std::int64_t g = first_group; g < last_group; ++g) {
      const ClassGroup group = class_group(p, g);
      for (std::int64_t i = 0; i < group.rows; ++i)
        spans_of(group)[i] =
            row_spans(p.geometry, p.margin, p.start[group.row + i], p.end[group.row + i], group.length);
      const Found found = classify(group, p.ids + group.snippet);
      p.class_offsets[g + 1] = found.classes;
      entries[g + 1] = found.entries;
    }
  });
  scan_counts(p.class_offsets, p.groups);
  scan_counts(entries, p.groups);
}

void class_rows_cpu(const ClassRowsParams& p, int threads) {
  const std::int64_t* entries = p.starts + kEntries * (p.groups + 1);
  const double work = 100.0 * static_cast<double>(p.starts[p.groups]) + 2.0 * static_cast<double>(entries[p.groups]);
  const double nanoseconds = work / static_cast<double>(max64(p.groups, 1));
  parallel_for(p.groups, nanoseconds, threads, [&](std::int64_t first_group, std::int64_t last_group) {
    for (std::int64_t g = first_group; g < last_group; ++g) {
      const ClassGroup group = class_group(p, g);
      const std::int64_t first_class = p.class_offsets[g], count = p.class_offsets[g + 1] - first_class;
      const std::int64_t *bounds = array_of(group, kBounds), *name = array_of(group, kName);
      for (std::int64_t k = 0; bounds[k] < group.length; ++k)
        std::fill(p.ids + group.snippet + bounds[k], p.ids + group.snippet + bounds[k + 1], first_class + name[k]);
      std::copy_n(array_of(group, kSize), count, p.size + first_class);
      std::int64_t *next = array_of(group, kWork), entry = entries[g];
      for (std::int64_t k = 0; k < count; ++k) {
        next[k] = entry;
        p.row_offsets[first_class + k + 1] = entry += array_of(group, kTouching)[k];
      }
      list_rows(group, count, next, p.rows, p.signs);
    }
  });
}

void class_mean_cpu(const ClassMeanParams& p, int threads) {
  check_dtypes(p);
  const double nanoseconds = 3.0 * static_cast<double>(p.total * p.columns) / static_cast<double>(max64(p.groups, 1));
  const auto run = [&](const auto* typed, auto* result) {
    parallel_for(p.groups, nanoseconds, threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t g = begin; g < end; ++g) {
        const Range snippets = class_range(p.snippet_offsets, g, p.total),
                    known = class_range(p.class_offsets, g, p.classes);
        if (p.columns == 1)
          average(typed, p.ids, snippets, known, std::integral_constant<int, 1>(), class_sums(p), result,
                  p.unknown + g);
        else
          average(typed, p.ids, snippets, known, p.columns, class_sums(p), result, p.unknown + g);
      }
    });
  };
  with_singles("class_mean", "values", p.values.dtype, [&](auto typed) {
    using T = decltype(typed);
    run(p.values.as<T>(), p.out.as<T>());
  });
}

}  // namespace pyws
