#include "class_mean.h"
#include "launch.h"

namespace pyws {
namespace {

using Counter = unsigned long long;

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr unsigned kAll = 0xffffffffu;

// Inclusive sums of one number a thread over the block; `total` becomes the sum of all.
__device__ std::int64_t scan(std::int64_t x, std::int64_t* room, std::int64_t* total) {
  const int t = threadIdx.x;
  room[t] = x;
  __syncthreads();
  for (int step = 1; step < kThreads; step *= 2) {
    const std::int64_t other = t >= step ? room[t - step] : 0;
    __syncthreads();
    room[t] += other;
    __syncthreads();
  }
  const std::int64_t sum = room[t];
  *total = room[kThreads - 1];
  __syncthreads();
  return sum;
}

// Traffic: ids are written and read three times, the rest is one short array an interval, in L1 or L2. Ownership: one
// block a group; thread t owns snippets, rows and intervals t, t + 256, ...
//
//   1  snippets where a row changes its sign are flagged; running sums of the flags number the intervals
//   2  rep[k], the first interval of k's class, starts as 0. Each row in turn parts the classes: intervals of one class
//      and one sign agree on the least of them by atomicMin in best[sign][rep]. Keys of later rows are smaller, so that
//      nothing has to be cleared.
//   3  first intervals of classes that some row touches are numbered by running sums
__global__ void classify(const double* start, const double* end, const std::int64_t* offsets,
                         const std::int64_t* snippet_offsets, int geometry, double margin, std::int64_t slots,
                         std::int64_t* scratch, std::int64_t* all_ids, std::int64_t* classes, std::int64_t* all_first,
                         std::int64_t* all_size, std::int64_t* all_entries) {
  PYWS_SHARED(std::int64_t, room, kThreads);
  const std::int64_t g = blockIdx.x, slot = class_slot(offsets, g), rows = offsets[g + 1] - offsets[g];
  const std::int64_t length = snippet_offsets[g + 1] - snippet_offsets[g];
  std::int64_t* ids = all_ids + snippet_offsets[g];
  std::int64_t *bounds = scratch + slot, *rep = bounds + slots, *touching = rep + slots, *name = touching + slots;
  Counter* best = reinterpret_cast<Counter*>(name + slots);
  std::int64_t *first = all_first + slot, *size = all_size + slot, *entries = all_entries + slot;
  start += offsets[g];
  end += offsets[g];

  for (std::int64_t i = threadIdx.x; i < length; i += kThreads) ids[i] = i == 0;
  __syncthreads();
  for (std::int64_t r = threadIdx.x; r < rows; r += kThreads) {
    const RowSpans row = row_spans(geometry, margin, start[r], end[r], length);
    const std::int64_t places[4] = {row.left, row.start, row.end, row.right};
    for (int k = 0; k < 4; ++k)
      if (places[k] < length) atomicMax(reinterpret_cast<Counter*>(ids + places[k]), Counter{1});
  }
  __syncthreads();
  std::int64_t intervals = 0, total;
  for (std::int64_t base = 0; base < length; base += kThreads) {
    const std::int64_t i = base + threadIdx.x, flag = i < length ? ids[i] : 0;
    const std::int64_t interval = intervals + scan(flag, room, &total) - 1;
    if (i < length) ids[i] = interval;
    if (flag) bounds[interval] = i;
    intervals += total;
  }
  for (std::int64_t k = threadIdx.x; k < 4 * rows + 2; k += kThreads) {
    rep[k] = touching[k] = 0;
    for (int sign = 0; sign < 3; ++sign) best[sign * slots + k] = ~Counter{0};
  }
  if (threadIdx.x == 0) first[0] = -1;
  __syncthreads();

  for (std::int64_t r = 0; r < rows; ++r) {
    const RowSpans row = row_spans(geometry, margin, start[r], end[r], length);
    if (row.left == row.right) continue;  // for all threads alike
    for (std::int64_t k = threadIdx.x; k < intervals; k += kThreads)
      atomicMin(best + (row_sign(row, bounds[k]) + 1) * slots + rep[k], static_cast<Counter>(rows - r) << 32 | k);
    __syncthreads();
    for (std::int64_t k = threadIdx.x; k < intervals; k += kThreads) {
      const int sign = row_sign(row, bounds[k]);
      rep[k] = static_cast<std::int64_t>(best[(sign + 1) * slots + rep[k]] & 0xffffffffu);
      touching[k] += sign != 0;
    }
    __syncthreads();
  }

  std::int64_t named = 1;
  for (std::int64_t base = 0; base < intervals; base += kThreads) {
    const std::int64_t k = base + threadIdx.x;
    const bool leads = k < intervals && rep[k] == k;
    const bool counts = leads && touching[k] > 0;
    const std::int64_t rank = scan(counts, room, &total);
    if (leads) {
      name[k] = counts ? named - 1 + rank : 0;
      first[name[k]] = bounds[k];
      entries[name[k]] = touching[k];
    }
    named += total;
  }
  if (threadIdx.x == 0) classes[g] = named;
  __syncthreads();
  for (std::int64_t k = threadIdx.x; k < intervals; k += kThreads) {
    const std::int64_t until = k + 1 < intervals ? bounds[k + 1] : length;
    atomicAdd(reinterpret_cast<Counter*>(size + name[rep[k]]), static_cast<Counter>(until - bounds[k]));
  }
  for (std::int64_t i = threadIdx.x; i < length; i += kThreads) ids[i] = name[rep[ids[i]]];
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

// Traffic: the bounds of a group's rows are read once for each of its classes, coalesced, from L2; each entry is
// written once. Ownership: one warp a class; lanes look at 32 rows at a time and line up by the ballot.
__global__ void list_rows(const double* start, const double* end, const std::int64_t* offsets,
                          const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                          const std::int64_t* first, const std::int64_t* class_offsets, const std::int64_t* row_offsets,
                          std::int64_t warps, std::int64_t* rows, std::int8_t* signs) {
  const int lane = threadIdx.x % kWarp;
  const std::int64_t warp = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  for (std::int64_t c = warp; c < class_offsets[groups]; c += warps) {
    const std::int64_t g = group_of(class_offsets, groups, c);
    const std::int64_t length = snippet_offsets[g + 1] - snippet_offsets[g];
    std::int64_t next = row_offsets[c];
    if (next == row_offsets[c + 1]) continue;
    for (std::int64_t base = offsets[g]; base < offsets[g + 1]; base += kWarp) {
      const std::int64_t r = base + lane;
      int sign = 0;
      if (r < offsets[g + 1]) sign = row_sign(row_spans(geometry, margin, start[r], end[r], length), first[c]);
      const unsigned touching = __ballot_sync(kAll, sign != 0);
      if (sign != 0) {
        const std::int64_t at = next + __popc(touching & ((1u << lane) - 1));
        rows[at] = r;
        signs[at] = static_cast<std::int8_t>(sign);
      }
      next += __popc(touching);
    }
  }
}

// Traffic: values and ids are read twice, means written once; sums and sizes live in L1 or L2. Ownership: one warp a
// group and column, so that no two threads add to one sum. Of 32 neighbouring snippets the first of each class adds up
// the values of all of them in order, and then to the class.
template <class T>
__global__ void average(const T* values, const std::int64_t* ids, const std::int64_t* snippet_offsets,
                        const std::int64_t* class_offsets, std::int64_t total, std::int64_t classes,
                        std::int64_t columns, double* sums, std::int64_t* sizes, T* out) {
  const std::int64_t g = blockIdx.x / columns, d = blockIdx.x % columns;
  const Range snippets = group_range(snippet_offsets, g, total), those = group_range(class_offsets, g, classes);
  const std::int64_t begin = snippets.begin, end = snippets.end, low = those.begin, high = those.end;
  const int lane = threadIdx.x;
  for (std::int64_t base = begin; base < end; base += kWarp) {
    const std::int64_t i = base + lane;
    const bool known = i < end && ids[i] >= low && ids[i] < high;
    const long long id = known ? ids[i] : -1;
    const double value = known ? values[i * columns + d] : 0.0;
    double sum = 0;
    int size = 0;
    bool leads = known;
    for (int other = 0; other < kWarp; ++other) {
      const long long other_id = __shfl_sync(kAll, id, other);
      const double other_value = __shfl_sync(kAll, value, other);
      if (other_id != id) continue;
      sum += other_value;
      ++size;
      leads = leads && other >= lane;
    }
    if (leads) {
      sums[id * columns + d] += sum;
      sizes[id * columns + d] += size;
    }
    __syncwarp();
  }
  for (std::int64_t i = begin + lane; i < end; i += kWarp)
    out[i * columns + d] = class_average(values[i * columns + d], ids[i], low, high, columns, d, sums, sizes);
}

}  // namespace

void snippet_classes_cuda(const double* start, const double* end, const std::int64_t* offsets,
                          const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                          std::int64_t slots, std::int64_t* scratch, std::int64_t* ids, std::int64_t* classes,
                          std::int64_t* first, std::int64_t* size, std::int64_t* entries, void* stream) {
  launch("snippet_classes", classify, grid_1d("snippet_classes", groups), dim3(kThreads), 0, stream, start, end,
         offsets, snippet_offsets, geometry, margin, slots, scratch, ids, classes, first, size, entries);
}

void class_rows_cuda(const double* start, const double* end, const std::int64_t* offsets,
                     const std::int64_t* snippet_offsets, std::int64_t groups, int geometry, double margin,
                     const std::int64_t* first, const std::int64_t* class_offsets, const std::int64_t* row_offsets,
                     std::int64_t* /*next*/, std::int64_t* rows, std::int8_t* signs, void* stream) {
  if (groups == 0) return;
  const std::int64_t blocks = min64(4 * groups, 4096);  // the number of classes is known on the device only
  launch("snippet_classes", list_rows, grid_1d("snippet_classes", blocks), dim3(kThreads), 0, stream, start, end,
         offsets, snippet_offsets, groups, geometry, margin, first, class_offsets, row_offsets,
         blocks * kThreads / kWarp, rows, signs);
}

void class_mean_cuda(int dtype, const void* values, const std::int64_t* ids, const std::int64_t* snippet_offsets,
                     const std::int64_t* class_offsets, std::int64_t groups, std::int64_t total, std::int64_t classes,
                     std::int64_t columns, double* sums, std::int64_t* sizes, void* out, void* stream) {
  const auto run = [&](const auto* typed, auto* result) {
    using T = std::remove_pointer_t<decltype(result)>;
    launch("class_mean", average<T>, grid_1d("class_mean", groups * columns), dim3(kWarp), 0, stream, typed, ids,
           snippet_offsets, class_offsets, total, classes, columns, sums, sizes, result);
  };
  dtype == kFloat32 ? run(static_cast<const float*>(values), static_cast<float*>(out))
                    : run(static_cast<const double*>(values), static_cast<double*>(out));
}

}  // namespace pyws
