// The leaf loops of superpixel_select, one table an instruction set. Each walks one frame by runs: stretches of pixels
// of one label or of one label and class, found 64 pixels at a time.
#pragma once

#include "common/simd.h"
#include "components/pixel_runs.h"
#include "superpixel_select/superpixel_select.h"

namespace pyws {

// Pixels of a frame as 2 * label + (is the mask set), labels outside [0, superpixels) as `superpixels`.
template <class Label, class Code>
struct SelectLoops {
  // Writes the codes, and counts[code] += 1 for every pixel.
  void (*count)(const Label* labels, const std::uint8_t* mask, std::int64_t pixels, std::uint64_t superpixels,
                Code* codes, std::uint32_t* counts);
  // refined[i] = passes[codes[i] / 2]
  void (*paint)(const Code* codes, std::int64_t pixels, std::uint64_t superpixels, const std::uint8_t* passes,
                std::uint8_t* refined);
};

template <class Label, class Class>
struct VoteLoops {
  // Adds every pixel to area[label] and to table[label, class]. outside[0] = pixels whose label, outside[1] = pixels
  // whose class is outside its range; the latter not where the class is `ignored`.
  void (*count)(const Label* labels, const Class* classes, std::int64_t pixels, std::uint64_t superpixels,
                std::uint64_t num_classes, std::int64_t ignored, std::int64_t* area, std::int64_t* table,
                std::int64_t* outside);
  // refined[i] = winner[labels[i]], 0 for labels outside.
  void (*paint)(const Label* labels, std::int64_t pixels, std::uint64_t superpixels, const std::int64_t* winner,
                Class* refined);
};

template <class Label>
struct SuperpixelRow {
  SelectLoops<Label, std::uint16_t> select;
  SelectLoops<Label, std::uint32_t> select_many;  // more superpixels than 16 bits can tell apart
  VoteLoops<Label, std::uint8_t> u8;              // by the type of the classes
  VoteLoops<Label, std::int32_t> i32;
  VoteLoops<Label, std::int64_t> i64;
};

struct SuperpixelLoops {
  SuperpixelRow<std::int32_t> i32;
  SuperpixelRow<std::int64_t> i64;
};

PYWS_DECLARE_LOOPS(SuperpixelLoops, superpixel_loops)

}  // namespace pyws
