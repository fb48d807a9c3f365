// Labels that are known before anything is solved: their snippets are taken out of the time axis, and what they bring
// to a row is taken off its score. What is left is a linear program like any other; its answer is put back among them.
//
//   snippets   0 1 2 3 4 5 6        known . . 1 1 0 . .       (. is free)
//   a row      - + + + + + -        becomes      - + + -  of the snippets 0 1 5 6, its score less 1 + 1 + 0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace pyws {

class KnownLabels {
 public:
  // given: a label for each of `length` snippets, NaN where it is free; null for none.
  void read(const double* given, std::int64_t length, double upper) {
    given_ = given;
    length_ = length;
    if (given == nullptr) return;
    free_.assign(1, 0);
    mass_.assign(1, 0.0);
    for (std::int64_t i = 0; i < length; ++i) {
      free_.push_back(free_.back() + (is_free(i) ? 1 : 0));
      mass_.push_back(mass_.back() + (is_free(i) ? 0.0 : clamped(i, upper)));
    }
    upper_ = upper;
  }

  // The row of what is free. A score that the known labels meet but for rounding is met.
  template <class Row>
  Row without(Row row) const {
    if (given_ == nullptr) return row;
    auto& at = row.spans;
    const auto between = [this](std::int64_t first, std::int64_t last) {
      return mass_[static_cast<std::size_t>(last)] - mass_[static_cast<std::size_t>(first)];
    };
    const double inside = between(at.start, at.end) / row.scale;
    const double around = (between(at.left, at.start) + between(at.end, at.right)) * row.outer / row.scale;
    const double left = row.score - inside + around;
    row.score = std::fabs(left) <= kRounding * (std::fabs(row.score) + inside + around) ? 0.0 : left;
    for (std::int64_t* bound : {&at.left, &at.start, &at.end, &at.right})
      *bound = free_[static_cast<std::size_t>(*bound)];
    return row;
  }

  // Puts the labels of the free snippets, which lie at the front, where they belong. Returns the sum of the known ones.
  double put_back(double* labels) const {
    if (given_ == nullptr) return 0.0;
    std::int64_t next = free_.back();
    for (std::int64_t i = length_ - 1; i >= 0; --i) labels[i] = is_free(i) ? labels[--next] : clamped(i, upper_);
    return mass_.back();
  }

 private:
  static constexpr double kRounding = 1e-12;
  static constexpr double kMost = 1e300;  // in all, so that sums stay finite

  bool is_free(std::int64_t i) const { return std::isnan(given_[i]); }
  double clamped(std::int64_t i, double upper) const {
    return std::min(std::max(given_[i], 0.0), std::min(upper, kMost / static_cast<double>(length_)));
  }

  const double* given_ = nullptr;
  std::int64_t length_ = 0;
  double upper_ = 0.0;
  std::vector<std::int64_t> free_;  // snippets that are free before each
  std::vector<double> mass_;        // known labels before each
};

}  // namespace pyws
