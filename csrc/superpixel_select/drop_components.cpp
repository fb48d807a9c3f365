#include "superpixel_select/drop_components.h"

#include <cstring>

#include "common/parallel.h"
#include "components/forest.h"

namespace pyws {
namespace {

// Neighbouring set pixels of one row; empty where none are left.
struct Run {
  std::int64_t begin, end;
  bool empty() const { return begin == end; }
};

std::int64_t find(const std::uint8_t* mask, std::uint8_t value, std::int64_t from, std::int64_t end) {
  const void* at = std::memchr(mask + from, value, static_cast<std::size_t>(end - from));
  return at == nullptr ? end : static_cast<const std::uint8_t*>(at) - mask;
}

Run next_run(const std::uint8_t* mask, std::int64_t from, std::int64_t row_end) {
  const std::int64_t begin = find(mask, 1, from, row_end);
  return {begin, find(mask, 0, begin, row_end)};
}

// The parts of a frame; only the first pixels of runs take part.
struct Forest {
  std::int32_t *parent, *size;
  std::int64_t largest;

  auto leads() const {
    return [this](std::int32_t i) -> std::int32_t& { return parent[i]; };
  }
  std::int32_t first_of(const Run& run) const { return find_first(static_cast<std::int32_t>(run.begin), leads()); }
  void add(const Run& run) {
    parent[run.begin] = static_cast<std::int32_t>(run.begin);
    size[run.begin] = static_cast<std::int32_t>(run.end - run.begin);
    largest = max64(largest, size[run.begin]);
  }
  void join(const Run& a, const Run& b) {
    const auto [into, from] =
        join_sets(static_cast<std::int32_t>(a.begin), static_cast<std::int32_t>(b.begin), leads());
    if (into == from) return;
    size[into] += size[from];
    largest = max64(largest, size[into]);
  }
};

void find_parts(const std::uint8_t* mask, std::int64_t height, std::int64_t width, Forest& forest) {
  for (std::int64_t y = 0; y < height; ++y) {
    const std::int64_t row = y * width, row_end = row + width;
    Run above = y == 0 ? Run{0, 0} : next_run(mask, row - width, row);
    for (Run run = next_run(mask, row, row_end); !run.empty(); run = next_run(mask, run.end, row_end)) {
      forest.add(run);
      // Runs touch where one begins at most one column after the other's last.
      while (!above.empty() && above.begin + width <= run.end) {
        if (above.end + width >= run.begin) forest.join(above, run);
        if (above.end + width > run.end) break;  // it may touch the next run, too
        above = next_run(mask, above.end, row);
      }
    }
  }
}

void drop(std::uint8_t* mask, std::int64_t height, std::int64_t width, double beta, Forest forest) {
  const std::int64_t pixels = height * width;
  find_parts(mask, height, width, forest);
  if (!(ratio(forest.largest, pixels) >= beta)) return;
  for (std::int64_t row = 0; row < pixels; row += width)
    for (Run run = next_run(mask, row, row + width); !run.empty(); run = next_run(mask, run.end, row + width))
      if (ratio(forest.size[forest.first_of(run)], pixels) >= beta)
        std::memset(mask + run.begin, 0, static_cast<std::size_t>(run.end - run.begin));
}

}  // namespace

void drop_components_cpu(const DropParams& p, int threads) {
  const std::int64_t pixels = p.height * p.width;
  if (pixels == 0) return;
  parallel_for(p.batch, 0.5 * static_cast<double>(pixels), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      drop(p.masks + b * pixels, p.height, p.width, p.beta, {p.parent + b * pixels, p.size + b * pixels, 0});
  });
}

}  // namespace pyws
