#include "selection.h"

#include "level.h"

namespace yolact::cpu {

namespace {

// A box against sixteen others at once.
template <class Block>
YOLACT_INLINE bool any_overlaps(const Block& block, const Box& box, float box_area, OverlapOptions options,
                                float threshold) {
  int32_t found = 0;
  for (int i = 0; i < kLanes; ++i) {
    const Box other{block.x1[i], block.y1[i], block.x2[i], block.y2[i]};
    const bool apart = overlap(other, block.area[i], box, box_area, options) <= threshold;  // false for NaN
    found |= !apart & (i < block.used);
  }
  return found != 0;
}

}  // namespace

bool Suppressor::keep(int64_t group, const Box& box) {
  ++ranked_[group];
  const float box_area = area(box, options_.overlap.extra);
  bool kept = true;
  for (int32_t i = newest_[group]; kept && i >= 0; i = blocks_[i].previous)
    kept = !at_level<any_overlaps<Block>>(blocks_[i], box, box_area, options_.overlap, options_.iou_threshold);
  if (!kept && options_.greedy) return false;

  int32_t& newest = newest_[group];
  if (newest < 0 || blocks_[newest].used == kLanes) {
    blocks_.push_back({});
    blocks_.back().previous = newest;
    newest = static_cast<int32_t>(blocks_.size() - 1);
  }
  Block& block = blocks_[newest];
  const int32_t i = block.used++;
  block.x1[i] = box.x1;
  block.y1[i] = box.y1;
  block.x2[i] = box.x2;
  block.y2[i] = box.y2;
  block.area[i] = box_area;
  return kept;
}

}  // namespace yolact::cpu
