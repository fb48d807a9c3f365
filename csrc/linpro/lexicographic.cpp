#include "linpro/lexicographic.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pyws {
namespace {

constexpr double kFirstMass = 0.1;                     // first mass of a run, where scores are 1
constexpr double kFirstMaxMass = 1e3, kMaxMass = 3e4;  // limits of a mass without an upper bound, where scores are 1
constexpr double kHold = 1e7;                          // charged for what a row misses that held before
constexpr double kZero = 1e-9;                         // prices and multipliers below are 0
constexpr double kConfined = 0.5;                      // share of its limit from which a mass counts as confined
constexpr double kSame = 1e-7;                         // tolerance between residuals
constexpr double kCertificate = 1e-7;                  // tolerances of the relative gap and of the last conditions
constexpr double kRowWork = 1e8;  // largest factorization by rows for which there is a second attempt

enum Stage { kResidual, kSum, kSquares };

}  // namespace

// Masses that an upper bound keeps far below the scores count in their own size; scores beyond what they can reach are
// missed by whatever is beyond.
void Lexicographic::choose_unit() {
  const RunProgram<OneThread>& p = *program_;
  double reach = 0.0;
  for (int run = 0; run < p.runs.run_count; ++run) reach += p.runs.size(run) * p.upper;
  const double outer = *std::max_element(p.outer.begin(), p.outer.end());
  unit_ = std::min(1.0, reach * std::max(1.0, outer));
}

// The program of a stage over the runs that are still free.
void Lexicographic::build(int stage) {
  const RunProgram<OneThread>& p = *program_;
  const int runs = p.runs.run_count;
  std::vector<int> before(runs + 1, 0);  // free runs
  std::vector<double> fixed(runs + 1, 0.0);
  free_.clear();
  box_ = BoxProgram();
  double max_mass = kZero;  // labels of about 1 make the multipliers of all stages alike
  for (int run = 0; run < runs; ++run) max_mass = std::max(max_mass, mass_[run] / p.runs.size(run));
  for (int run = 0; run < runs; ++run) {
    before[run + 1] = before[run] + (run_[run] == kFree);
    fixed[run + 1] = fixed[run] + (run_[run] == kAtUpper ? limit_[run] : 0.0);
    if (run_[run] != kFree) continue;
    free_.push_back(run);
    box_.cost.push_back(stage == kSum ? 1.0 : 0.0);
    box_.curvature.push_back(stage == kSquares ? 1.0 / (p.runs.size(run) * max_mass) : 0.0);
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

// A run that the rows hold at a bound, which no price shows, keeps its mass, and the others move without it.
void Lexicographic::move_to_center() {
  while (!free_.empty()) {
    std::vector<double> size;
    for (int run : free_) size.push_back(program_->runs.size(run));
    if (interior_.center(box_, size, program_->upper / unit_)) {
      for (std::size_t f = 0; f < free_.size(); ++f) mass_[free_[f]] = interior_.u[f];
      return;
    }
    bool any = false;
    for (std::size_t f = 0; f < free_.size(); ++f)
      if (interior_.is_held(f, size[f])) {
        run_[free_[f]] = kAtZero;
        any = true;
      }
    if (!any) return;
    build(kSquares);
    interior_.u.clear();
    for (int run : free_) interior_.u.push_back(mass_[run]);
  }
}

// One after the other. Where the last stages fail, what the ones before found is the answer.
Lexicographic::Answer Lexicographic::attempt(double max_mass, bool by_rows) {
  const RunProgram<OneThread>& p = *program_;
  const int runs = p.runs.run_count;
  run_.assign(runs, kFree);
  row_.assign(p.rows(), kHolds);
  limit_.resize(runs);
  for (int run = 0; run < runs; ++run) limit_[run] = std::min(p.runs.size(run) * (p.upper / unit_), max_mass);
  BoxProgram boxes[kSquares];
  std::vector<int> frees[kSquares];
  std::vector<double> multipliers[kSquares], masses[kSquares + 1];
  double uneven = 0.0;
  mass_.assign(runs, 0.0);
  inner_.assign(runs, kFirstMass);
  int last = kResidual;
  for (int stage : {kResidual, kSum, kSquares}) {
    build(stage);
    for (int run = 0; run < runs; ++run) mass_[run] = run_[run] == kAtUpper ? limit_[run] : 0.0;
    last = stage;
    if (!free_.empty()) {
      first_.clear();
      for (int run : free_) first_.push_back(inner_[run]);
      interior_.solve(box_, first_, by_rows);
      for (std::size_t f = 0; f < free_.size(); ++f) {
        mass_[free_[f]] = interior_.u[f];
        inner_[free_[f]] = interior_.inner[f];
      }
      uneven = interior_.violation;
      if (stage == kSquares && center_) move_to_center();
    }
    masses[stage] = mass_;
    if (stage == kSquares || free_.empty()) break;
    boxes[stage] = box_;
    frees[stage] = free_;
    multipliers[stage] = interior_.y;
    narrow(stage);
  }
  Answer found;
  for (int stage = last; stage >= kResidual; --stage) {
    Answer answer{masses[stage], boxes[kResidual].objective(masses[stage]), 0.0, stage == last ? uneven : INFINITY,
                  false};
    for (int run = 0; run < runs; ++run)
      answer.confined |= limit_[run] == max_mass && answer.mass[run] > kConfined * max_mass;
    for (int proof = kResidual; proof < last && proof < kSquares; ++proof) {
      first_.clear();
      for (int run : frees[proof]) first_.push_back(answer.mass[run]);
      answer.gap += std::max(0.0, boxes[proof].duality_gap(first_, multipliers[proof], proof == kResidual));
    }
    if (stage == last || better(answer, found)) found = answer;
  }
  return found;
}

Lexicographic::Answer Lexicographic::search(bool by_rows) {
  const Answer found = attempt(kFirstMaxMass, by_rows);
  if (!found.confined) return found;
  const Answer second = attempt(kMaxMass, by_rows);
  return better(second, found) ? second : found;
}

// What a gap may be by rounding.
double Lexicographic::rounding(const Answer& answer) const {
  return kCertificate * std::accumulate(answer.mass.begin(), answer.mass.end(), static_cast<double>(program_->rows()));
}

bool Lexicographic::exact(const Answer& answer) const {
  return answer.gap <= rounding(answer) && answer.uneven <= kCertificate;
}

// Proved, or of less residual, or where rounding hides which has less, of a smaller gap.
bool Lexicographic::better(const Answer& answer, const Answer& other) const {
  const bool proved = exact(answer) && !answer.confined, other_proved = exact(other) && !other.confined;
  if (proved != other_proved) return proved;
  const double near = kSame * (answer.residual + other.residual);
  if (std::fabs(answer.residual - other.residual) > near) return answer.residual < other.residual;
  return answer.gap + rounding(answer) < other.gap;
}

void Lexicographic::solve(const RunProgram<OneThread>& program, const std::vector<double>& weight, bool center,
                          std::vector<double>& label) {
  program_ = &program;
  weight_ = &weight;
  center_ = center;
  choose_unit();
  if (!(unit_ > 0.0)) {  // no label has a size that scores of this size could tell from 0
    answer_ = Answer();
    return label.assign(program.runs.run_count, 0.0);
  }
  answer_ = search(false);
  const NewtonEquations& equations = interior_.equations();
  if (!exact(answer_) && equations.row_work() < kRowWork) {
    const Answer by_rows = search(true);
    if (better(by_rows, answer_)) answer_ = by_rows;
  }
  label.resize(answer_.mass.size());
  for (std::size_t run = 0; run < label.size(); ++run)
    label[run] = answer_.mass[run] / program.runs.size(static_cast<int>(run)) * unit_;
}

}  // namespace pyws
