// Arguments for the kernels over time: ragged batches of segments, in order or of any contents.
#include <algorithm>

#include "class_mean/class_mean.h"
#include "fuse_segments/fuse_segments.h"
#include "fuzz.h"
#include "linpro/linpro.h"
#include "match_segments/match_segments.h"
#include "propose_segments/propose_segments.h"

namespace pyws {
namespace fuzz {
namespace {

using std::int64_t;

struct Batch {
  int64_t groups, total;
  bool wild;  // contents beyond the contract: they may give anything, and hurt nothing
  std::vector<double> start, end, score, weight;
  std::vector<int64_t> offsets;

  Batch(Run& run, std::int64_t most) : groups(run.between(0, 4)), total(run.between(0, most)), wild(run.flag()) {
    const auto place = [&] { return wild ? run.number() : std::fmod(run.finite(), 1e9); };
    start = run.drawn<double>(total, place);
    end = run.drawn<double>(total, place);
    for (int64_t i = 0; i < total && !wild; ++i) end[i] = start[i] + std::fabs(end[i]);
    score = wild ? run.numbers(total) : run.finites(total);
    weight = wild ? run.numbers(total) : run.finites(total);
    offsets = run.offsets(groups, total, wild && run.flag());
    if (wild || groups == 0) run.specified = false;
  }
};

int64_t snippets_of(const std::vector<int64_t>& lengths) {
  int64_t sum = 0;
  for (const int64_t length : lengths) sum += max64(length, 0);
  return sum;
}

void give_packed(Run& run, const Batch& b, const std::vector<double>& packed, const std::vector<int64_t>& offsets) {
  int64_t before = 0;
  for (const int64_t offset : offsets) {
    run.must(offset >= before && offset <= b.total, "packed offsets rise, up to what there is room for");
    before = offset;
  }
  run.give(offsets);
  run.give(packed.data(), kSegmentRows * before);
}

void run_fuse_segments(Run& run) {
  const Batch b(run, 40);
  const auto overlap = run.choice<Overlap>();
  const auto distribution = run.choice<Distribution>();
  const double threshold = run.share(), temperature = run.positive(), dof = run.positive();
  auto scratch = run.room<double>(fuse_segments_scratch(b.total, b.groups)), packed = run.room<double>(4 * b.total);
  auto packed_offsets = run.room<int64_t>(b.groups + 1), membership = run.room<int64_t>(b.total);
  fuse_segments_cpu({b.start.data(), b.end.data(), b.score.data(), b.weight.data(), b.offsets.data(), b.groups, b.total,
                     overlap, threshold, distribution, temperature, dof, scratch.data(), packed.data(),
                     packed_offsets.data(), membership.data()},
                    run.threads);
  give_packed(run, b, packed, packed_offsets);
  for (int64_t i = 0; i < b.total && run.specified; ++i)
    run.must(membership[i] >= 0 && membership[i] < packed_offsets.back(), "every candidate is of a fused segment");
  run.give(membership);
}

void run_suppress_segments(Run& run) {
  const Batch b(run, 40);
  const auto overlap = run.choice<Overlap>();
  const double threshold = run.share(), sigma = run.flag() ? 0.0 : run.positive();
  const double least = run.flag() ? -kInfinity : run.finite();
  auto scratch = run.room<double>(fuse_segments_scratch(b.total, b.groups)), packed = run.room<double>(4 * b.total);
  auto packed_offsets = run.room<int64_t>(b.groups + 1), index = run.room<int64_t>(b.total);
  suppress_segments_cpu(
      {b.start.data(), b.end.data(), b.score.data(), b.weight.data(), b.offsets.data(), b.groups, b.total, overlap,
       threshold, sigma, least, scratch.data(), packed.data(), packed_offsets.data(), index.data()},
      run.threads);
  give_packed(run, b, packed, packed_offsets);
  for (int64_t i = 0; i < packed_offsets.back(); ++i)
    run.must(index[i] >= 0 && index[i] < b.total, "what is kept is of the input");
  run.give(index.data(), packed_offsets.back());
}

void run_propose_segments(Run& run) {
  const int64_t videos = run.between(0, 4), classes = run.between(0, 4), snippets = run.between(0, 90);
  const int64_t count = run.between(1, run.flag() ? 5 : kMaxThresholds), min_length = run.integer(4);
  const AnyArray tcam = run.any(run.one_of({kFloat32, kFloat64}), snippets * classes);
  const auto offsets = run.offsets(videos, snippets, run.flag());
  auto thresholds = run.numbers(count);
  for (double& x : thresholds) x = x == x ? x : 0.0;
  std::sort(thresholds.begin(), thresholds.end());
  const bool chosen = run.flag();
  const auto wanted = run.bits(chosen ? videos * classes : 0);
  auto scratch = run.room<double>(propose_segments_scratch(videos, classes, snippets));
  auto runs = run.room<int64_t>(propose_segments_runs(videos, classes, count));
  count_proposals_cpu({tcam,
                       offsets.data(),
                       videos,
                       classes,
                       snippets,
                       thresholds.data(),
                       count,
                       {chosen ? reinterpret_cast<const bool*>(wanted.data()) : nullptr},
                       min_length,
                       scratch.data(),
                       runs.data()},
                      run.threads);
  const int64_t total = runs[runs.size() - 2], bad = runs.back();
  run.must(total >= 0 && total <= (snippets + 1) * (videos + 1) * classes * count, "no more runs than snippets");
  run.give(&bad, 1);
  if (bad != kAllFinite) return;
  int64_t sizes = 1;
  while (sizes <= snippets) sizes *= 2;
  const int64_t past = run.flag();
  const auto margins = run.drawn<std::int32_t>(2 * sizes, [&] { return run.between(0, sizes); });
  auto packed = run.room<double>(4 * total);
  auto packed_offsets = run.room<int64_t>(videos * classes + 1);
  fill_proposals_cpu({offsets.data(), videos, classes, snippets, count, min_length, margins.data(), sizes, past,
                      scratch.data(), runs.data(), total, packed.data(), packed_offsets.data()},
                     run.threads);
  run.give(packed);
  run.give(packed_offsets);
}

void run_snippet_classes(Run& run) {
  const Batch b(run, 40);
  const auto lengths = run.drawn<int64_t>(b.groups, [&] { return run.between(-3, 120); });
  const int64_t snippets = snippets_of(lengths);
  const auto geometry = run.choice<RowGeometry>();
  const double margin = std::fabs(run.finite());
  const int64_t slots = class_slots(b.total, b.groups);
  auto starts = run.room<int64_t>(3 * (b.groups + 1)), class_offsets = run.room<int64_t>(b.groups + 1);
  auto scratch = run.room<int64_t>(snippet_classes_scratch(b.total, b.groups)), ids = run.room<int64_t>(snippets);
  snippet_classes_cpu({b.start.data(), b.end.data(), b.total, b.offsets.data(), lengths.data(), b.groups, geometry,
                       margin, slots, starts.data(), class_offsets.data(), scratch.data(), ids.data()},
                      run.threads);
  const int64_t classes = class_offsets.back(), entries = starts.back();
  run.must(classes >= 0 && classes <= slots && entries >= 0 && entries <= b.total * (snippets + 4 * b.total + 2),
           "snippet_classes: counts within what there is");
  auto size = run.room<int64_t>(classes), rows = run.room<int64_t>(entries);
  std::vector<int64_t> row_offsets(static_cast<std::size_t>(classes) + 1);
  auto signs = run.room<std::int8_t>(entries);
  class_rows_cpu({starts.data(), class_offsets.data(), b.groups, slots, scratch.data(), ids.data(), size.data(),
                  row_offsets.data(), rows.data(), signs.data()},
                 run.threads);
  int64_t sized = 0;
  for (const int64_t n : size) sized += n;
  if (run.specified) run.must(sized == snippets, "snippet_classes: every snippet is of one class");
  for (const std::int8_t sign : signs)
    if (run.specified) run.must(sign == 1 || sign == -1, "class_rows: an entry is 1 or -1");
  run.give(ids);
  run.give(size);
  run.give(row_offsets);
  run.give(rows);
  run.give(signs);
}

void run_class_mean(Run& run) {
  const DType dtype = run.one_of({kFloat32, kFloat64});
  const bool ragged = run.flag();
  const int64_t groups = ragged ? run.between(1, 4) : 1, total = run.between(0, 60), classes = run.between(0, 20);
  const int64_t columns = run.between(0, 20);
  const auto ids = run.integers(total, classes);
  const auto snippet_offsets = run.offsets(groups, total, run.flag());
  const auto class_offsets = run.offsets(groups, classes, run.flag());
  const AnyArray values = run.any(dtype, total * columns);
  AnyArray out = run.any_room(dtype, total * columns);
  auto sums = run.room<double>(2 * classes * columns);
  auto unknown = run.room<int64_t>(groups);
  class_mean_cpu({values,
                  ids.data(),
                  {ragged ? snippet_offsets.data() : nullptr},
                  {ragged ? class_offsets.data() : nullptr},
                  groups,
                  total,
                  classes,
                  columns,
                  sums.data(),
                  out,
                  unknown.data()},
                 run.threads);
  run.give(out);
  run.give(unknown);
}

void run_match_segments(Run& run) {
  const int64_t groups = run.between(0, 5), classes = run.between(0, 4), predictions = run.between(0, 40);
  const int64_t truths = run.between(0, 20), count = run.between(0, run.flag() ? 4 : kMatchThresholds);
  const auto start = run.numbers(predictions), end = run.numbers(predictions), score = run.numbers(predictions);
  const auto truth_start = run.numbers(truths), truth_end = run.numbers(truths), thresholds = run.numbers(count);
  const auto offsets = run.offsets(groups, predictions, run.flag());
  const auto truth_offsets = run.offsets(groups, truths, run.flag());
  const auto class_offsets = run.offsets(classes, groups, run.flag());
  auto scratch = run.room<int64_t>(match_segments_scratch(predictions, truths));
  auto hit = run.room<std::uint8_t>(predictions * count);
  auto order = run.room<int64_t>(predictions);
  auto ap = run.room<double>(classes * count);
  match_segments_cpu({start.data(), end.data(), score.data(), offsets.data(), truth_start.data(), truth_end.data(),
                      truth_offsets.data(), class_offsets.data(), thresholds.data(), predictions, truths, groups,
                      classes, count, scratch.data(), hit.data(), order.data(), ap.data()},
                     run.threads);
  for (const double x : ap) run.must(!(x < 0 || x > 1), "match_segments: AP is in [0, 1]");
  run.give(hit);
  run.give(order);
  run.give(ap);
}

void run_linpro(Run& run) {
  const Batch b(run, 24);
  const auto lengths = run.drawn<int64_t>(b.groups, [&] { return run.between(-2, 60); });
  const int64_t snippets = snippets_of(lengths);
  const bool fixed = run.flag();
  const auto known = run.drawn<double>(fixed ? snippets : 0, [&] { return run.flag() ? run.number() : NAN; });
  const auto geometry = run.choice<RowGeometry>();
  const double margin = std::fabs(run.finite()), upper = run.flag() ? 1.0 : run.flag() ? kInfinity : run.positive();
  const bool rows_mean = run.flag(), center = run.flag();
  const int64_t entry_limit = run.flag() ? 4000000 : run.between(0, 400);
  auto labels = run.room<double>(snippets), objective = run.room<double>(b.groups), residual = objective;
  auto gap = run.room<double>(b.groups);
  auto label_offsets = run.room<int64_t>(b.groups + 1), status = run.room<int64_t>(b.groups), components = status;
  auto left = run.room<uint8_t>(b.groups);
  linpro_cpu({b.start.data(),
              b.end.data(),
              b.score.data(),
              b.offsets.data(),
              lengths.data(),
              {fixed ? known.data() : nullptr},
              b.groups,
              b.total,
              snippets,
              geometry,
              margin,
              upper,
              rows_mean,
              center,
              entry_limit,
              labels.data(),
              label_offsets.data(),
              objective.data(),
              residual.data(),
              gap.data(),
              status.data(),
              components.data(),
              left.data(),
              {nullptr},
              {nullptr},
              0},
             run.threads);
  for (const double x : labels) run.must(x >= 0 && std::isfinite(x) && x <= upper, "linpro: a label is in [0, upper]");
  for (int64_t g = 0; g < b.groups; ++g) {
    run.must(objective[g] >= 0 && residual[g] >= 0 && gap[g] >= 0, "linpro: sums are numbers, not below 0");
    run.must(status[g] >= kOptimal && status[g] <= kApproximate, "linpro: a status");
  }
  run.give(labels);
  run.give(label_offsets);
  run.give(objective);
  run.give(residual);
  run.give(gap);
  run.give(status);
  run.give(components);
}

}  // namespace

const std::vector<Target> kSegmentTargets = {
    {"fuse_segments", run_fuse_segments},
    {"suppress_segments", run_suppress_segments},
    {"propose_segments", run_propose_segments},
    {"snippet_classes", run_snippet_classes},
    {"class_mean", run_class_mean},
    {"match_segments", run_match_segments},
    {"linpro", run_linpro},
};

}  // namespace fuzz
}  // namespace pyws
