// The leaf loops of fuse_segments, one table an instruction set.
#pragma once

#include "fuse_segments.h"
#include "simd.h"

namespace pyws {

// The candidates of a group, about by rising start, in blocks of kFuseBlock: a block lies close together, so that most
// are passed over by their bounds. Who has left, and what fills up the last block, has NaN for bounds: it meets
// nothing.
struct Candidates {
  double* start;
  double* end;
  double* score;
  std::int64_t* index;  // in the group
  double* low;          // of a block: its least start,
  double* high;         // its greatest end
  double* best;         // and its highest score, of soft suppression
  std::int64_t blocks;
};

struct Seed {
  double start, end;
  std::int64_t position;
};

// Members' rows are filled up to whole vectors of kFuseLanes, where their weights g are 0.
struct FuseLoops {
  // Bounds and best of all blocks.
  void (*summarize)(const Candidates* all);
  // Takes the seed and what overlaps it by more than the threshold out of left, lists their indices in members, which
  // has room for a vector more, and returns their number.
  std::int64_t (*split)(const Candidates* left, Seed seed, int overlap, double threshold, std::int64_t* members);
  // Soft suppression. Position of the highest score, of equals that of the lowest index; -1 where all are -inf.
  std::int64_t (*best)(const Candidates* left);
  // Gives the seed a score of -inf and lowers the others by exp(-overlap^2 / sigma).
  void (*decay)(const Candidates* left, Seed seed, int overlap, double sigma);
  // The number of the bucket of each x, of `count` equal ones between the least and the greatest.
  void (*buckets)(const double* x, std::int64_t size, std::int64_t count, std::int64_t* bucket);
  // Copies the members' rows; the lanes that fill up the last vector get the seed's.
  void (*gather)(const double* const rows[kFuseRows], const std::int64_t* members, std::int64_t size, std::int64_t seed,
                 double* const out[kFuseRows]);
  // g[r] = exp((weight[r] - max) / temperature); returns their sum.
  double (*softmax)(const double* weight, std::int64_t size, double temperature, double* g);
  // sum of g * (x - origin)
  double (*moment)(const double* x, const double* g, std::int64_t size, double origin);
  // One step of Student's t: sums of share * g and of share * g * (x - origin), share at (m, variance)
  void (*student_mean)(const double* x, const double* g, std::int64_t size, double origin, double m, double variance,
                       double dof, double sums[2]);
  // sum of share * g * (x - centre)^2, share at (m, variance)
  double (*student_square)(const double* x, const double* g, std::int64_t size, double centre, double m,
                           double variance, double dof);
};

PYWS_DECLARE_LOOPS(FuseLoops, fuse_loops)

}  // namespace pyws
