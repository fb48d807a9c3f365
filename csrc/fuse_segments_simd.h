// The leaf loops of fuse_segments, one table an instruction set.
#pragma once

#include "fuse_segments.h"
#include "simd.h"

namespace pyws {

// Candidates still in the walk, in rising index order.
struct Candidates {
  double* start;
  double* end;
  double* score;
  std::int64_t* index;
  std::int64_t size;
};

struct Seed {
  double start, end;
  std::int64_t position;  // among the candidates
};

struct FuseLoops {
  // Position of the highest score, the first of equals; 0 where every score is NaN.
  std::int64_t (*best)(const double* score, std::int64_t size);
  // Moves the seed and what overlaps it by more than the threshold into members, closes the gaps, returns their number.
  std::int64_t (*split)(Candidates* left, Seed seed, int overlap, double threshold, std::int64_t* members);
  // Lowers scores by exp(-overlap^2 / sigma), drops the seed and scores of at most min_score, closes the gaps.
  void (*decay)(Candidates* left, Seed seed, int overlap, double sigma, double min_score);
  // g[r] = exp((weight[r] - max) / temperature)
  void (*softmax)(const double* weight, std::int64_t size, double temperature, double* g);
  // sum of g
  double (*total)(const double* g, std::int64_t size);
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
