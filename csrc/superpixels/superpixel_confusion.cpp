#include "superpixels/superpixel_confusion.h"

#include "common/parallel.h"
#include "superpixels/superpixel_confusion_simd.h"

namespace pyws {
namespace {

// Everything of a call but the maps.
struct Counters {
  std::int64_t pixels, superpixels, num_classes, ignored;
  double alpha, beta;
  std::uint32_t *area, *votes, *annotated;
  std::int64_t *consistency, *agreement, *invalid;
};

// Adds the rows of the superpixels of frame b to its two histograms.
void compare(const Counters& k, std::int64_t b) {
  const std::int64_t classes = k.num_classes;
  std::int64_t* consistency = k.consistency + b * classes * classes;
  std::int64_t* agreement = k.agreement + b * classes * classes;
  for (std::int64_t row = b * k.superpixels; row < (b + 1) * k.superpixels; ++row) {
    if (k.area[row] == 0) continue;
    const std::uint32_t *votes = k.votes + row * classes, *annotated = k.annotated + row * classes;
    Votes best{0, 0};
    for (std::int64_t c = 1; c < classes; ++c) best = most_votes(best, {votes[c], c});
    const std::int64_t taken = accepted_below(best, k.area[row], k.pixels, k.alpha, k.beta);
    for (std::int64_t c = 0; c < classes; ++c) {
      if (votes[c] != 0) consistency[c * classes + taken] += votes[c];
      agreement[taken * classes + c] += annotated[c];
    }
  }
}

template <class Label, class Class>
void run(void (*count)(const ConfusionFrame<Label, Class>*), const void* labels, const void* prediction,
         const void* annotation, std::int64_t batch, const Counters& k, int threads) {
  const double nanoseconds = 1.0 * static_cast<double>(k.pixels) + 1.0 * static_cast<double>(k.superpixels);
  parallel_for(batch, nanoseconds, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t row = b * k.superpixels;
      const ConfusionFrame<Label, Class> frame = {static_cast<const Label*>(labels) + b * k.pixels,
                                                  static_cast<const Class*>(prediction) + b * k.pixels,
                                                  static_cast<const Class*>(annotation) + b * k.pixels,
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

void superpixel_confusion_cpu(int label_type, const void* labels, int class_type, const void* prediction,
                              const void* annotation, std::int64_t batch, std::int64_t pixels, std::int64_t superpixels,
                              std::int64_t num_classes, std::int64_t ignored, double alpha, double beta,
                              std::uint32_t* area, std::uint32_t* votes, std::uint32_t* annotated,
                              std::int64_t* consistency, std::int64_t* agreement, std::int64_t* invalid, int threads) {
  const Counters counters = {pixels, superpixels, num_classes, ignored,     alpha,     beta,
                             area,   votes,       annotated,   consistency, agreement, invalid};
  const auto with = [&](auto* count) { run(count, labels, prediction, annotation, batch, counters, threads); };
  const auto pick = [&](const auto& row) {
    class_type == kLabelUInt8 ? with(row.u8) : class_type == kLabelInt32 ? with(row.i32) : with(row.i64);
  };
  const ConfusionLoops& loops = confusion_loops();
  label_type == kLabelInt32 ? pick(loops.i32) : pick(loops.i64);
}

}  // namespace pyws
