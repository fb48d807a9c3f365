#include "slic/slic.h"

#include <algorithm>

#include "common/parallel.h"
#include "slic/slic_components.h"
#include "slic/slic_simd.h"

namespace pyws {
namespace {

using std::int32_t;
using std::int64_t;
using std::uint32_t;
using std::uint64_t;

struct Size {
  int64_t height, width, rows, columns;
  int64_t top(int64_t row) const { return cell_start(row, height, rows); }
  int64_t left(int64_t column) const { return cell_start(column, width, columns); }
};

// The scratch memory of a frame.
struct Frame {
  SlicSums* sums;       // (cells, slots)
  SlicCenter* centers;  // (clusters)
  uint32_t *la, *bx;    // (pixels + tail)
  int32_t* left;        // (width)
  int64_t* moved;       // (rows of the grid)
  int64_t* components;  // scratch of slic_components
};

Frame lay_out(const Size& size, int64_t* scratch) {
  const int64_t clusters = size.rows * size.columns, pixels = size.height * size.width;
  const auto take = [&](int64_t bytes) {
    int64_t* begin = scratch;
    scratch += ceil_div(bytes, 8);
    return begin;
  };
  Frame frame;
  frame.sums = reinterpret_cast<SlicSums*>(take(clusters * kSlicSlots * 48));
  frame.centers = reinterpret_cast<SlicCenter*>(take(clusters * 20));
  frame.la = reinterpret_cast<uint32_t*>(take(4 * (pixels + kSlicTail)));
  frame.bx = reinterpret_cast<uint32_t*>(take(4 * (pixels + kSlicTail)));
  frame.left = reinterpret_cast<int32_t*>(take(4 * size.width));
  frame.moved = take(8 * size.rows);
  frame.components = take(8 * slic_components_scratch(size.height, size.width));
  return frame;
}

// One frame, its phases split over threads. They follow each other at once, so that the threads do not fall asleep in
// between: it is the work of the whole frame that must be worth a parallel region.
struct Work {
  Size size;
  SlicScale scale;
  const SlicLoops& loops;
  const std::uint8_t* mask;
  int32_t* labels;
  double nanoseconds;
  int threads;

  template <class Body>
  void split(int64_t units, const Body& body) const {
    parallel_for(units, nanoseconds / static_cast<double>(units), threads, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) body(unit);
    });
  }
};

// ---- clusters

void find_colors(const Work& work, const Frame& frame, DType dtype, const char* image, bool interleaved, int64_t bytes,
                 const int32_t* tables) {
  const Size& size = work.size;
  for (int64_t column = 0; column < size.columns; ++column) {
    const int32_t origin = slic_position(work.scale.position, size.left(column));
    for (int64_t x = size.left(column); x < size.left(column + 1); ++x)
      frame.left[x] = slic_position(work.scale.position, x) - origin;
  }
  const int step = interleaved ? 3 : 1;
  const int64_t channel = interleaved ? bytes : size.height * size.width * bytes;
  work.split(size.height, [&](int64_t y) {
    const char* red = image + y * size.width * step * bytes;
    work.loops.colors(dtype, red, red + channel, red + 2 * channel, step, size.width, tables, work.scale, frame.left,
                      frame.la + y * size.width, frame.bx + y * size.width);
  });
}

// Calls body(cell, index) for each cell of a row of the grid.
template <class Body>
void each_cell(const Work& work, const Frame& frame, int64_t row, bool nearest, const Body& body) {
  const Size& size = work.size;
  const int64_t top = size.top(row);
  for (int64_t column = 0; column < size.columns; ++column) {
    const int64_t left = size.left(column), first = top * size.width + left;
    SlicCandidates candidates;
    for (int slot = 0; nearest && slot < kSlicSlots; ++slot)
      slic_candidate(frame.centers, row, column, size.rows, size.columns, slic_position(work.scale.position, left),
                     slot, &candidates);
    const SlicCell cell = {frame.la + first,
                           frame.bx + first,
                           work.mask ? work.mask + first : nullptr,
                           size.width,
                           left,
                           size.left(column + 1) - left,
                           top,
                           size.top(row + 1),
                           work.scale.position,
                           nearest ? &candidates : nullptr};
    body(cell, row * size.columns + column);
  }
}

// Says whether a centre has moved; one without pixels stays.
bool move_centers(const Work& work, const Frame& frame, bool first) {
  const Size& size = work.size;
  work.split(size.rows, [&](int64_t row) {
    frame.moved[row] = 0;
    for (int64_t k = row * size.columns; k < (row + 1) * size.columns; ++k) {
      const SlicSums total = slic_cluster(frame.sums, k, size.rows, size.columns);
      if (first) frame.centers[k] = {{0, 0, 0}, kSlicNowhere, 0};
      if (total.pixels == 0) continue;
      const SlicCenter center = slic_center(total, work.scale.position);
      frame.moved[row] |= std::memcmp(&center, frame.centers + k, sizeof(center)) != 0;
      frame.centers[k] = center;
    }
  });
  return std::any_of(frame.moved, frame.moved + size.rows, [](int64_t moved) { return moved != 0; });
}

void label_clusters(const Work& work, const Frame& frame, bool nearest) {
  const int64_t columns = work.size.columns;
  work.split(work.size.rows, [&](int64_t row) {
    each_cell(work, frame, row, nearest, [&](const SlicCell& cell, int64_t k) {
      int32_t label[kSlicLabels];
      for (int64_t slot = 0; slot < kSlicSlots; ++slot)
        label[slot] = static_cast<int32_t>(k + (slot / 3 - 1) * columns + slot % 3 - 1);
      for (int slot = kSlicOutside; slot < kSlicLabels; ++slot) label[slot] = -1;
      work.loops.label(&cell, label, work.labels + (cell.la - frame.la));
    });
  });
}

void find_clusters(const Work& work, const Frame& frame, int64_t iterations) {
  for (int64_t iteration = 1; iteration < iterations; ++iteration) {
    const bool first = iteration == 1;
    work.split(work.size.rows, [&](int64_t row) {
      each_cell(work, frame, row, !first,
                [&](const SlicCell& cell, int64_t k) { work.loops.sum(&cell, frame.sums + k * kSlicSlots); });
    });
    if (!move_centers(work, frame, first)) break;  // and never would again
  }
  label_clusters(work, frame, iterations > 1);
}

}  // namespace

void slic_cpu(const SlicParams& p, int threads) {
  check_dtypes(p);
  const int64_t pixels = p.height * p.width, scratch_size = slic_scratch(p.height, p.width, p.rows, p.columns);
  const DType dtype = p.images.dtype;
  const int64_t bytes = slic_bytes(dtype);
  const Size size = {p.height, p.width, p.rows, p.columns};
  const SlicScale scale = slic_scale(p.compactness, p.height, p.width, p.rows, p.columns);
  const double nanoseconds = static_cast<double>(pixels) * (3.0 + 2.0 * static_cast<double>(min64(p.iterations, 100)));
  const SlicLoops& loops = slic_loops();
  const auto run = [&](int64_t b, int64_t slot, int inner) {
    const Frame frame = lay_out(size, p.scratch + slot * scratch_size);
    const Work work = {size,        scale, loops, p.mask ? p.mask.data + b * pixels : nullptr, p.labels + b * pixels,
                       nanoseconds, inner};
    find_colors(work, frame, dtype, p.images.as<char>() + b * 3 * pixels * bytes, p.interleaved, bytes, p.tables);
    find_clusters(work, frame, p.iterations);
    slic_components(loops, p.height, p.width, frame.la, frame.bx, p.min_size, frame.components, work.labels,
                    nanoseconds, inner);
  };
  // Whole frames to the threads where there are enough, the rest one by one.
  const int64_t together = min64(p.slots, threads) < 2 ? 0 : p.batch - p.batch % min64(p.slots, threads);
  parallel_for(together ? p.slots : 0, nanoseconds, threads, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot)
      for (int64_t b = slot; b < together; b += p.slots) run(b, slot, 1);
  });
  for (int64_t b = together; b < p.batch; ++b) run(b, 0, threads);
}

}  // namespace pyws
