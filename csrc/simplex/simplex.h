// The linear program of segments that share snippets, small and dense: a bounded primal simplex on one tableau.
//
//   1. minimise  sum_i weight_i |q_i - (W u)_i|      2. minimise  sum u  among those          0 <= u <= limit
//
// u_k is the mass of class k: its label times its size. Where the first minimum is 0 the rows hold exactly. The caller
// scales the rows so that positive entries of W are 1; then the class that lies in row i alone and the residual of row
// i have the same column e_i, and one piecewise linear variable v_i stands for both: v_i in [0, limit] is mass, what is
// beyond is residual at weight_i. The v are the first basis, so most rows hold before the first pivot.
//
// Tolerances are absolute: the caller scales the scores to at most 1.
#pragma once

#include <cstddef>
#include <vector>

#include "linpro/linpro.h"
#include "linpro/tie_break.h"

namespace pyws {

// The columns of W, compressed: column k has the entries first[k] .. first[k+1]-1.
struct CoupledLp {
  std::vector<double> q, weight;    // rows
  std::vector<int> own;             // rows: the class whose column is e_i, or -1
  std::vector<double> size, limit;  // classes: snippets, greatest mass (may be infinite)
  std::vector<int> first, row;
  std::vector<double> entry;

  int rows() const { return static_cast<int>(q.size()); }
  int classes() const { return static_cast<int>(size.size()); }
};

class Simplex {
 public:
  // The mass of every class, with the tie-break among the optimal answers. False where an iteration limit is reached or
  // the certificate fails: then mass holds nothing of use.
  bool solve(const CoupledLp& lp, bool center, std::vector<double>& mass);

 private:
  // Where a ray meets a bound of a basic variable, or of the entering one (row -1): beyond, the objective's slope is
  // greater by `slope`.
  struct Break {
    double step, slope, rate, bound;
    int row;
  };

  double* row(int i) { return tableau_.data() + static_cast<std::size_t>(i) * columns_; }
  void begin(const CoupledLp& lp);
  bool minimise();
  int enter(bool first_found) const;
  bool advance(int column, bool first_found);
  void collect_breaks(int column, double sign);
  std::size_t stop(double gain, bool first_found);
  void change_cost(int i, double cost);
  void pivot(int i, int column);
  void set_walls(int column);
  bool fix_min_residual();
  void price_masses();
  double dual(int i) const;
  bool certify() const;
  bool break_ties(bool center);
  bool settle(const std::vector<int>& rows, const std::vector<int>& columns, bool center);
  bool certify_answer(double mass) const;

  const CoupledLp* lp_ = nullptr;
  int rows_ = 0, columns_ = 0;           // ids: 0 .. rows-1 are the v, then the classes that no row owns
  std::vector<double> tableau_, price_;  // rows x columns; reduced costs of the columns
  std::vector<double> devex_;            // columns: reference weights of the pricing (Forrest, Goldfarb 1992)
  std::vector<double> up_, down_;        // columns: what leaving the present value upwards or down adds
  std::vector<int> basic_, nonbasic_;    // ids of rows and columns
  std::vector<double> x_, low_, high_, soft_, cost_;  // ids; soft: cost of a unit outside [low, high]
  std::vector<int> class_, column_of_;                // ids: class or -1, column where nonbasic or -1
  std::vector<int> nonzero_;
  std::vector<Break> breaks_;
  FaceBlock block_;
  bool relaxed_ = false;  // step 1 left a residual
};

}  // namespace pyws
