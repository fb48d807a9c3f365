// The leaf loops of fuse_segments, one table an instruction set.
#pragma once

#include "common/simd.h"
#include "fuse_segments/fuse_segments.h"

namespace pyws {

// The candidates of a group by falling start, in blocks of kFuseBlock: a block lies close together, so that most are
// passed over by their bounds. What fills up the last block has NaN for start and end: it meets nothing.
struct Candidates {
  double* start;
  double* end;
  std::int64_t* index;  // in the group
  double* low;          // least start of a block
  double* high;         // and its greatest end; filled up to a multiple of kFuseLanes with blocks that meet nothing
  std::int64_t blocks;
  std::int64_t* owner;  // the cluster that took the candidate, negative while it is left; not of soft suppression
  double* score;  // score, for soft suppression, which marks removed segments by start = end = NaN and score = -inf
  double* best;   // the highest score of a block, filled up as well; of soft suppression
};

struct Seed {
  double start, end;
  std::int64_t position;
};

// Members' rows x and g are read up to a multiple of kFuseLanes, whatever stands there.
struct FuseLoops {
  // The bounds of all blocks; of soft suppression, their best.
  void (*bound)(const Candidates* all);
  void (*rate)(const Candidates* all);
  // Gives the cluster the seed and what is left that overlaps it by more than the threshold; returns their number.
  std::int64_t (*split)(const Candidates* all, Seed seed, Overlap overlap, double threshold, std::int64_t cluster);
  // Soft suppression. Position of the highest score, of equals that of the lowest index; -1 where all are -inf.
  std::int64_t (*best)(const Candidates* left);
  // Gives the seed a score of -inf and lowers the others by exp(-overlap^2 / sigma).
  void (*decay)(const Candidates* left, Seed seed, Overlap overlap, double sigma);
  // The number of the bucket of each x, of `count` equal ones from the greatest to the least; the first for all where
  // some are not finite.
  void (*buckets)(const double* x, std::int64_t size, std::int64_t count, std::int64_t* bucket);
  // g = exp(g / temperature)
  void (*exponentials)(double* g, std::int64_t size, double temperature);
  // mean = origin + sum of g * (x - origin) / sum of g, of each row; returns the sum of g.
  double (*means)(const double* const member[kFuseRows], const double* g, std::int64_t size,
                  const double origin[kFuseRows], double mean[kFuseRows]);
  // One step of Student's t: sums of share * g and of share * g * (x - origin), share at (m, variance)
  void (*student_mean)(const double* x, const double* g, std::int64_t size, double origin, double m, double variance,
                       double dof, double sums[2]);
  // sum of share * g * (x - centre)^2, share at (m, variance)
  double (*student_square)(const double* x, const double* g, std::int64_t size, double centre, double m,
                           double variance, double dof);
};

PYWS_DECLARE_LOOPS(FuseLoops, fuse_loops)

}  // namespace pyws
