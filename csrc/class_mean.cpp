#include "class_mean.h"

#include <algorithm>

#include "parallel.h"

namespace pyws {
namespace {

constexpr int kPartitionArrays = 7;

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

struct Group {
  std::int64_t rows, length, slots;  // slots: of the whole batch, from one scratch array to the next
  std::int64_t *scratch, *ids, *first, *size, *entries;

  std::int64_t* array(int index) const { return scratch + index * slots; }
  RowSpans* spans() const { return reinterpret_cast<RowSpans*>(array(kPartitionArrays)); }
};

// Intervals between the places where some row changes its sign. ids[i] becomes the interval of snippet i.
std::int64_t number_intervals(const Group& group) {
  std::fill_n(group.ids, group.length, 0);
  for (std::int64_t i = 0; i < group.rows; ++i) {
    const RowSpans& row = group.spans()[i];
    for (const std::int64_t at : {row.left, row.start, row.end, row.right})
      if (at < group.length) group.ids[at] = 1;
  }
  std::int64_t intervals = 0;
  for (std::int64_t i = 0; i < group.length; ++i) {
    intervals += i == 0 || group.ids[i] != 0;
    group.ids[i] = intervals - 1;
  }
  return intervals;
}

std::int64_t classify(const Group& group) {
  const std::int64_t intervals = number_intervals(group);
  const auto interval_at = [&](std::int64_t snippet) {
    return snippet < group.length ? group.ids[snippet] : intervals;
  };
  Partition partition(group.scratch, group.slots, intervals);
  std::int64_t *touching = group.array(kPartitionArrays + 1), *name = group.array(kPartitionArrays + 2);
  std::fill_n(touching, intervals + 1, 0);
  std::fill_n(name, intervals + 1, -1);
  for (std::int64_t i = 0; i < group.rows; ++i) {
    const RowSpans& row = group.spans()[i];
    if (row.left == row.right) continue;
    partition.move(interval_at(row.left), interval_at(row.start), i, 0);
    partition.move(interval_at(row.start), interval_at(row.end), i, 1);
    partition.move(interval_at(row.end), interval_at(row.right), i, 0);
    ++touching[interval_at(row.left)];
    --touching[interval_at(row.right)];
  }
  for (std::int64_t k = 1; k < intervals; ++k) touching[k] += touching[k - 1];
  std::int64_t classes = 1;
  name[0] = 0;
  group.first[0] = -1;
  for (std::int64_t i = 0; i < group.length; ++i) {
    const std::int64_t interval = group.ids[i], label = partition.of[interval];
    if (name[label] < 0) {
      name[label] = classes++;
      group.first[name[label]] = i;
      group.entries[name[label]] = touching[interval];
    }
    group.ids[i] = name[label];
    if (label == 0 && group.first[0] < 0) group.first[0] = i;
    ++group.size[name[label]];
  }
  return classes;
}

template <class T>
void average(const T* values, const std::int64_t* ids, const std::int64_t* snippet_offsets,
             const std::int64_t* class_offsets, std::int64_t groups, std::int64_t total, std::int64_t classes,
             std::int64_t columns, double* sums, std::int64_t* sizes, T* out, int threads) {
  const double nanoseconds = 3.0 * static_cast<double>(total * columns) / static_cast<double>(max64(groups, 1));
  parallel_for(groups, nanoseconds, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const Range snippets = group_range(snippet_offsets, g, total), known = group_range(class_offsets, g, classes);
      const std::int64_t low = known.begin, high = known.end;
      for (std::int64_t i = snippets.begin; i < snippets.end; ++i) {
        if (ids[i] < low || ids[i] >= high) continue;
        for (std::int64_t d = 0; d < columns; ++d) {
          sums[ids[i] * columns + d] += values[i * columns + d];
          ++sizes[ids[i] * columns + d];
        }
      }
      for (std::int64_t i = snippets.begin; i < snippets.end; ++i)
        for (std::int64_t d = 0; d < columns; ++d)
          out[i * columns + d] = class_average(values[i * columns + d], ids[i], low, high, columns, d, sums, sizes);
    }
  });
}

}  // namespace

void snippet_classes_cpu(const double* start, const double* end, const std::int64_t* offsets,
                         const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                         std::int64_t slots, std::int64_t* scratch, std::int64_t* ids, std::int64_t* classes,
                         std::int64_t* first, std::int64_t* size, std::int64_t* entries, int threads) {
  if (groups == 0) return;
  const double work = 4.0 * static_cast<double>(snippet_offsets[groups]) + 200.0 * static_cast<double>(offsets[groups]);
  parallel_for(groups, work / static_cast<double>(groups), threads, [&](std::int64_t begin, std::int64_t end_group) {
    for (std::int64_t g = begin; g < end_group; ++g) {
      const std::int64_t slot = class_slot(offsets, g), row = offsets[g];
      const Group group{offsets[g + 1] - row,
                        snippet_offsets[g + 1] - snippet_offsets[g],
                        slots,
                        scratch + slot,
                        ids + snippet_offsets[g],
                        first + slot,
                        size + slot,
                        entries + slot};
      for (std::int64_t i = 0; i < group.rows; ++i)
        group.spans()[i] = row_spans(geometry, margin, start[row + i], end[row + i], group.length);
      classes[g] = classify(group);
    }
  });
}

void class_rows_cpu(const double* start, const double* end, const std::int64_t* offsets,
                    const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                    const std::int64_t* first, const std::int64_t* class_offsets, const std::int64_t* row_offsets,
                    std::int64_t* next, std::int64_t* rows, std::int8_t* signs, int threads) {
  if (groups == 0) return;
  const double work =
      100.0 * static_cast<double>(offsets[groups]) + 2.0 * static_cast<double>(row_offsets[class_offsets[groups]]);
  parallel_for(groups, work / static_cast<double>(groups), threads, [&](std::int64_t begin, std::int64_t end_group) {
    for (std::int64_t g = begin; g < end_group; ++g) {
      const std::int64_t length = snippet_offsets[g + 1] - snippet_offsets[g];
      const std::int64_t *low = first + class_offsets[g] + 1, *high = first + class_offsets[g + 1];
      std::int64_t* at = next + class_offsets[g] + 1;
      std::copy(row_offsets + class_offsets[g] + 1, row_offsets + class_offsets[g + 1], at);
      for (std::int64_t i = offsets[g]; i < offsets[g + 1]; ++i) {
        const RowSpans row = row_spans(geometry, margin, start[i], end[i], length);
        // Classes from 1 on are numbered by their first snippets, so those of a row are neighbours.
        const std::int64_t from = std::lower_bound(low, high, row.left) - low;
        const std::int64_t to = std::lower_bound(low, high, row.right) - low;
        for (std::int64_t k = from; k < to; ++k) {
          rows[at[k]] = i;
          signs[at[k]++] = static_cast<std::int8_t>(row_sign(row, low[k]));
        }
      }
    }
  });
}

void class_mean_cpu(int dtype, const void* values, const std::int64_t* ids, const std::int64_t* snippet_offsets,
                    const std::int64_t* class_offsets, std::int64_t groups, std::int64_t total, std::int64_t classes,
                    std::int64_t columns, double* sums, std::int64_t* sizes, void* out, int threads) {
  const auto run = [&](const auto* typed, auto* result) {
    average(typed, ids, snippet_offsets, class_offsets, groups, total, classes, columns, sums, sizes, result, threads);
  };
  dtype == kFloat32 ? run(static_cast<const float*>(values), static_cast<float*>(out))
                    : run(static_cast<const double*>(values), static_cast<double*>(out));
}

}  // namespace pyws
