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
void select(const SelectLoops<Label, Code>& loops, const void* labels, const std::uint8_t* mask, std::int64_t batch,
            std::int64_t pixels, std::int64_t superpixels, double alpha, double beta, MaskOverlap overlap,
            std::int64_t* counts, std::uint8_t* passes, std::uint8_t* refined, std::int64_t* summary, int threads) {
  parallel_for(batch, 0.8 * static_cast<double>(pixels), threads, [&](std::int64_t begin, std::int64_t end) {
    const std::unique_ptr<Code[]> codes(new Code[pixels]);
    const std::unique_ptr<std::uint32_t[]> counted(new std::uint32_t[2 * (superpixels + 1)]);
    for (std::int64_t b = begin; b < end; ++b) {
      std::int64_t *area = counts + b * superpixels, *intersection = area + batch * superpixels;
      std::uint8_t* passed = passes + b * (superpixels + 1);
      std::fill_n(counted.get(), 2 * (superpixels + 1), 0);
      loops.count(static_cast<const Label*>(labels) + b * pixels, mask + b * pixels, pixels, superpixels, codes.get(),
                  counted.get());
      std::int64_t mask_area = 0;
      for (std::int64_t p = 0; p < superpixels; ++p) {
        intersection[p] = counted[2 * p + 1];
        area[p] = counted[2 * p] + counted[2 * p + 1];
        mask_area += intersection[p];
      }
      for (std::int64_t p = 0; p < superpixels; ++p)
        passed[p] = superpixel_passes(area[p], intersection[p], mask_area, pixels, alpha, beta, overlap);
      passed[superpixels] = 0;
      loops.paint(codes.get(), pixels, superpixels, passed, refined + b * pixels);
      summary[b * kSummary + kUsed] = labels_used(area, superpixels);
      summary[b * kSummary + kOutside] = counted[2 * superpixels] + counted[2 * superpixels + 1];
    }
  });
}

template <class Label, class Class>
void vote(const VoteLoops<Label, Class>& loops, const void* labels, const void* classes, std::int64_t batch,
          std::int64_t pixels, std::int64_t superpixels, std::int64_t num_classes, std::int64_t ignored, double alpha,
          std::int64_t* area, std::int64_t* table, std::int64_t* winner, void* refined, std::int64_t* summary,
          int threads) {
  parallel_for(batch, 2.0 * static_cast<double>(pixels), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const Label* frame = static_cast<const Label*>(labels) + b * pixels;
      std::int64_t *areas = area + b * superpixels, *rows = table + b * superpixels * num_classes;
      std::int64_t *taken = winner + b * superpixels, outside[2];
      loops.count(frame, static_cast<const Class*>(classes) + b * pixels, pixels, superpixels, num_classes, ignored,
                  areas, rows, outside);
      for (std::int64_t p = 0; p < superpixels; ++p) {
        Votes best{0, 0};
        for (std::int64_t c = 1; c < num_classes; ++c) best = max_votes(best, {rows[p * num_classes + c], c});
        taken[p] = accepted_class(best, areas[p], alpha);
      }
      loops.paint(frame, pixels, superpixels, taken, static_cast<Class*>(refined) + b * pixels);
      summary[b * kSummary + kUsed] = labels_used(areas, superpixels);
      summary[b * kSummary + kOutside] = outside[0];
      summary[b * kSummary + kUnknown] = outside[1];
    }
  });
}

}  // namespace

void superpixel_select_cpu(const SelectParams& p, int threads) {
  const SuperpixelLoops& loops = superpixel_loops();
  const auto run = [&](const auto& select_loops) {
    select(select_loops, p.labels.data, p.mask, p.batch, p.pixels, p.superpixels, p.alpha, p.beta, p.overlap, p.counts,
           p.passes, p.refined, p.summary, threads);
  };
  const auto pick = [&](const auto& row) { p.superpixels < 1 << 15 ? run(row.select) : run(row.select_many); };
  with_labels("superpixel_select", "labels", p.labels.dtype, [&](auto label) { pick(row_of(loops, label)); });
}

void superpixel_vote_cpu(const VoteParams& p, int threads) {
  const char* op = "superpixel_vote";
  check_dtype(op, "refined", p.refined.dtype, p.classes.dtype);
  const SuperpixelLoops& loops = superpixel_loops();
  const auto run = [&](const auto& vote_loops) {
    vote(vote_loops, p.labels.data, p.classes.data, p.batch, p.pixels, p.superpixels, p.num_classes, p.ignored, p.alpha,
         p.area, p.table, p.winner, p.refined.data, p.summary, threads);
  };
  with_labels(op, "labels", p.labels.dtype, [&](auto label) {
    with_classes(op, "classes", p.classes.dtype, [&](auto kind) { run(vote_of(row_of(loops, label), kind)); });
  });
}

}  // namespace pyws
