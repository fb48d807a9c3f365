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

}  // namespace pyws
