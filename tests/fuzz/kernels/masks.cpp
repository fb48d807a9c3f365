// Arguments for the kernels over pixels: shapes and settings that the checks in Python let through, any contents.
#include <utility>

#include "background_patches/background_patches.h"
#include "fuzz.h"
#include "gradcam3d/gradcam3d.h"
#include "otsu/otsu.h"
#include "otsu/otsu_masks.h"
#include "slic/slic.h"
#include "superpixel_confusion/superpixel_confusion.h"
#include "superpixel_select/drop_components.h"
#include "superpixel_select/superpixel_select.h"

namespace pyws {
namespace fuzz {
namespace {

using std::int64_t;
using std::uint8_t;

DType float_type(Run& run) { return run.one_of({kFloat32, kFloat64, kFloat16, kBFloat16}); }

// Some vectors long, rarely longer.
int64_t side(Run& run, int64_t most) { return run.flag() ? run.between(1, 9) : run.between(1, most); }

void run_otsu(Run& run) {
  const DType dtype = float_type(run);
  const int64_t batch = run.between(0, 3), positions = side(run, 700);
  const AnyArray maps = run.any(dtype, batch * positions);
  AnyArray thresholds = run.any_room(summing_type(dtype), batch);
  otsu_cpu({maps, batch, positions, thresholds}, run.threads);
  run.give(thresholds);
}

void run_otsu_masks(Run& run) {
  const DType dtype = float_type(run);
  const int64_t batch = run.between(0, 3), height = side(run, 20), width = side(run, 20);
  const int64_t rows = side(run, 40), columns = side(run, 40);
  const AnyArray maps = run.any(dtype, batch * height * width);
  AnyArray thresholds = run.any_room(summing_type(dtype), batch);
  auto masks = run.room<uint8_t>(batch * rows * columns);
  otsu_masks_cpu({maps, batch, height, width, rows, columns, masks.data(), thresholds}, run.threads);
  run.give(thresholds);
  run.give(masks);
}

// A tensor of any strides, in memory that its first and last elements bound.
struct Strided {
  AnyArray values;
  Shape5 strides;
  int64_t first = 0;

  Strided(Run& run, DType dtype, const Shape5& shape) {
    int64_t elements = 1, size = 1;
    for (const int64_t n : shape) elements *= n;
    const int64_t order = run.between(0, 3);  // contiguous, channels last, any, of one element repeated
    for (int k = 4; k >= 0; --k) strides[k] = std::exchange(size, size * max64(shape[k], 1));
    if (order == 1) strides = {strides[0], 1, strides[2], shape[4] * shape[1], shape[1]};
    if (order == 2)
      for (int64_t& stride : strides) stride = run.between(-7, 7);
    if (order == 3) strides = {0, 0, 0, 0, 0};
    int64_t last = 0;
    for (int k = 0; k < 5 && elements > 0; ++k)
      (strides[k] < 0 ? first : last) += (strides[k] < 0 ? -strides[k] : strides[k]) * (shape[k] - 1);
    values = run.any(dtype, elements > 0 ? first + last + 1 : 0);
  }
  operator Array<const void>() const {
    return {values.bytes.data() + first * static_cast<int64_t>(Run::width(values.dtype)), values.dtype};
  }
};

void run_gradcam3d(Run& run) {
  const DType dtype = float_type(run);
  const bool minmax = run.flag();
  const Shape5 shape = {run.between(0, 2), run.between(0, 21), run.between(0, 3), run.between(0, 5), side(run, 40)};
  const int64_t positions = shape[2] * shape[3] * shape[4];
  const Strided activations(run, dtype, shape), gradients(run, dtype, shape);
  AnyArray scratch = run.any_room(summing_type(dtype), gradcam3d_scratch(shape[0], shape[1], positions));
  AnyArray maps = run.any_room(dtype, shape[0] * positions);
  gradcam3d_cpu({activations, gradients, shape, activations.strides, gradients.strides, minmax, scratch, maps},
                run.threads);
  run.give(maps);
}

// As pyws/ops/masks/slic.py makes them.
const std::vector<std::int32_t>& slic_tables() {
  static const std::vector<std::int32_t> tables = [] {
    std::vector<std::int32_t> made;
    for (int i = 0; i <= kSlicLevels; ++i) {
      const double level = static_cast<double>(i) / kSlicLevels;
      made.push_back(static_cast<std::int32_t>(
          std::lrint((level > 0.04045 ? std::pow((level + 0.055) / 1.055, 2.4) : level / 12.92) * 32768)));
    }
    const auto root = [](int i) {
      const double t = static_cast<double>(i) / kSlicCubeSteps;
      return std::lrint((t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116) * 32768);
    };
    for (int i = 0; i <= kSlicCubeSteps; ++i)
      made.push_back(static_cast<std::int32_t>((root(i) << 8) + (i < kSlicCubeSteps ? root(i + 1) - root(i) : 0)));
    return made;
  }();
  return tables;
}

void run_slic(Run& run) {
  const DType dtype = run.one_of({kFloat32, kFloat64, kFloat16, kBFloat16, kUInt8});
  const int64_t batch = run.between(1, 2), height = side(run, 30), width = side(run, 40), pixels = height * width;
  const int64_t rows = run.between(1, min64(height, 6)), columns = run.between(1, min64(width, 6));
  const double compactness = run.positive();
  const int64_t iterations = run.between(1, 4), min_size = run.between(0, pixels);
  const int64_t slots = min64(batch, run.threads), words = slic_scratch(height, width, rows, columns);
  const bool masked = run.flag(), interleaved = run.flag();
  const auto mask = run.bits(masked ? batch * pixels : 0);
  const AnyArray images = run.any(dtype, batch * 3 * pixels);
  auto scratch = run.room<int64_t>(slots * words);
  auto labels = run.room<std::int32_t>(batch * pixels);
  slic_cpu({images,
            interleaved,
            {masked ? mask.data() : nullptr},
            batch,
            height,
            width,
            rows,
            columns,
            compactness,
            iterations,
            min_size,
            slic_tables().data(),
            slots,
            scratch.data(),
            labels.data()},
           run.threads);
  for (int64_t i = 0; i < batch * pixels; ++i)
    run.must(masked && !mask[i] ? labels[i] == -1 : labels[i] >= 0 && labels[i] < pixels, "slic: a label of a pixel");
  run.give(labels);
}

struct Frames {
  int64_t batch, pixels, superpixels;
  AnyArray labels;

  explicit Frames(Run& run)
      : batch(run.between(0, 3)),
        pixels(run.flag() ? run.between(0, 12) : run.between(0, 400)),
        superpixels(run.between(0, 12)),
        labels(run.any(run.one_of({kInt32, kInt64}), batch * pixels, superpixels)) {}
  int64_t label(int64_t i) const {
    return labels.dtype == kInt32 ? reinterpret_cast<const std::int32_t*>(labels.bytes.data())[i]
                                  : reinterpret_cast<const int64_t*>(labels.bytes.data())[i];
  }
};

void run_superpixel_select(Run& run) {
  const Frames f(run);
  const double alpha = run.share(), beta = run.positive();
  const auto overlap = run.choice<MaskOverlap>();
  const auto mask = run.bits(f.batch * f.pixels);
  std::vector<int64_t> counts(static_cast<std::size_t>(2 * f.batch * f.superpixels));
  std::vector<int64_t> summary(static_cast<std::size_t>(f.batch * kSummary));
  auto passes = run.room<uint8_t>(f.batch * f.superpixels), refined = run.room<uint8_t>(f.batch * f.pixels);
  superpixel_select_cpu({f.labels, mask.data(), f.batch, f.pixels, f.superpixels, alpha, beta, overlap, counts.data(),
                         passes.data(), refined.data(), summary.data()},
                        run.threads);
  std::vector<int64_t> expected(counts.size());
  for (int64_t i = 0; i < f.batch * f.pixels; ++i) {
    const int64_t p = f.label(i);
    if (p < 0 || p >= f.superpixels) continue;
    const int64_t at = i / f.pixels * f.superpixels + p;
    ++expected[at];
    expected[f.batch * f.superpixels + at] += mask[i];
  }
  run.must(counts == expected, "superpixel_select: areas and intersections are those of the pixels");
  run.give(refined);
  run.give(summary);
}

void run_superpixel_vote(Run& run) {
  const Frames f(run);
  const double alpha = run.share();
  const int64_t num_classes = run.between(1, 7), ignored = run.integer(8);
  const AnyArray classes = run.any(run.one_of({kUInt8, kInt32, kInt64}), f.batch * f.pixels, num_classes);
  const int64_t cells = f.batch * f.superpixels;
  std::vector<int64_t> area(static_cast<std::size_t>(cells)), table(static_cast<std::size_t>(cells * num_classes));
  std::vector<int64_t> summary(static_cast<std::size_t>(f.batch * kSummary));
  auto winner = run.room<int64_t>(cells);
  AnyArray refined = run.any_room(classes.dtype, f.batch * f.pixels);
  superpixel_vote_cpu({f.labels, classes, f.batch, f.pixels, f.superpixels, num_classes, ignored, alpha, area.data(),
                       table.data(), winner.data(), refined, summary.data()},
                      run.threads);
  for (const int64_t kind : winner) run.must(kind >= 0 && kind < num_classes, "superpixel_vote: a winner is a class");
  run.give(area);
  run.give(table);
  run.give(winner);
  run.give(refined);
  run.give(summary);
}

void run_superpixel_confusion(Run& run) {
  const Frames f(run);
  const double alpha = run.share(), beta = run.positive();
  const int64_t num_classes = run.between(1, 7), ignored = run.integer(8);
  const DType dtype = run.one_of({kUInt8, kInt32, kInt64});
  const AnyArray prediction = run.any(dtype, f.batch * f.pixels, num_classes);
  const AnyArray annotation = run.any(dtype, f.batch * f.pixels, num_classes);
  const int64_t cells = f.batch * f.superpixels, pairs = f.batch * num_classes * num_classes;
  std::vector<std::uint32_t> area(static_cast<std::size_t>(cells));
  std::vector<std::uint32_t> votes(static_cast<std::size_t>(cells * num_classes)), annotated(votes);
  std::vector<int64_t> consistency(static_cast<std::size_t>(pairs)), agreement(consistency);
  std::vector<int64_t> invalid(static_cast<std::size_t>(f.batch * kInvalidKinds));
  superpixel_confusion_cpu(
      {f.labels, prediction, annotation, f.batch, f.pixels, f.superpixels, num_classes, ignored, alpha, beta,
       area.data(), votes.data(), annotated.data(), consistency.data(), agreement.data(), invalid.data()},
      run.threads);
  run.give(consistency);
  run.give(agreement);
  run.give(invalid);
}

void run_drop_components(Run& run) {
  const int64_t batch = run.between(0, 3), height = side(run, 24), width = side(run, 80);
  const double beta = run.flag() ? run.share() : run.number();
  const int64_t pixels = batch * height * width;
  const auto given = run.bits(pixels);
  auto masks = given;
  auto parent = run.room<std::int32_t>(pixels), size = run.room<std::int32_t>(pixels);
  drop_components_cpu({masks.data(), batch, height, width, beta, parent.data(), size.data()}, run.threads);
  for (int64_t i = 0; i < pixels; ++i) run.must(masks[i] <= given[i], "drop_components: no pixel is set");
  run.give(masks);
}

void run_patches(Run& run) {
  const int64_t batch = run.between(0, 2), height = side(run, 20), width = side(run, 70), queries = run.between(0, 9);
  const auto masks = run.bits(batch * height * width);
  auto integral = run.room<std::int32_t>(batch * (height + 1) * (width + 1));
  integral_image_cpu({masks.data(), batch, height, width, integral.data()}, run.threads);
  run.give(integral);
  if (run.flag())  // any contents
    integral = run.drawn<std::int32_t>(batch * (height + 1) * (width + 1), [&] { return run.integer(40); });
  const auto frames = run.integers(queries, batch), sides = run.integers(queries, 25);
  const double share = run.share();
  std::vector<int64_t> counts(static_cast<std::size_t>(queries));
  count_patches_cpu({integral.data(), batch, height, width, frames.data(), sides.data(), queries, share, counts.data()},
                    run.threads);
  const auto ranks = run.integers(queries, 30);
  auto corners = run.room<int64_t>(2 * queries);
  find_patches_cpu({integral.data(), batch, height, width, frames.data(), sides.data(), ranks.data(), queries, share,
                    corners.data()},
                   run.threads);
  for (int64_t q = 0; q < queries; ++q) {
    const bool found = ranks[q] >= 0 && ranks[q] < counts[q];
    run.must(found ? corners[2 * q] >= 0 && corners[2 * q] + sides[q] <= height && corners[2 * q + 1] >= 0 &&
                         corners[2 * q + 1] + sides[q] <= width
                   : corners[2 * q] == -1 && corners[2 * q + 1] == -1,
             "patches: a rank below the count has a square within the frame");
  }
  run.give(counts);
  run.give(corners);
}

}  // namespace

const std::vector<Target> kMaskTargets = {
    {"otsu", run_otsu},
    {"otsu_masks", run_otsu_masks},
    {"gradcam3d", run_gradcam3d},
    {"slic", run_slic},
    {"superpixel_select", run_superpixel_select},
    {"superpixel_vote", run_superpixel_vote},
    {"superpixel_confusion", run_superpixel_confusion},
    {"drop_components", run_drop_components},
    {"patches", run_patches},
};

}  // namespace fuzz
}  // namespace pyws
