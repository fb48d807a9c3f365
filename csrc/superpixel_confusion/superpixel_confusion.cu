#include "components/pixel_runs_cuda.h"
#include "superpixel_confusion/superpixel_confusion.h"
#include "superpixel_select/most_votes.cuh"

namespace pyws {
namespace {

constexpr int kThreads = 256;
constexpr const char* kName = "superpixel_confusion";

// Traffic: every label, prediction and annotation is read once, coalesced; a run of one of each within 32 pixels costs
// three atomic additions, which stay in L2. Ownership: a thread a pixel, a tile of 256 pixels a block.
template <class Label, class Class>
__global__ void count_pixels(ConfusionParams p, std::int64_t tiles) {
  const std::uint64_t superpixels = p.superpixels, num_classes = p.num_classes;
  const std::int64_t b = blockIdx.x / tiles, i = blockIdx.x % tiles * kThreads + threadIdx.x, at = b * p.pixels + i;
  const bool there = i < p.pixels;
  const std::uint64_t label = there ? index_of(p.labels.as<Label>()[at]) : 0;
  const std::uint64_t predicted = there ? index_of(p.prediction.as<Class>()[at]) : 0;
  const std::uint64_t noted = there ? index_of(p.annotation.as<Class>()[at]) : 0;
  const std::uint64_t left_label = left_neighbour(label), left_predicted = left_neighbour(predicted);
  const std::uint64_t left_noted = left_neighbour(noted);
  const bool starts =
      threadIdx.x % kWarp == 0 || label != left_label || predicted != left_predicted || noted != left_noted;
  const unsigned run = run_from(starts);
  const unsigned n = __popc(run & __ballot_sync(kWholeWarp, there));
  if (n == 0) return;
  Counter* invalid = reinterpret_cast<Counter*>(p.invalid) + b * kInvalidKinds;
  if (predicted >= num_classes) atomicAdd(invalid + kInvalidPrediction, static_cast<Counter>(n));
  if (noted >= num_classes && noted != index_of(p.ignored))
    atomicAdd(invalid + kInvalidAnnotation, static_cast<Counter>(n));
  if (label >= superpixels) {
    atomicAdd(invalid + kInvalidLabel, static_cast<Counter>(n));
    return;
  }
  const std::uint64_t row = b * superpixels + label;
  atomicAdd(p.area + row, n);
  if (predicted < num_classes) atomicAdd(p.votes + row * num_classes + predicted, n);
  if (noted < num_classes) atomicAdd(p.annotated + row * num_classes + noted, n);
}

// Traffic: both tables are read once, coalesced; what is not 0 is added to the histograms, which stay in L2.
// Ownership: one warp a superpixel, lanes over its classes.
__global__ void compare(ConfusionParams p) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (row >= p.batch * p.superpixels || p.area[row] == 0) return;  // whole warps leave together
  const int lane = threadIdx.x % kWarp;
  const std::int64_t num_classes = p.num_classes;
  const unsigned *votes = p.votes + row * num_classes, *annotated = p.annotated + row * num_classes;
  const Votes best = most_votes(votes, num_classes);
  const std::int64_t taken = accepted_below(best, p.area[row], p.pixels, p.alpha, p.beta);
  const std::int64_t frame = row / p.superpixels * num_classes * num_classes;
  Counter* consistency = reinterpret_cast<Counter*>(p.consistency) + frame;
  Counter* agreement = reinterpret_cast<Counter*>(p.agreement) + frame;
  for (std::int64_t c = lane; c < num_classes; c += kWarp) {
    if (votes[c] != 0) atomicAdd(consistency + c * num_classes + taken, static_cast<Counter>(votes[c]));
    if (annotated[c] != 0) atomicAdd(agreement + taken * num_classes + c, static_cast<Counter>(annotated[c]));
  }
}

}  // namespace

void superpixel_confusion_cuda(const ConfusionParams& p, void* stream) {
  check_dtype(kName, "annotation", p.annotation.dtype, p.prediction.dtype);
  const std::int64_t tiles = ceil_div(p.pixels, kThreads), rows = p.batch * p.superpixels;
  with_labels(kName, "labels", p.labels.dtype, [&](auto label) {
    with_classes(kName, "prediction", p.prediction.dtype, [&](auto kind) {
      launch(kName, count_pixels<decltype(label), decltype(kind)>, grid_1d(kName, p.batch * tiles), dim3(kThreads), 0,
             stream, p, tiles);
    });
  });
  launch(kName, compare, grid_1d(kName, ceil_div(rows, kThreads / kWarp)), dim3(kThreads), 0, stream, p);
}

}  // namespace pyws
