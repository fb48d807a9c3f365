#include "background_patches/background_patches.h"

#include "background_patches/background_patches_simd.h"
#include "common/parallel.h"

namespace pyws {
namespace {

// The squares of one side in one frame, row by row.
class Squares {
 public:
  Squares(const std::int32_t* integral, std::int64_t frame, std::int64_t height, std::int64_t width, std::int64_t side,
          double share)
      : corners_(corners_of(side, height, width)),
        integral_(integral + frame * (height + 1) * (width + 1)),
        stride_(width + 1),
        side_(side),
        limit_(corners_.rows > 0 ? patch_limit(side, share) : 0) {}

  const Corners& corners() const { return corners_; }
  std::int64_t count(const PatchLoops& loops, std::int64_t y) const {
    return loops.count(row(y), row(y + side_), side_, corners_.columns, limit_);
  }
  bool fits(std::int64_t y, std::int64_t x) const { return patch_sum(row(y), row(y + side_), x, side_) <= limit_; }

 private:
  const std::int32_t* row(std::int64_t y) const { return integral_ + y * stride_; }

  Corners corners_;
  const std::int32_t* integral_;
  std::int64_t stride_, side_;
  std::int32_t limit_;
};

Squares squares_of(const std::int32_t* integral, std::int64_t batch, std::int64_t height, std::int64_t width,
                   std::int64_t frame, std::int64_t side, double share) {
  const bool known = frame >= 0 && frame < batch;
  return Squares(integral, known ? frame : 0, height, width, known ? side : 0, share);
}

double walk_nanoseconds(std::int64_t height, std::int64_t width) { return 0.3 * static_cast<double>(height * width); }

void find(const PatchLoops& loops, const Squares& squares, std::int64_t rank, std::int64_t* corner) {
  corner[0] = corner[1] = -1;
  for (std::int64_t y = 0; rank >= 0 && y < squares.corners().rows; ++y) {
    const std::int64_t fitting = squares.count(loops, y);
    if (rank >= fitting) {
      rank -= fitting;
      continue;
    }
    std::int64_t x = 0;
    while (!squares.fits(y, x) || rank-- > 0) ++x;
    corner[0] = y;
    corner[1] = x;
    return;
  }
}

}  // namespace

void integral_image_cpu(const IntegralParams& p, int threads) {
  const PatchLoops& loops = patch_loops();
  const std::int64_t stride = p.width + 1;
  parallel_for(p.batch, 1.0 * static_cast<double>(p.height * p.width), threads,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t b = begin; b < end; ++b) {
                   std::int32_t* frame = p.integral + b * (p.height + 1) * stride;
                   for (std::int64_t x = 0; x < stride; ++x) frame[x] = 0;
                   for (std::int64_t y = 0; y < p.height; ++y) {
                     frame[(y + 1) * stride] = 0;
                     loops.integrate(p.masks + (b * p.height + y) * p.width, frame + y * stride, p.width,
                                     frame + (y + 1) * stride);
                   }
                 }
               });
}

void count_patches_cpu(const CountPatchesParams& p, int threads) {
  const PatchLoops& loops = patch_loops();
  parallel_for(p.queries, walk_nanoseconds(p.height, p.width), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Squares squares = squares_of(p.integral, p.batch, p.height, p.width, p.frames[i], p.sides[i], p.share);
      for (std::int64_t y = 0; y < squares.corners().rows; ++y) p.counts[i] += squares.count(loops, y);
    }
  });
}

void find_patches_cpu(const FindPatchesParams& p, int threads) {
  const PatchLoops& loops = patch_loops();
  parallel_for(p.queries, walk_nanoseconds(p.height, p.width), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Squares squares = squares_of(p.integral, p.batch, p.height, p.width, p.frames[i], p.sides[i], p.share);
      find(loops, squares, p.ranks[i], p.corners + 2 * i);
    }
  });
}

}  // namespace pyws
