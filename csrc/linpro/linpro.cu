#include "common/ragged_cuda.h"
#include "common/team_cuda.h"
#include "dual_newton/newton_center.h"
#include "dual_newton/newton_loops_cuda.h"
#include "linpro/linpro.h"
#include "linpro/segment_row.h"

namespace pyws {
namespace {

using Counter = unsigned long long;

constexpr int kThreads = 128;

// What is found out of the component that starts with a row.
struct Component {
  std::int64_t group;  // -1 where none starts
  std::int64_t is_left;
  Share share;
};

// The scratch, an array after the other.
struct Work {
  Row *rows, *sorted;
  Component* components;
  std::int64_t *order, *other_order, *starts;  // starts: rows that start components, of all groups in any order
  std::int64_t* offsets;
  Counter *found, *taken;  // components: that were found, that a warp has taken
};
static_assert(sizeof(Row) == 7 * sizeof(std::int64_t) && sizeof(Component) == 5 * sizeof(std::int64_t),
              "linpro_scratch counts so many");

Work work_of(const LinproParams& p) {
  Work work;
  work.rows = reinterpret_cast<Row*>(p.scratch.data);
  work.sorted = work.rows + p.total;
  work.components = reinterpret_cast<Component*>(work.sorted + p.total);
  work.order = reinterpret_cast<std::int64_t*>(work.components + p.total);
  work.other_order = work.order + p.total;
  work.starts = work.other_order + p.total;
  work.offsets = work.starts + p.total;
  work.found = reinterpret_cast<Counter*>(work.offsets + p.groups + 1);
  work.taken = work.found + 1;
  return work;
}

__global__ void reset(Work work) { *work.found = *work.taken = 0; }

// The rows of a group in order, and where components start. One warp; running maxima of how far rows reach by shuffles.
__device__ void find_components(const Row* sorted, std::int64_t begin, std::int64_t end, std::int64_t group,
                                const Work& work) {
  const int lane = threadIdx.x;
  long long reached = 0;
  for (std::int64_t tile = begin; tile < end; tile += kWarp) {
    const std::int64_t i = tile + lane;
    const bool counts = i < end && !sorted[i].is_empty();
    const long long reach = running_max(max64(reached, counts ? sorted[i].spans.right : 0));
    const long long previous = __shfl_up_sync(kWholeWarp, reach, 1), before = lane > 0 ? previous : reached;
    const bool starts = counts && sorted[i].spans.left >= before;
    if (i < end) work.components[i].group = starts ? group : -1;
    if (starts) work.starts[atomicAdd(work.found, Counter{1})] = i;
    reached = __shfl_sync(kWholeWarp, reach, kWarp - 1);
  }
}

// Traffic: segments are read and labels zeroed once, coalesced; log2(n) passes over 8 bytes a row and what comparing
// reads, mostly in L2. Ownership: one block a group; thread t makes rows t, t + 128, ...
__global__ void __launch_bounds__(kThreads, 1) sort_groups(LinproParams p, Work work) {
  const std::int64_t g = blockIdx.x, begin = work.offsets[g], end = work.offsets[g + 1];
  const std::int64_t first = p.label_offsets[g], length = p.label_offsets[g + 1] - first;
  for (std::int64_t i = threadIdx.x; i < length; i += kThreads) p.labels[first + i] = 0.0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    work.rows[i] = make_row(row_spans(p.geometry, p.margin, p.start[i], p.end[i], length), p.rows_mean, p.score[i]);
    work.order[i] = i;
  }
  const std::int64_t* order = merge_sort(work.order + begin, work.other_order + begin, end - begin,
                                         [&](std::int64_t a, std::int64_t b) { return work.rows[a] < work.rows[b]; });
  for (std::int64_t i = threadIdx.x; i < end - begin; i += kThreads) work.sorted[begin + i] = work.rows[order[i]];
  __syncthreads();
  if (threadIdx.x < kWarp) find_components(work.sorted, begin, end, g, work);
}

// The rows from `first` on that belong to its component.
__device__ int count_rows(const Work& work, std::int64_t first, std::int64_t end) {
  for (std::int64_t tile = first + 1;; tile += kWarp) {
    const std::int64_t i = tile + static_cast<std::int64_t>(threadIdx.x);
    const unsigned others = __ballot_sync(kWholeWarp, i >= end || work.components[i].group >= 0);
    if (others != 0) return static_cast<int>(tile - first) + __ffs(static_cast<int>(others)) - 1;
  }
}

// Traffic: a component is read once and its labels written once; the iteration lives in the warp's memory, in L1 and L2.
// Ownership: one warp a component, and then the next one that nobody has.
__global__ void __launch_bounds__(kWarp, 1) solve_components(LinproParams p, Work work) {
  WarpTeam team(p.memory.data + blockIdx.x * kWarpMemory, kWarpMemory);
  DualNewton<WarpTeam> newton(team);
  RunProgram<WarpTeam> program;
  WarpTeam::Array<double> mass;
  const Counter found = *work.found;
  for (;;) {
    const Counter mine = team.in_order([&] { return atomicAdd(work.taken, Counter{1}); });
    if (mine >= found) return;
    const std::int64_t first = work.starts[mine], g = work.components[first].group;
    const int count = count_rows(work, first, work.offsets[g + 1]);
    const Row* component = work.sorted + first;
    double* labels = p.labels + p.label_offsets[g];
    Share share = {0.0, 0.0, 0.0};
    bool solved = true;
    const double scale = count > 1 ? scale_of(team, component, count) : 0.0;
    if (count == 1) {
      share = solve_lone(team, component[0], p.upper, labels);
    } else if (scale > 0.0) {
      team.forget_arrays();
      solved = p.entry_limit > 0 && build_program(team, component, count, scale, p.upper, program);
      if (solved) team.resize(mass, program.runs.run_count + 1);
      solved = solved && newton.solve(program, p.center);
      if (solved) share = write_answer(team, component, scale, p.upper, program, newton.label(), mass, labels);
    }
    team.in_order([&] {
      work.components[first].share = share;
      work.components[first].is_left = !solved;
    });
  }
}

// Traffic: a row's component is read once, and an empty row. Ownership: one thread a group, which adds up in order.
__global__ void __launch_bounds__(kThreads) sum_groups(LinproParams p, Work work) {
  const std::int64_t g = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (g >= p.groups) return;
  const std::int64_t begin = work.offsets[g], end = work.offsets[g + 1];
  double objective = 0.0, residual = 0.0;
  std::int64_t components = 0;
  bool is_relaxed = false, is_left = false;
  for (std::int64_t i = begin; i < end; ++i) {
    const Component component = work.components[i];
    const bool starts = component.group >= 0;
    if (!starts && !work.sorted[i].is_empty()) continue;
    const Share share = starts ? component.share : share_of_empty(work.sorted[i]);
    objective += share.mass;
    residual += share.missing;
    is_relaxed |= share.is_relaxed();
    is_left |= starts && component.is_left != 0;
    components += starts;
  }
  p.objective[g] = objective;
  p.residual[g] = residual;
  p.gap[g] = 0.0;
  p.status[g] = begin == end ? kEmpty : is_relaxed ? kRelaxed : kOptimal;
  p.components[g] = components;
  p.left[g] = is_left;
}

}  // namespace

void linpro_cuda(const LinproParams& p, void* stream) {
  const char* op = "linpro";
  if (p.scratch == nullptr || p.memory == nullptr) throw std::invalid_argument("linpro: CUDA needs scratch and memory");
  if (p.known != nullptr) throw std::invalid_argument("linpro: known labels are for the CPU");
  const Work work = work_of(p);
  launch_lay_out(op, p.offsets, p.lengths, p.groups, p.total, work.offsets, p.label_offsets, stream, p.snippets);
  launch(op, reset, dim3(1), dim3(1), 0, stream, work);
  launch(op, sort_groups, grid_1d(op, p.groups), dim3(kThreads), 0, stream, p, work);
  launch(op, solve_components, grid_1d(op, p.warps), dim3(kWarp), 0, stream, p, work);
  launch(op, sum_groups, grid_1d(op, ceil_div(p.groups, kThreads)), dim3(kThreads), 0, stream, p, work);
}

}  // namespace pyws
