#include "superpixel_confusion/superpixel_confusion.h"

#include "common/parallel.h"
#include "superpixel_confusion/superpixel_confusion_simd.h"

namespace pyws {
namespace {

// Adds the rows of the superpixels of frame b to its two histograms.
void compare(const ConfusionParams& k, std::int64_t b) {
  const std::int64_t classes = k.num_classes;
  std::int64_t* consistency = k.consistency + b * classes * classes;
  std::int64_t* agreement = k.agreement + b * classes * classes;
  for (std::int64_t row = b * k.superpixels; row < (b + 1) * k.superpixels; ++row) {
    if (k.area[row] == 0) continue;
    const std::uint32_t *votes = k.votes + row * classes, *annotated = k.annotated + row * classes;
    Votes best{0, 0};
    for (std::int64_t c = 1; c < classes; ++c) best = max_votes(best, {votes[c], c});
    const std::int64_t taken = accepted_below(best, k.area[row], k.pixels, k.alpha, k.beta);
    for (std::int64_t c = 0; c < classes; ++c) {
      if (votes[c] != 0) consistency[c * classes + taken] += votes[c];
      agreement[taken * classes + c] += annotated[c];
    }
  }
}

template <class Label, class Class>
void run(void (*count)(const ConfusionFrame<Label, Class>*), const ConfusionParams& k, int threads) {
  const double nanoseconds = 1.0 * static_cast<double>(k.pixels) + 1.0 * static_cast<double>(k.superpixels);
  parallel_for(k.batch, nanoseconds, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t row = b * k.superpixels;
      const ConfusionFrame<Label, Class> frame = {k.labels.as<Label>() + b * k.pixels,
                                                  k.prediction.as<Class>() + b * k.pixels,
                                                  k.annotation.as<Class>() + b * k.pixels,
                                                  k.pixels,
                                                  index_of(k.superpixels),
                                                  index_of(k.num_classes),
                                                  index_of(k.ignored),
                                                  k.area + row,
                                                  k.votes + row * k.num_classes,
                                                  k.annotated + row * k.num_classes,
                                                  k.invalid + b * kInvalidKinds};
      count(&frame);
      compare(k, b);
    }
  });
}

}  // namespace

void superpixel_confusion_cpu(const ConfusionParams& p, int threads) {
  const char* op = "superpixel_confusion";
  check_dtype(op, "annotation", p.annotation.dtype, p.prediction.dtype);
  with_labels(op, "labels", p.labels.dtype, [&](auto label) {
    const auto& row = loops_of<decltype(label)>(confusion_loops());
    with_classes(op, "prediction", p.prediction.dtype,
                 [&](auto kind) { run(loops_of<decltype(kind)>(row), p, threads); });
  });
}

}  // namespace pyws
