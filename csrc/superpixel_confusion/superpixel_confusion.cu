#include "components/pixel_runs_cuda.h"
#include "superpixel_confusion/superpixel_confusion.h"

namespace pyws {
namespace {

constexpr int kThreads = 256;
constexpr const char* kName = "superpixel_confusion";

// Traffic: every label, prediction and annotation is read once, coalesced; a run of one of each within 32 pixels costs
// three atomic additions, which stay in L2. Ownership: a thread a pixel, a tile of 256 pixels a block.
template <class Label, class Class>
__global__ void count_pixels(const Label* labels, const Class* prediction, const Class* annotation, std::int64_t pixels,
                             std::int64_t tiles, std::uint64_t superpixels, std::uint64_t num_classes,
                             std::uint64_t ignored, unsigned* area, unsigned* votes, unsigned* annotated,
                             Counter* invalid) {
  const std::int64_t b = blockIdx.x / tiles, i = blockIdx.x % tiles * kThreads + threadIdx.x, at = b * pixels + i;
  const bool there = i < pixels;
  const std::uint64_t label = there ? index_of(labels[at]) : 0;
  const std::uint64_t predicted = there ? index_of(prediction[at]) : 0;
  const std::uint64_t noted = there ? index_of(annotation[at]) : 0;
  const std::uint64_t left_label = left_neighbour(label), left_predicted = left_neighbour(predicted);
  const std::uint64_t left_noted = left_neighbour(noted);
  const bool starts =
      threadIdx.x % kWarp == 0 || label != left_label || predicted != left_predicted || noted != left_noted;
  const unsigned run = run_from(starts);
  const unsigned n = __popc(run & __ballot_sync(kWholeWarp, there));
  if (n == 0) return;
  invalid += b * kInvalidKinds;
  if (predicted >= num_classes) atomicAdd(invalid + kInvalidPrediction, static_cast<Counter>(n));
  if (noted >= num_classes && noted != ignored) atomicAdd(invalid + kInvalidAnnotation, static_cast<Counter>(n));
  if (label >= superpixels) {
    atomicAdd(invalid + kInvalidLabel, static_cast<Counter>(n));
    return;
  }
  const std::uint64_t row = b * superpixels + label;
  atomicAdd(area + row, n);
  if (predicted < num_classes) atomicAdd(votes + row * num_classes + predicted, n);
  if (noted < num_classes) atomicAdd(annotated + row * num_classes + noted, n);
}

// Traffic: both tables are read once, coalesced; what is not 0 is added to the histograms, which stay in L2.
// Ownership: one warp a superpixel, lanes over its classes.
__global__ void compare(std::int64_t rows, std::int64_t superpixels, std::int64_t pixels, std::int64_t num_classes,
                        double alpha, double beta, const unsigned* area, const unsigned* votes,
                        const unsigned* annotated, Counter* consistency, Counter* agreement) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (row >= rows || area[row] == 0) return;  // whole warps leave together
  const int lane = threadIdx.x % kWarp;
  votes += row * num_classes;
  annotated += row * num_classes;
  Votes best{0, 0};
  for (std::int64_t c = lane; c < num_classes; c += kWarp)
    if (c > 0) best = max_votes(best, {votes[c], c});
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Votes other{__shfl_xor_sync(kWholeWarp, static_cast<long long>(best.count), offset),
                      __shfl_xor_sync(kWholeWarp, static_cast<long long>(best.kind), offset)};
    best = max_votes(best, other);
  }
  const std::int64_t taken = accepted_below(best, area[row], pixels, alpha, beta);
  const std::int64_t frame = row / superpixels * num_classes * num_classes;
  for (std::int64_t c = lane; c < num_classes; c += kWarp) {
    if (votes[c] != 0) atomicAdd(consistency + frame + c * num_classes + taken, static_cast<Counter>(votes[c]));
    if (annotated[c] != 0) atomicAdd(agreement + frame + taken * num_classes + c, static_cast<Counter>(annotated[c]));
  }
}

}  // namespace

void superpixel_confusion_cuda(const ConfusionParams& p, void* stream) {
  check_dtype(kName, "annotation", p.annotation.dtype, p.prediction.dtype);
  const std::int64_t tiles = ceil_div(p.pixels, kThreads), rows = p.batch * p.superpixels;
  with_labels(kName, "labels", p.labels.dtype, [&](auto label) {
    with_classes(kName, "prediction", p.prediction.dtype, [&](auto kind) {
      using Label = decltype(label);
      using Class = decltype(kind);
      launch(kName, count_pixels<Label, Class>, grid_1d(kName, p.batch * tiles), dim3(kThreads), 0, stream,
             p.labels.as<Label>(), p.prediction.as<Class>(), p.annotation.as<Class>(), p.pixels, tiles, p.superpixels,
             p.num_classes, index_of(p.ignored), p.area, p.votes, p.annotated, reinterpret_cast<Counter*>(p.invalid));
    });
  });
  launch(kName, compare, grid_1d(kName, ceil_div(rows, kThreads / kWarp)), dim3(kThreads), 0, stream, rows,
         p.superpixels, p.pixels, p.num_classes, p.alpha, p.beta, p.area, p.votes, p.annotated,
         reinterpret_cast<Counter*>(p.consistency), reinterpret_cast<Counter*>(p.agreement));
}

}  // namespace pyws
