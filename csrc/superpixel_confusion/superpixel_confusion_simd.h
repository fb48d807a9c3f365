// The leaf loops of superpixel_confusion, one table an instruction set.
#pragma once

#include "common/simd.h"
#include "superpixel_confusion/superpixel_confusion.h"

namespace pyws {

// One frame: its maps, and the counters of its superpixels.
template <class Label, class Class>
struct ConfusionFrame {
  const Label* labels;
  const Class* prediction;
  const Class* annotation;
  std::int64_t pixels;
  std::uint64_t superpixels, num_classes;
  std::uint64_t ignored;
  std::uint32_t* area;
  std::uint32_t* votes;
  std::uint32_t* annotated;
  std::int64_t* invalid;
};

template <class Label>
struct ConfusionRow {
  // Adds every pixel to the counters.
  void (*u8)(const ConfusionFrame<Label, std::uint8_t>* frame);
  void (*i32)(const ConfusionFrame<Label, std::int32_t>* frame);
  void (*i64)(const ConfusionFrame<Label, std::int64_t>* frame);
};

struct ConfusionLoops {
  ConfusionRow<std::int32_t> i32;
  ConfusionRow<std::int64_t> i64;
};

PYWS_DECLARE_LOOPS(ConfusionLoops, confusion_loops)

// Those of a type of labels, and of a type of classes.
inline const ConfusionRow<std::int32_t>& row_of(const ConfusionLoops& loops, std::int32_t) { return loops.i32; }
inline const ConfusionRow<std::int64_t>& row_of(const ConfusionLoops& loops, std::int64_t) { return loops.i64; }
template <class Label>
auto count_of(const ConfusionRow<Label>& row, std::uint8_t) {
  return row.u8;
}
template <class Label>
auto count_of(const ConfusionRow<Label>& row, std::int32_t) {
  return row.i32;
}
template <class Label>
auto count_of(const ConfusionRow<Label>& row, std::int64_t) {
  return row.i64;
}

}  // namespace pyws
