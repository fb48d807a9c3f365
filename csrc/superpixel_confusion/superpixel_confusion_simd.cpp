#include "superpixel_confusion/superpixel_confusion_simd.h"

#include "components/pixel_runs_simd.h"

namespace pyws {
namespace PYWS_ISA {
namespace {

template <class Label, class Class>
void count(const ConfusionFrame<Label, Class>* frame) {
  const ConfusionFrame<Label, Class> f = *frame;
  const auto add = [&](int64_t at, uint64_t pixels) {
    const uint32_t n = static_cast<uint32_t>(pixels);
    const uint64_t label = index_of(f.labels[at]);
    const uint64_t predicted = index_of(f.prediction[at]), noted = index_of(f.annotation[at]);
    if (predicted >= f.num_classes) f.invalid[kInvalidPrediction] += n;
    if (noted >= f.num_classes && noted != f.ignored) f.invalid[kInvalidAnnotation] += n;
    if (label >= f.superpixels) {
      f.invalid[kInvalidLabel] += n;
      return;
    }
    f.area[label] += n;
    if (predicted < f.num_classes) f.votes[label * f.num_classes + predicted] += n;
    if (noted < f.num_classes) f.annotated[label * f.num_classes + noted] += n;
  };
  const auto edges_of = [&](int64_t first, int n) {
    // The processor, left alone, loses track of the next block while runs are visited.
    prefetch(f.labels + first + kBlockPixels, n);
    prefetch(f.prediction + first + kBlockPixels, n);
    prefetch(f.annotation + first + kBlockPixels, n);
    return edge_word(f.labels, first, n) | edge_word(f.prediction, first, n) | edge_word(f.annotation, first, n);
  };
  each_run(f.pixels, edges_of, add);
}

template <class Label>
constexpr ConfusionRow<Label> row_of() {
  return {count<Label, uint8_t>, count<Label, int32_t>, count<Label, int64_t>};
}

}  // namespace

const ConfusionLoops confusion_loops = {row_of<int32_t>(), row_of<int64_t>()};

}  // namespace PYWS_ISA
}  // namespace pyws
