// The rows of segments that are packed: (kSegmentRows, total) float64.
#pragma once

namespace pyws {

enum SegmentRow : int { kStart, kEnd, kScore, kWeight, kSegmentRows };

}  // namespace pyws
