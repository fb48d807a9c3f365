#include "linpro/lexicographic.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pyws {
namespace {

constexpr double kFirstMass = 0.1;                             // of a run, where scores are 1
constexpr double kFirstMost = 1e3, kMost = 1e8, kMore = 30.0;  // limits of a mass without an upper bound, tried in turn
constexpr double kHold = 1e6;                                  // charged for what a row misses that held before
constexpr double kZero = 1e-9;                                 // of prices and multipliers
constexpr double kCertificate = 1e-7;                          // of the gap, to what there is; of the last conditions
constexpr double kRowWork = 3e8;                               // of a factorization by rows, for a second attempt

enum Stage { kResidual, kSum, kSquares };

}  // namespace

// Masses that an upper bound keeps far below the scores count in their own size; scores beyond what they can reach are
// missed by whatever is beyond.
void Lexicographic::choose_unit() {
  const RunProgram& p = *program_;
  double reach = 0.0;
  for (int run = 0; run < p.runs.count(); ++run) reach += p.runs.size(run) * p.upper;
  const double outer = *std::max_element(p.outer.begin(), p.outer.end());
  unit_ = std::min(1.0, reach * std::max(1.0, outer));
}

// The program of a stage over the runs that are still free.
void Lexicographic::build(int stage) {
  const RunProgram& p = *program_;
  const int runs = p.runs.count();
  const std::vector<double>& mass = answer_.mass;
  std::vector<int> before(runs + 1, 0);  // free runs
  std::vector<double> fixed(runs + 1, 0.0);
  free_.clear();
  box_ = BoxProgram();
  double most = kZero;  // labels of about 1 make the multipliers of all stages alike
  for (int run = 0; run < runs; ++run) most = std::max(most, mass[run] / p.runs.size(run));
  for (int run = 0; run < runs; ++run) {
    before[run + 1] = before[run] + (run_[run] == kFree);
    fixed[run + 1] = fixed[run] + (run_[run] == kAtUpper ? limit_[run] : 0.0);
    if (run_[run] != kFree) continue;
    free_.push_back(run);
    box_.cost.push_back(stage == kSum ? 1.0 : 0.0);
    box_.curvature.push_back(stage == kSquares ? 1.0 / (p.runs.size(run) * most) : 0.0);
    box_.limit.push_back(limit_[run]);
  }
  for (int i = 0; i < p.rows(); ++i) {
    const int* at = &p.runs.run_of[4 * static_cast<std::size_t>(i)];
    const double charge = stage == kResidual ? (*weight_)[i] : kHold;
    const double score = unit_ < 1.0 ? std::min(std::max(p.q[i] / unit_, -2.0), 2.0) : p.q[i];
    box_.rows.push_back({before[at[0]], before[at[1]], before[at[2]], before[at[3]], p.outer[i],
                         score - p.row_sum(i, fixed), row_[i] == kExceeds ? 0.0 : -charge,
                         row_[i] == kFallsShort ? 0.0 : charge});
  }
}

void Lexicographic::narrow(int stage) {
  for (std::size_t f = 0; f < free_.size(); ++f)
    if (std::fabs(interior_.price[f]) > kZero) run_[free_[f]] = interior_.price[f] > 0.0 ? kAtZero : kAtUpper;
  for (std::size_t i = 0; i < row_.size(); ++i) {
    const double y = interior_.y[i];
    if (stage == kResidual)
      row_[i] = y >= box_.rows[i].high ? kFallsShort : y <= box_.rows[i].low ? kExceeds : kHolds;
    else if (std::fabs(y) > kZero)
      row_[i] = kHolds;
  }
}

void Lexicographic::move_to_center() {
  std::vector<double> size;
  for (int run : free_) size.push_back(program_->runs.size(run));
  if (!interior_.center(box_, size, program_->upper / unit_)) return;
  for (std::size_t f = 0; f < free_.size(); ++f) answer_.mass[free_[f]] = interior_.u[f];
}

// False: a run has more mass than `most` allows with ease, and it is not the last attempt.
bool Lexicographic::solve_within(double most, bool by_rows, bool last) {
  const RunProgram& p = *program_;
  const int runs = p.runs.count();
  std::vector<double>& mass = answer_.mass;
  run_.assign(runs, kFree);
  row_.assign(p.rows(), kHolds);
  limit_.resize(runs);
  for (int run = 0; run < runs; ++run) limit_[run] = std::min(p.runs.size(run) * (p.upper / unit_), most);
  BoxProgram boxes[2];
  std::vector<int> frees[2];
  std::vector<double> multipliers[2];
  answer_.gap = answer_.uneven = 0.0;
  mass.assign(runs, 0.0);
  inner_.assign(runs, kFirstMass);
  for (int stage : {kResidual, kSum, kSquares}) {
    build(stage);
    for (int run = 0; run < runs; ++run) mass[run] = run_[run] == kAtUpper ? limit_[run] : 0.0;
    if (free_.empty()) break;
    first_.clear();
    for (int run : free_) first_.push_back(inner_[run]);
    interior_.solve(box_, first_, by_rows);
    for (std::size_t f = 0; f < free_.size(); ++f) {
      const int run = free_[f];
      mass[run] = interior_.u[f];
      inner_[run] = interior_.inner[f];
      if (!last && limit_[run] == most && mass[run] > (stage == kResidual ? 0.99 : 0.5) * most) return false;
    }
    if (stage == kSquares) {
      answer_.uneven = interior_.violation;
      break;
    }
    boxes[stage] = box_;
    frees[stage] = free_;
    multipliers[stage] = interior_.y;
    narrow(stage);
  }
  if (center_ && !free_.empty()) move_to_center();
  for (int stage : {kResidual, kSum}) {
    if (frees[stage].empty()) continue;
    first_.clear();
    for (int run : frees[stage]) first_.push_back(mass[run]);
    answer_.gap += std::max(0.0, boxes[stage].duality_gap(first_, multipliers[stage], stage == kResidual));
  }
  return true;
}

void Lexicographic::search(bool by_rows) {
  double most = kFirstMost;
  while (!solve_within(most, by_rows, most * kMore > kMost)) most *= kMore;
}

bool Lexicographic::certified() const {
  const double there_is = std::accumulate(answer_.mass.begin(), answer_.mass.end(), static_cast<double>(row_.size()));
  return answer_.gap <= kCertificate * there_is && answer_.uneven <= kCertificate;
}

void Lexicographic::solve(const RunProgram& program, const std::vector<double>& weight, bool center,
                          std::vector<double>& label) {
  program_ = &program;
  weight_ = &weight;
  center_ = center;
  choose_unit();
  search(false);
  const NewtonEquations& equations = interior_.equations();
  if (!certified() && !equations.by_rows() && equations.row_work() < kRowWork) {
    const Answer before = answer_;
    search(true);
    if (before.gap < answer_.gap) answer_ = before;
  }
  label.resize(answer_.mass.size());
  for (std::size_t run = 0; run < label.size(); ++run)
    label[run] = answer_.mass[run] / program.runs.size(static_cast<int>(run)) * unit_;
}

}  // namespace pyws
