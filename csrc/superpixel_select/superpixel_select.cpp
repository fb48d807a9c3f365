#include "superpixel_select/superpixel_select.h"

#include <algorithm>
#include <memory>

#include "common/parallel.h"
#include "superpixel_select/superpixel_select_simd.h"

namespace pyws {
namespace {

std::int64_t labels_used(const std::int64_t* area, std::int64_t superpixels) {
  while (superpixels > 0 && area[superpixels - 1] == 0) --superpixels;
  return superpixels;
}

template <class Label, class Code>
void select(const SelectLoops<Label, Code>& loops, const SelectParams& k, int threads) {
  const std::int64_t pixels = k.pixels, superpixels = k.superpixels;
  parallel_for(k.batch, 0.8 * static_cast<double>(pixels), threads, [&](std::int64_t begin, std::int64_t end) {
    const std::unique_ptr<Code[]> codes(new Code[pixels]);
    const std::unique_ptr<std::uint32_t[]> counted(new std::uint32_t[2 * (superpixels + 1)]);
    const std::unique_ptr<std::uint8_t[]> passed(new std::uint8_t[superpixels + 1]);
    for (std::int64_t b = begin; b < end; ++b) {
      std::int64_t *area = k.counts + b * superpixels, *intersection = area + k.batch * superpixels;
      std::fill_n(counted.get(), 2 * (superpixels + 1), 0);
      loops.count(k.labels.as<Label>() + b * pixels, k.mask + b * pixels, pixels, superpixels, codes.get(),
                  counted.get());
      std::int64_t mask_area = 0;
      for (std::int64_t p = 0; p < superpixels; ++p) {
        intersection[p] = counted[2 * p + 1];
        area[p] = counted[2 * p] + counted[2 * p + 1];
        mask_area += intersection[p];
      }
      for (std::int64_t p = 0; p < superpixels; ++p)
        passed[p] = superpixel_passes(area[p], intersection[p], mask_area, pixels, k.alpha, k.beta, k.overlap);
      passed[superpixels] = 0;
      loops.paint(codes.get(), pixels, superpixels, passed.get(), k.refined + b * pixels);
      k.summary[b * kSummary + kUsed] = labels_used(area, superpixels);
      k.summary[b * kSummary + kOutside] = counted[2 * superpixels] + counted[2 * superpixels + 1];
    }
  });
}

template <class Label, class Class>
void vote(const VoteLoops<Label, Class>& loops, const VoteParams& k, int threads) {
  const std::int64_t pixels = k.pixels, superpixels = k.superpixels, num_classes = k.num_classes;
  parallel_for(k.batch, 2.0 * static_cast<double>(pixels), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const Label* frame = k.labels.as<Label>() + b * pixels;
      std::int64_t *areas = k.area + b * superpixels, *rows = k.table + b * superpixels * num_classes;
      std::int64_t *taken = k.winner + b * superpixels, outside[2];
      loops.count(frame, k.classes.as<Class>() + b * pixels, pixels, superpixels, num_classes, k.ignored, areas, rows,
                  outside);
      for (std::int64_t p = 0; p < superpixels; ++p) {
        Votes best{0, 0};
        for (std::int64_t c = 1; c < num_classes; ++c) best = max_votes(best, {rows[p * num_classes + c], c});
        taken[p] = accepted_class(best, areas[p], k.alpha);
      }
      loops.paint(frame, pixels, superpixels, taken, k.refined.as<Class>() + b * pixels);
      k.summary[b * kSummary + kUsed] = labels_used(areas, superpixels);
      k.summary[b * kSummary + kOutside] = outside[0];
      k.summary[b * kSummary + kUnknown] = outside[1];
    }
  });
}

}  // namespace

void superpixel_select_cpu(const SelectParams& p, int threads) {
  with_labels("superpixel_select", "labels", p.labels.dtype, [&](auto label) {
    const auto& row = loops_of<decltype(label)>(superpixel_loops());
    p.superpixels < 1 << 15 ? select(row.select, p, threads) : select(row.select_many, p, threads);
  });
}

void superpixel_vote_cpu(const VoteParams& p, int threads) {
  const char* op = "superpixel_vote";
  check_dtype(op, "refined", p.refined.dtype, p.classes.dtype);
  with_labels(op, "labels", p.labels.dtype, [&](auto label) {
    const auto& row = loops_of<decltype(label)>(superpixel_loops());
    with_classes(op, "classes", p.classes.dtype, [&](auto kind) { vote(loops_of<decltype(kind)>(row), p, threads); });
  });
}

}  // namespace pyws
