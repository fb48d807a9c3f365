#include "slic.h"

#include "parallel.h"
#include "slic_simd.h"

namespace pyws {
namespace {

using std::int32_t;
using std::int64_t;
using std::uint32_t;
using std::uint64_t;

constexpr int64_t kBand = 32;  // rows whose components are found together

struct Size {
  int64_t height, width, rows, columns;
  int64_t top(int64_t row) const { return cell_start(row, height, rows); }
  int64_t left(int64_t column) const { return cell_start(column, width, columns); }
};

// A component, kept at its first run in raster order; other runs lead there.
struct Component {
  int64_t color[3];
  int32_t pixels, mean[3];  // the mean is that of the round
};

struct Edge {
  int32_t a, b;
};

// The scratch memory of a frame. Preferences take the place of the features, which have been used by then. Most of what
// is sized by pixels for the worst case is never touched.
struct Frame {
  SlicSums* sums;                 // (cells, slots)
  SlicCenter* centers;            // (clusters)
  uint32_t *la, *bx;              // (pixels + tail)
  Edge* edges_of_rows;            // (height, 2 width)
  Component* components;          // (runs)
  int32_t *parent, *start;        // (runs)
  int32_t* left;                  // (width)
  int64_t *first_run, *edges_of;  // (height + 1), (bands)

  Edge* edges(int64_t y, int64_t width) const { return edges_of_rows + 2 * y * width; }
  uint64_t* preference() const { return reinterpret_cast<uint64_t*>(la); }
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
  frame.first_run = take(8 * (size.height + 1));
  frame.edges_of = take(8 * ceil_div(size.height, kBand));
  frame.left = reinterpret_cast<int32_t*>(take(4 * size.width));
  frame.la = reinterpret_cast<uint32_t*>(take(4 * (pixels + kSlicTail)));
  frame.bx = reinterpret_cast<uint32_t*>(take(4 * (pixels + kSlicTail)));
  frame.edges_of_rows = reinterpret_cast<Edge*>(take(16 * pixels));
  frame.components = reinterpret_cast<Component*>(take(40 * pixels));
  frame.parent = reinterpret_cast<int32_t*>(take(4 * pixels));
  frame.start = reinterpret_cast<int32_t*>(take(4 * pixels));
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

void find_colors(const Work& work, const Frame& frame, int dtype, const char* image, int64_t bytes,
                 const int32_t* tables) {
  const Size& size = work.size;
  for (int64_t column = 0; column < size.columns; ++column) {
    const int32_t origin = slic_position(work.scale.position, size.left(column));
    for (int64_t x = size.left(column); x < size.left(column + 1); ++x)
      frame.left[x] = slic_position(work.scale.position, x) - origin;
  }
  const int64_t plane = size.height * size.width * bytes;
  work.split(size.height, [&](int64_t y) {
    const char* red = image + y * size.width * bytes;
    work.loops.colors(dtype, red, red + plane, red + 2 * plane, size.width, tables, work.scale, frame.left,
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
  bool moved = false;
  for (int64_t k = 0; k < size.rows * size.columns; ++k) {
    const SlicSums total = slic_cluster(frame.sums, k, size.rows, size.columns);
    if (first) frame.centers[k] = {{0, 0, 0}, kSlicNowhere, 0};
    if (total.pixels == 0) continue;
    const SlicCenter center = slic_center(total, work.scale.position);
    moved |= std::memcmp(&center, frame.centers + k, sizeof(center)) != 0;
    frame.centers[k] = center;
  }
  return moved;
}

void label_clusters(const Work& work, const Frame& frame, bool nearest) {
  const int64_t columns = work.size.columns;
  work.split(work.size.rows, [&](int64_t row) {
    each_cell(work, frame, row, nearest, [&](const SlicCell& cell, int64_t k) {
      int32_t label[kSlicSlots + 1];
      for (int64_t slot = 0; slot < kSlicSlots; ++slot)
        label[slot] = static_cast<int32_t>(k + (slot / 3 - 1) * columns + slot % 3 - 1);
      label[kSlicOutside] = -1;
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

// ---- components

int32_t root(const int32_t* parent, int32_t run) {
  while (parent[run] != run) run = parent[run];
  return run;
}

// As root(), and halves the way to it.
int32_t shorten(int32_t* parent, int32_t run) {
  while (parent[run] != run) run = parent[run] = parent[parent[run]];
  return run;
}

// The component that starts first takes in the other.
void join(const Frame& frame, int32_t a, int32_t b) {
  a = shorten(frame.parent, a);
  b = shorten(frame.parent, b);
  if (a == b) return;
  const int32_t first = a < b ? a : b, later = a < b ? b : a;
  frame.parent[later] = first;
  Component &into = frame.components[first], &from = frame.components[later];
  for (int i = 0; i < 3; ++i) into.color[i] += from.color[i];
  into.pixels += from.pixels;
}

// Calls body(a, b) for pairs of a run of row y and one of the row above that touch.
template <class Body>
void each_touch(const Work& work, const Frame& frame, int64_t y, const Body& body) {
  const int64_t last = frame.first_run[y], end = frame.first_run[y + 1];
  const int64_t width = work.size.width;
  for (int64_t a = frame.first_run[y - 1], b = last; a < last && b < end;) {
    body(static_cast<int32_t>(a), static_cast<int32_t>(b));
    const int64_t a_end = a + 1 < last ? frame.start[a + 1] : width;
    const int64_t b_end = b + 1 < end ? frame.start[b + 1] : width;
    a += a_end <= b_end;
    b += b_end <= a_end;
  }
}

int32_t label_of(const Work& work, const Frame& frame, int64_t y, int64_t run) {
  return work.labels[y * work.size.width + frame.start[run]];
}

void join_row_above(const Work& work, const Frame& frame, int64_t y) {
  each_touch(work, frame, y, [&](int32_t a, int32_t b) {
    const int32_t label = label_of(work, frame, y, b);
    if (label >= 0 && label == label_of(work, frame, y - 1, a)) join(frame, a, b);
  });
}

// Runs, each a component of its own, then joined within bands and across their seams.
void find_components(const Work& work, const Frame& frame) {
  const int64_t height = work.size.height, width = work.size.width, bands = ceil_div(height, kBand);
  work.split(height,
             [&](int64_t y) { frame.first_run[y + 1] = work.loops.runs(work.labels + y * width, width, nullptr); });
  frame.first_run[0] = 0;
  for (int64_t y = 0; y < height; ++y) frame.first_run[y + 1] += frame.first_run[y];
  work.split(bands, [&](int64_t band) {
    const int64_t top = band * kBand, bottom = min64(height, top + kBand);
    for (int64_t y = top; y < bottom; ++y) {
      const int64_t first = frame.first_run[y], end = frame.first_run[y + 1];
      work.loops.runs(work.labels + y * width, width, frame.start + first);
      for (int64_t run = first; run < end; ++run) {
        const int64_t from = frame.start[run], to = run + 1 < end ? frame.start[run + 1] : width;
        frame.parent[run] = static_cast<int32_t>(run);
        Component& component = frame.components[run];
        work.loops.color(frame.la + y * width + from, frame.bx + y * width + from, to - from, component.color);
        component.pixels = static_cast<int32_t>(to - from);
      }
      if (y > top) join_row_above(work, frame, y);
    }
  });
  for (int64_t y = kBand; y < height; y += kBand) join_row_above(work, frame, y);
}

// The pairs of neighbours of which one is small. Joining makes no others.
void find_edges(const Work& work, const Frame& frame, int64_t min_size) {
  const int64_t height = work.size.height;
  work.split(ceil_div(height, kBand), [&](int64_t band) {
    const int64_t top = band * kBand, bottom = min64(height, top + kBand);
    Edge* edges = frame.edges(top, work.size.width);
    int64_t count = 0;
    const auto add = [&](int64_t y, int64_t above, int32_t a, int32_t b) {
      if (label_of(work, frame, above, a) < 0 || label_of(work, frame, y, b) < 0) return;
      a = root(frame.parent, a);
      b = root(frame.parent, b);
      if (a != b && (frame.components[a].pixels < min_size || frame.components[b].pixels < min_size))
        edges[count++] = {a, b};
    };
    for (int64_t y = top; y < bottom; ++y) {
      for (int64_t run = frame.first_run[y] + 1; run < frame.first_run[y + 1]; ++run)
        add(y, y, static_cast<int32_t>(run - 1), static_cast<int32_t>(run));
      if (y > 0) each_touch(work, frame, y, [&](int32_t a, int32_t b) { add(y, y - 1, a, b); });
    }
    frame.edges_of[band] = count;
  });
}

template <class Body>
void each_edge(const Work& work, const Frame& frame, const Body& body) {
  for (int64_t band = 0; band < ceil_div(work.size.height, kBand); ++band) {
    const Edge* edges = frame.edges(band * kBand, work.size.width);
    for (int64_t i = 0; i < frame.edges_of[band]; ++i) {
      body(edges[i].a, edges[i].b);
      body(edges[i].b, edges[i].a);
    }
  }
}

// Edges between today's components, less those that no small one has; false where none is left.
bool renew_edges(const Work& work, const Frame& frame, int64_t min_size) {
  int64_t all = 0;
  for (int64_t band = 0; band < ceil_div(work.size.height, kBand); ++band) {
    Edge* edges = frame.edges(band * kBand, work.size.width);
    int64_t kept = 0;
    for (int64_t i = 0; i < frame.edges_of[band]; ++i) {
      const int32_t a = shorten(frame.parent, edges[i].a), b = shorten(frame.parent, edges[i].b);
      if (a != b && (frame.components[a].pixels < min_size || frame.components[b].pixels < min_size))
        edges[kept++] = {a, b};
    }
    frame.edges_of[band] = kept;
    all += kept;
  }
  return all > 0;
}

void join_small(const Work& work, const Frame& frame, int64_t min_size) {
  constexpr uint64_t kUnknown = 0, kNone = ~uint64_t{0};
  uint64_t* preference = frame.preference();
  find_edges(work, frame, min_size);
  while (renew_edges(work, frame, min_size)) {
    each_edge(work, frame, [&](int32_t a, int32_t) { preference[a] = kUnknown; });
    each_edge(work, frame, [&](int32_t a, int32_t) {
      if (preference[a] != kUnknown) return;
      Component& component = frame.components[a];
      for (int i = 0; i < 3; ++i) component.mean[i] = slic_mean(component.color[i], component.pixels);
      preference[a] = kNone;
    });
    each_edge(work, frame, [&](int32_t a, int32_t b) {
      const Component &one = frame.components[a], &other = frame.components[b];
      if (one.pixels >= min_size) return;
      const uint64_t choice = slic_preference(one.mean, other.mean, static_cast<uint32_t>(b));
      if (choice < preference[a]) preference[a] = choice;
    });
    each_edge(work, frame, [&](int32_t a, int32_t) {
      if (preference[a] == kNone) return;
      join(frame, a, static_cast<int32_t>(preference[a] & 0xffffffffu));
      preference[a] = kNone;
    });
  }
}

void number_components(const Work& work, const Frame& frame) {
  const int64_t height = work.size.height, width = work.size.width;
  int32_t count = 0;
  int32_t* number = reinterpret_cast<int32_t*>(frame.components);  // component r's own room is no longer needed
  for (int64_t y = 0; y < height; ++y)
    for (int64_t run = frame.first_run[y]; run < frame.first_run[y + 1]; ++run)
      number[run] = label_of(work, frame, y, run) < 0 ? -1
                    : frame.parent[run] == static_cast<int32_t>(run)
                        ? count++
                        : number[root(frame.parent, static_cast<int32_t>(run))];
  work.split(height, [&](int64_t y) {
    for (int64_t run = frame.first_run[y]; run < frame.first_run[y + 1]; ++run) {
      const int64_t to = run + 1 < frame.first_run[y + 1] ? frame.start[run + 1] : width;
      for (int64_t x = frame.start[run]; x < to; ++x) work.labels[y * width + x] = number[run];
    }
  });
}

}  // namespace

void slic_cpu(int dtype, const void* images, const std::uint8_t* mask, int64_t batch, int64_t height, int64_t width,
              int64_t rows, int64_t columns, double compactness, int64_t iterations, int64_t min_size,
              const int32_t* tables, int64_t slots, int64_t* scratch, int32_t* labels, int threads) {
  const int64_t pixels = height * width, room = slic_scratch(height, width, rows, columns);
  const int64_t bytes = dtype == kSlicUint8 ? 1 : dtype == kFloat64 ? 8 : dtype == kFloat32 ? 4 : 2;
  const Size size = {height, width, rows, columns};
  const SlicScale scale = slic_scale(compactness, height, width, rows, columns);
  const double nanoseconds = static_cast<double>(pixels) * (3.0 + 2.0 * static_cast<double>(min64(iterations, 100)));
  const SlicLoops& loops = slic_loops();
  const auto run = [&](int64_t b, int64_t slot, int inner) {
    const Frame frame = lay_out(size, scratch + slot * room);
    const Work work = {size, scale, loops, mask ? mask + b * pixels : nullptr, labels + b * pixels, nanoseconds, inner};
    find_colors(work, frame, dtype, static_cast<const char*>(images) + b * 3 * pixels * bytes, bytes, tables);
    find_clusters(work, frame, iterations);
    find_components(work, frame);
    if (min_size > 1) join_small(work, frame, min_size);
    number_components(work, frame);
  };
  // Whole frames to the threads where there are enough, the rest one by one.
  const int64_t together = min64(slots, threads) < 2 ? 0 : batch - batch % min64(slots, threads);
  parallel_for(together ? slots : 0, nanoseconds, threads, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot)
      for (int64_t b = slot; b < together; b += slots) run(b, slot, 1);
  });
  for (int64_t b = together; b < batch; ++b) run(b, 0, threads);
}

}  // namespace pyws
