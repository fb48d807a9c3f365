#include "slic/slic_components.h"

#include "common/parallel.h"
#include "components/forest.h"

namespace pyws {
namespace {

using std::int32_t;
using std::int64_t;
using std::uint32_t;
using std::uint64_t;

constexpr int64_t kBand = 32;  // rows that one thread works on together
constexpr uint64_t kNone = ~uint64_t{0};

struct Component {
  int64_t color[3];
  int32_t pixels;
  int32_t parent;        // itself, or an earlier component that it has joined
  std::int16_t mean[3];  // colour, by which others choose
  bool known;            // the mean is up to date
};

struct Edge {
  int32_t a, b;
};

// Most of what is sized by pixels for the worst case is never touched. Runs are those of one label in a row, in raster
// order; components are numbered by their first run.
struct Parts {
  int64_t height, width;
  const uint32_t *la, *bx;
  int32_t* labels;
  int64_t* first_run;     // (height + 1)
  int64_t* edges_of;      // (bands)
  SlicRuns runs;          // (runs)
  int32_t* of;            // (runs): an earlier run of the same component or itself, later the component; -1 outside
  Edge* edges;            // (height, 2 width), in the place of the runs' labels and colours
  Component* components;  // (components)
  uint64_t* preference;   // (components), in the place of the features
  int32_t count;          // count of components

  double nanoseconds;
  int threads;

  int64_t bands() const { return ceil_div(height, kBand); }
  bool small(int32_t a, int64_t min_size) const { return components[a].pixels < min_size; }

  // Calls body(unit). Phases follow each other at once, so that the threads do not fall asleep in between: it is the
  // work of the whole frame that must be worth a parallel region.
  template <class Body>
  void split(int64_t units, const Body& body) const {
    parallel_for(units, nanoseconds / static_cast<double>(units), threads, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) body(unit);
    });
  }
};

Parts lay_out(int64_t height, int64_t width, uint32_t* la, uint32_t* bx, int64_t* scratch, int32_t* labels) {
  const int64_t pixels = height * width;
  Parts parts;
  parts.height = height;
  parts.width = width;
  parts.la = la;
  parts.bx = bx;
  parts.labels = labels;
  parts.first_run = scratch;
  parts.edges_of = parts.first_run + height + 1;
  parts.components = reinterpret_cast<Component*>(parts.edges_of + height);
  parts.preference = reinterpret_cast<uint64_t*>(la);  // once the features have been used
  parts.edges = reinterpret_cast<Edge*>(reinterpret_cast<int64_t*>(parts.components) + 5 * pixels);
  auto* plane = reinterpret_cast<int32_t*>(parts.edges);
  auto* sums = reinterpret_cast<uint32_t*>(plane + pixels);
  parts.runs = {plane + 4 * pixels, plane, sums, sums + pixels, sums + 2 * pixels};
  parts.of = plane + 5 * pixels;
  return parts;
}

// ---- runs

// Calls body(a, b) for each pair of a run of row y - 1 and one of row y that touch.
template <class Body>
void each_touch(const Parts& parts, int64_t y, const Body& body) {
  const int64_t last = parts.first_run[y];
  for (int64_t a = parts.first_run[y - 1], b = last; a < last;) {
    body(static_cast<int32_t>(a), static_cast<int32_t>(b));
    const int32_t a_end = parts.runs.end[a], b_end = parts.runs.end[b];
    a += a_end <= b_end;
    b += b_end <= a_end;
  }
}

void join_row_above(const Parts& parts, int64_t y) {
  each_touch(parts, y, [&](int32_t a, int32_t b) {
    if (parts.runs.label[a] != parts.runs.label[b] || parts.runs.label[b] < 0) return;
    join_sets(a, b, [&](int32_t run) -> int32_t& { return parts.of[run]; });
  });
}

// ---- components

// From runs that lead to earlier ones to components and what they hold.
void number_components(Parts* parts) {
  const SlicRuns& runs = parts->runs;
  parts->count = 0;
  for (int64_t y = 0; y < parts->height; ++y) {
    int32_t begin = 0;
    uint32_t before[3] = {0, 0, 0};
    for (int64_t run = parts->first_run[y]; run < parts->first_run[y + 1]; ++run) {
      const int32_t size = runs.end[run] - begin;
      const uint32_t sums[3] = {runs.l[run], runs.a[run], runs.b[run]};
      int32_t color[3];
      for (int i = 0; i < 3; ++i) {
        color[i] = static_cast<int32_t>(sums[i] - before[i]) / 4;
        before[i] = sums[i];
      }
      begin = runs.end[run];
      int32_t* of = parts->of + run;
      if (runs.label[run] < 0) {
        *of = -1;
        continue;
      }
      const bool starts = *of == run;
      *of = starts ? parts->count++ : parts->of[*of];
      Component* component = parts->components + *of;
      if (starts) *component = {{0, 0, 0}, 0, *of, {0, 0, 0}, false};
      for (int i = 0; i < 3; ++i) component->color[i] += color[i];
      component->pixels += size;
    }
  }
}

void find_components(const SlicLoops& loops, Parts* parts) {
  parts->split(parts->height, [&](int64_t y) {
    parts->first_run[y + 1] = loops.count_runs(parts->labels + y * parts->width, parts->width);
  });
  parts->first_run[0] = 0;
  for (int64_t y = 0; y < parts->height; ++y) parts->first_run[y + 1] += parts->first_run[y];
  parts->split(parts->bands(), [&](int64_t band) {
    const int64_t top = band * kBand, bottom = min64(parts->height, top + kBand);
    for (int64_t y = top; y < bottom; ++y) {
      const int64_t first = parts->first_run[y], pixel = y * parts->width;
      const SlicRuns& runs = parts->runs;
      loops.find_runs(parts->labels + pixel, parts->la + pixel, parts->bx + pixel, parts->width,
                      {runs.end + first, runs.label + first, runs.l + first, runs.a + first, runs.b + first});
      for (int64_t run = first; run < parts->first_run[y + 1]; ++run) parts->of[run] = static_cast<int32_t>(run);
      if (y > top) join_row_above(*parts, y);
    }
  });
  for (int64_t y = kBand; y < parts->height; y += kBand) join_row_above(*parts, y);
  number_components(parts);
}

// ---- small ones

// The pairs of neighbours of which one is small, most of them once. Joining makes no others.
void find_edges(const Parts& parts, int64_t min_size) {
  parts.split(parts.bands(), [&](int64_t band) {
    constexpr uint32_t kLately = 512;
    uint64_t lately[kLately + 1] = {};  // what was found, by a hash; the last for all that is no edge
    Edge* edges = parts.edges + 2 * band * kBand * parts.width;
    int64_t count = 0;
    const auto add = [&](int32_t run_a, int32_t run_b) {  // without branches, which nothing could foretell
      const int32_t one = parts.of[run_a], other = parts.of[run_b];
      const bool inside = (one | other) >= 0;
      const bool joins = parts.small(inside ? one : 0, min_size) + parts.small(inside ? other : 0, min_size) > 0;
      const bool counts = inside & joins & (one != other);
      const uint32_t a = static_cast<uint32_t>(one < other ? one : other);
      const uint32_t b = static_cast<uint32_t>(one < other ? other : one);
      const uint64_t key = uint64_t{a} << 32 | b;
      uint64_t& last = lately[counts ? (a * 37u + b) % kLately : kLately];
      edges[count] = {static_cast<int32_t>(a), static_cast<int32_t>(b)};
      count += counts & (last != key);
      last = key;
    };
    for (int64_t y = band * kBand; y < min64(parts.height, (band + 1) * kBand); ++y) {
      for (int64_t run = parts.first_run[y] + 1; run < parts.first_run[y + 1]; ++run)
        add(static_cast<int32_t>(run - 1), static_cast<int32_t>(run));
      if (y > 0) each_touch(parts, y, add);
    }
    parts.edges_of[band] = count;
  });
}

// Where a component leads, for forest.h.
struct Leads {
  Component* components;
  int32_t& operator()(int32_t a) const { return components[a].parent; }
};

// The component that starts first takes in the other.
void join(const Parts& parts, int32_t a, int32_t b) {
  const Joined<int32_t> joined = join_sets(a, b, Leads{parts.components});
  if (joined.into == joined.from) return;
  Component &into = parts.components[joined.into], &from = parts.components[joined.from];
  into.known = false;
  for (int i = 0; i < 3; ++i) into.color[i] += from.color[i];
  into.pixels += from.pixels;
}

template <class Body>
void each_edge(const Parts& parts, const Body& body) {
  for (int64_t band = 0; band < parts.bands(); ++band) {
    const Edge* edges = parts.edges + 2 * band * kBand * parts.width;
    for (int64_t i = 0; i < parts.edges_of[band]; ++i) body(edges[i]);
  }
}

// A component that is small may prefer what it is offered.
void prefer(const Parts& parts, int64_t min_size, int32_t a, uint64_t choice) {
  if (parts.small(a, min_size)) parts.preference[a] = choice < parts.preference[a] ? choice : parts.preference[a];
}

void find_mean(Component* component) {
  for (int i = 0; i < 3; ++i)
    component->mean[i] = static_cast<std::int16_t>(slic_mean(component->color[i], component->pixels));
  component->known = true;
}

// Edges between today's components, less those that no small one has.
void renew_edges(const Parts& parts, int64_t min_size) {
  for (int64_t band = 0; band < parts.bands(); ++band) {
    Edge* edges = parts.edges + 2 * band * kBand * parts.width;
    int64_t kept = 0;
    for (int64_t i = 0; i < parts.edges_of[band]; ++i) {
      const int32_t a = find_first(edges[i].a, Leads{parts.components});
      const int32_t b = find_first(edges[i].b, Leads{parts.components});
      if (a == b || !(parts.small(a, min_size) || parts.small(b, min_size))) continue;
      edges[kept++] = {a, b};
      if (!parts.components[a].known) find_mean(parts.components + a);
      if (!parts.components[b].known) find_mean(parts.components + b);
    }
    parts.edges_of[band] = kept;
  }
}

void join_small(const Parts& parts, int64_t min_size) {
  parts.split(parts.count, [&](int64_t a) {
    find_mean(parts.components + a);
    parts.preference[a] = kNone;
  });
  find_edges(parts, min_size);
  bool any = true;
  for (; any; renew_edges(parts, min_size)) {
    any = false;
    each_edge(parts, [&](const Edge& edge) {
      const Component &one = parts.components[edge.a], &other = parts.components[edge.b];
      const uint64_t choice = slic_preference(one.mean, other.mean, 0);
      prefer(parts, min_size, edge.a, choice | static_cast<uint32_t>(edge.b));
      prefer(parts, min_size, edge.b, choice | static_cast<uint32_t>(edge.a));
    });
    for (int32_t a = 0; a < parts.count; ++a) {
      if (parts.preference[a] == kNone) continue;
      any = true;
      join(parts, a, static_cast<int32_t>(parts.preference[a] & 0xffffffffu));
      parts.preference[a] = kNone;
    }
  }
}

// ---- labels

// Superpixels in the order of their first runs, which is that of the components left.
void paint(const Parts& parts) {
  int32_t count = 0;
  for (int32_t a = 0; a < parts.count; ++a) {
    Component& component = parts.components[a];
    component.pixels = component.parent == a ? count++ : parts.components[component.parent].pixels;
  }
  parts.split(parts.height, [&](int64_t y) {
    constexpr int32_t kMost = 8;  // pixels at once: few runs are longer, and the next one paints over what is too much
    int32_t* labels = parts.labels + y * parts.width;
    int32_t x = 0;
    for (int64_t run = parts.first_run[y]; run < parts.first_run[y + 1]; ++run) {
      const int32_t number = parts.of[run] < 0 ? -1 : parts.components[parts.of[run]].pixels, end = parts.runs.end[run];
      for (; x < end && x + kMost <= parts.width; x += kMost)
        for (int32_t i = 0; i < kMost; ++i) labels[x + i] = number;
      for (; x < end; ++x) labels[x] = number;
      x = end;
    }
  });
}

}  // namespace

void slic_components(const SlicLoops& loops, int64_t height, int64_t width, uint32_t* la, uint32_t* bx,
                     int64_t min_size, int64_t* scratch, int32_t* labels, double nanoseconds, int threads) {
  Parts parts = lay_out(height, width, la, bx, scratch, labels);
  parts.nanoseconds = nanoseconds;
  parts.threads = threads;
  find_components(loops, &parts);
  if (min_size > 1) join_small(parts, min_size);
  paint(parts);
}

}  // namespace pyws
