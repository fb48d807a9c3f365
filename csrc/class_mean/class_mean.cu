#include "class_mean/class_mean.h"
#include "common/cuda_launch.h"
#include "common/ragged_cuda.h"

namespace pyws {
namespace {

using Counter = unsigned long long;

constexpr int kThreads = 256;

// Inclusive sums of one number a thread over the block; `total` becomes the sum of all.
__device__ std::int64_t scan(std::int64_t x, std::int64_t* total) {
  PYWS_SHARED(std::int64_t, sums, kThreads);
  const int t = threadIdx.x;
  sums[t] = x;
  __syncthreads();
  for (int step = 1; step < kThreads; step *= 2) {
    const std::int64_t other = t >= step ? sums[t - step] : 0;
    __syncthreads();
    sums[t] += other;
    __syncthreads();
  }
  const std::int64_t sum = sums[t];
  *total = sums[kThreads - 1];
  __syncthreads();
  return sum;
}

// The arrays of a group that one step of the classification leaves to the next.
struct Intervals {
  std::int64_t *ids, *bounds, *rep, *change;
};

// Spans of the rows, and in ids 1 where a row changes its sign, else 0.
__device__ void flag_changes(const SnippetClassesParams& p, const ClassGroup& group, std::int64_t* ids) {
  RowSpans* spans = spans_of(group);
  for (std::int64_t i = threadIdx.x; i < group.length; i += kThreads) ids[i] = i == 0;
  __syncthreads();
  for (std::int64_t r = threadIdx.x; r < group.rows; r += kThreads) {
    const RowSpans row = row_spans(p.geometry, p.margin, p.start[group.row + r], p.end[group.row + r], group.length);
    const std::int64_t places[4] = {row.left, row.start, row.end, row.right};
    for (int k = 0; k < 4; ++k)
      if (places[k] < group.length) atomicMax(reinterpret_cast<Counter*>(ids + places[k]), Counter{1});
    spans[r] = row;
  }
  __syncthreads();
}

// From flags to the interval of each snippet, and the bounds of the intervals; returns how many there are.
__device__ std::int64_t number_intervals(const ClassGroup& group, const Intervals& at) {
  std::int64_t intervals = 0, total;
  for (std::int64_t base = 0; base < group.length; base += kThreads) {
    const std::int64_t i = base + threadIdx.x, flag = i < group.length ? at.ids[i] : 0;
    const std::int64_t interval = intervals + scan(flag, &total) - 1;
    if (i < group.length) at.ids[i] = interval;
    if (flag) at.bounds[interval] = i;
    intervals += total;
  }
  if (threadIdx.x == 0) at.bounds[intervals] = group.length;
  return intervals;
}

// Leaves in rep the first interval of each interval's class, in change how many rows touch it.
__device__ void part_intervals(const ClassGroup& group, const Intervals& at, std::int64_t intervals) {
  const std::int64_t rows = group.rows, slots = group.slots;
  std::int64_t *rep = at.rep, *change = at.change;
  Counter* best = reinterpret_cast<Counter*>(array_of(group, kWork + 3));
  for (std::int64_t k = threadIdx.x; k < 4 * rows + 2; k += kThreads) {
    rep[k] = change[k] = 0;
    for (int sign = 0; sign < 3; ++sign) best[sign * slots + k] = ~Counter{0};
  }
  __syncthreads();
  for (std::int64_t r = 0; r < rows; ++r) {
    const RowSpans row = spans_of(group)[r];
    if (row.left == row.right) continue;  // for all threads alike
    for (std::int64_t k = threadIdx.x; k < intervals; k += kThreads)
      atomicMin(best + (row_sign(row, at.bounds[k]) + 1) * slots + rep[k], static_cast<Counter>(rows - r) << 32 | k);
    __syncthreads();
    for (std::int64_t k = threadIdx.x; k < intervals; k += kThreads) {
      const int sign = row_sign(row, at.bounds[k]);
      rep[k] = static_cast<std::int64_t>(best[(sign + 1) * slots + rep[k]] & 0xffffffffu);
      change[k] += sign != 0;
    }
    __syncthreads();
  }
}

// Numbers the classes and lists what they begin with, have and are touched by; returns how many classes and entries.
struct Named {
  std::int64_t classes, entries;
};

__device__ Named name_classes(const ClassGroup& group, const Intervals& at, std::int64_t intervals) {
  PYWS_SHARED(Counter, found, 1);
  std::int64_t *name = array_of(group, kName), *first = array_of(group, kFirst), *size = array_of(group, kSize);
  std::int64_t *touching = array_of(group, kTouching), *number = array_of(group, kWork + 2);
  if (threadIdx.x == 0) *found = touching[0] = 0;
  for (std::int64_t k = threadIdx.x; k < 4 * group.rows + 2; k += kThreads) size[k] = 0;
  std::int64_t named = 1, total;  // the barriers of scan part these zeros from what is added to them
  for (std::int64_t base = 0; base < intervals; base += kThreads) {
    const std::int64_t k = base + threadIdx.x;
    const bool leads = k < intervals && at.rep[k] == k;
    const bool counts = leads && at.change[k] > 0;
    const std::int64_t rank = scan(counts, &total);
    if (leads) number[k] = counts ? named - 1 + rank : 0;
    if (counts) {
      first[number[k]] = at.bounds[k];
      touching[number[k]] = at.change[k];
      atomicAdd(found, static_cast<Counter>(at.change[k]));
    }
    named += total;
  }
  __syncthreads();
  for (std::int64_t k = threadIdx.x; k < intervals; k += kThreads) {
    name[k] = number[at.rep[k]];
    atomicAdd(reinterpret_cast<Counter*>(size + name[k]), static_cast<Counter>(at.bounds[k + 1] - at.bounds[k]));
  }
  return {named, static_cast<std::int64_t>(*found)};
}

// Traffic: ids are written and read twice, the rest is one short array an interval, in L1 or L2. Ownership: one block a
// group; thread t owns snippets, rows and intervals t, t + 256, ...
//
//   1  snippets where a row changes its sign are flagged; running sums of the flags number the intervals
//   2  rep[k], the first interval of k's class, starts as 0. Each row in turn parts the classes: intervals of one class
//      and one sign agree on the least of them by atomicMin in best[sign][rep]. Keys of later rows are smaller, so that
//      nothing has to be cleared.
//   3  first intervals of classes that some row touches are numbered by running sums
__global__ void classify(SnippetClassesParams p) {
  const ClassGroup group = class_group(p, blockIdx.x);
  const Intervals at = {p.ids + group.snippet, array_of(group, kBounds), array_of(group, kWork),
                        array_of(group, kWork + 1)};
  flag_changes(p, group, at.ids);
  const std::int64_t intervals = number_intervals(group, at);
  part_intervals(group, at, intervals);
  const Named named = name_classes(group, at, intervals);
  if (threadIdx.x > 0) return;
  p.class_offsets[blockIdx.x + 1] = named.classes;
  p.starts[kEntries * (p.groups + 1) + blockIdx.x + 1] = named.entries;
}

// Traffic: ids are read and written once; sizes and entries, a few an interval, move from the slots to where they stay,
// coalesced. Ownership: one block a group; thread t owns snippets and classes t, t + 256, ...
__global__ void pack(ClassRowsParams p) {
  const ClassGroup group = class_group(p, blockIdx.x);
  const std::int64_t* classes = p.class_offsets + blockIdx.x;
  const std::int64_t *name = array_of(group, kName), *touching = array_of(group, kTouching);
  for (std::int64_t i = group.snippet + threadIdx.x; i < group.snippet + group.length; i += kThreads)
    p.ids[i] = classes[0] + name[p.ids[i]];
  std::int64_t entry = p.starts[kEntries * (p.groups + 1) + blockIdx.x], total;
  for (std::int64_t base = 0; base < classes[1] - classes[0]; base += kThreads) {
    const std::int64_t k = base + threadIdx.x;
    const bool known = k < classes[1] - classes[0];
    const std::int64_t sum = scan(known ? touching[k] : 0, &total);
    if (known) {
      p.row_offsets[classes[0] + k + 1] = entry + sum;
      p.size[classes[0] + k] = array_of(group, kSize)[k];
    }
    entry += total;
  }
}

// The group whose classes hold class c: the last one that starts at or before it and is not empty.
PYWS_HD std::int64_t group_of(const std::int64_t* class_offsets, std::int64_t groups, std::int64_t c) {
  std::int64_t low = 0, high = groups;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (class_offsets[middle] <= c ? low : high) = middle;
  }
  return low;
}

// Traffic: the spans of a group's rows are read once for each of its classes, coalesced, from L2; each entry is written
// once. Ownership: one warp a class; lanes read 32 rows at a time, placed by the ballot.
__global__ void list_rows(ClassRowsParams p, std::int64_t warps) {
  const int lane = threadIdx.x % kWarp;
  const std::int64_t warp = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  for (std::int64_t c = warp; c < p.class_offsets[p.groups]; c += warps) {
    std::int64_t next = p.row_offsets[c];
    if (next == p.row_offsets[c + 1]) continue;
    const std::int64_t g = group_of(p.class_offsets, p.groups, c);
    const ClassGroup group = class_group(p, g);
    const std::int64_t snippet = array_of(group, kFirst)[c - p.class_offsets[g]];
    for (std::int64_t base = 0; base < group.rows; base += kWarp) {
      const std::int64_t r = base + lane;
      const int sign = r < group.rows ? row_sign(spans_of(group)[r], snippet) : 0;
      const unsigned touching = __ballot_sync(kWholeWarp, sign != 0);
      if (sign != 0) {
        const std::int64_t at = next + __popc(touching & lanes_below());
        p.rows[at] = group.row + r;
        p.signs[at] = static_cast<std::int8_t>(sign);
      }
      next += __popc(touching);
    }
  }
}

// Traffic: values and ids are read twice, means written once; sums live in L1 or L2. Ownership: one warp a group and
// column, so that no two threads add to one sum. Of 32 neighbouring snippets the first of each class adds up the values
// of all of them in order, and then to the class.
template <class T>
__global__ void average(ClassMeanParams p) {
  const std::int64_t columns = p.columns, g = blockIdx.x / columns, d = blockIdx.x % columns;
  const Range snippets = class_range(p.snippet_offsets, g, p.total);
  const Range those = class_range(p.class_offsets, g, p.classes);
  const T* values = p.values.as<T>();
  const std::int64_t* ids = p.ids;
  ClassSum* sums = class_sums(p);
  const std::int64_t begin = snippets.begin, end = snippets.end, low = those.begin, high = those.end;
  const int lane = threadIdx.x;
  for (std::int64_t k = low + lane; k < high; k += kWarp) sums[k * columns + d] = {0.0, 0.0};
  __syncwarp();
  std::int64_t odd = -1;
  for (std::int64_t base = begin; base < end; base += kWarp) {
    const std::int64_t i = base + lane;
    const bool known = i < end && ids[i] >= low && ids[i] < high;
    const unsigned others = __ballot_sync(kWholeWarp, i < end && !known);
    if (odd < 0 && others != 0) odd = base + __ffs(others) - 1;
    const long long id = known ? ids[i] : -1;
    const double value = known ? values[i * columns + d] : 0.0;
    double sum = 0, count = 0;
    bool leads = known;
    for (int other = 0; other < kWarp; ++other) {
      const long long other_id = __shfl_sync(kWholeWarp, id, other);
      const double other_value = __shfl_sync(kWholeWarp, value, other);
      if (other_id != id) continue;
      sum += other_value;
      count += 1.0;
      leads = leads && other >= lane;
    }
    if (leads) {
      sums[id * columns + d].sum += sum;
      sums[id * columns + d].count += count;
    }
    __syncwarp();
  }
  if (d == 0 && lane == 0) p.unknown[g] = odd;
  for (std::int64_t k = low + lane; k < high; k += kWarp) sums[k * columns + d].sum /= sums[k * columns + d].count;
  __syncwarp();
  for (std::int64_t i = begin + lane; i < end; i += kWarp) {
    const std::int64_t at = i * columns + d;
    p.out.as<T>()[at] = ids[i] >= low && ids[i] < high ? static_cast<T>(sums[ids[i] * columns + d].sum) : values[at];
  }
}

}  // namespace

void snippet_classes_cuda(const SnippetClassesParams& p, void* stream) {
  const char* op = "snippet_classes";
  const auto array = [&](int index) { return p.starts + index * (p.groups + 1); };
  launch_lay_out(op, p.offsets, p.lengths, p.groups, p.segments, array(kRows), array(kSnippets), stream);
  launch(op, classify, grid_1d(op, p.groups), dim3(kThreads), 0, stream, p);
  launch_scan_counts(op, array(kEntries), p.groups, stream);
  launch_scan_counts(op, p.class_offsets, p.groups, stream);
}

void class_rows_cuda(const ClassRowsParams& p, void* stream) {
  const char* op = "snippet_classes";
  launch(op, pack, grid_1d(op, p.groups), dim3(kThreads), 0, stream, p);
  const std::int64_t blocks = min64(4 * p.groups, 4096);  // the number of classes is known on the device only
  launch(op, list_rows, grid_1d(op, blocks), dim3(kThreads), 0, stream, p, blocks * kThreads / kWarp);
}

void class_mean_cuda(const ClassMeanParams& p, void* stream) {
  check_dtypes(p);
  with_singles("class_mean", "values", p.values.dtype, [&](auto zero) {
    launch("class_mean", average<decltype(zero)>, grid_1d("class_mean", p.groups * p.columns), dim3(kWarp), 0, stream,
           p);
  });
}

}  // namespace pyws
