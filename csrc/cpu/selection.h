// Selects boxes by falling score and suppresses overlapping ones, visiting only as many candidates as it takes.
//
// A candidate is a (class, box) pair. Suppression by rank needs no matrix: a box's fate depends only on the better
// boxes of its class, so candidates of all classes are visited in one order, the one that results come in, until
// enough are kept. They are drawn in rounds, the best few first, because the rest is mostly never looked at.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "../common/box.h"
#include "../common/fast_nms.h"
#include "../common/ranking.h"
#include "lanes.h"

namespace yolact::cpu {

// The best `capacity` of the keys offered that are above `floor`, in no order.
class Shortlist {
 public:
  Shortlist(int64_t capacity, Key floor) : capacity_(capacity), floor_(floor) {}

  // True when the floor rose.
  bool offer(Key key) {
    if (key <= floor_) return false;
    keys_.push_back(key);
    if (static_cast<int64_t>(keys_.size()) - capacity_ < capacity_) return false;  // any capacity, and no overflow
    prune();
    return true;
  }

  void prune() {
    if (static_cast<int64_t>(keys_.size()) <= capacity_) return;
    std::nth_element(keys_.begin(), keys_.begin() + (capacity_ - 1), keys_.end(), std::greater<Key>());
    keys_.resize(capacity_);
    floor_ = keys_.back() - 1;
    complete_ = false;
  }

  std::vector<Key>& keys() { return keys_; }
  Key floor() const { return floor_; }
  bool complete() const { return complete_; }  // nothing offered was left out for want of room

 private:
  int64_t capacity_;
  Key floor_;
  bool complete_ = true;
  std::vector<Key> keys_;
};

// The boxes of each group (a class, or all classes together) that were visited so far.
class Suppressor {
 public:
  Suppressor(const SuppressionOptions& options, int64_t groups)
      : options_(options), newest_(groups, -1), ranked_(groups, 0) {}

  int64_t room(int64_t group) const { return options_.top_k - ranked_[group]; }

  // Ranks the next box of a group; false when a better one suppresses it.
  bool keep(int64_t group, const Box& box);

 private:
  struct Block {  // of one group's boxes, by coordinate; chained to the block before
    float x1[kLanes], y1[kLanes], x2[kLanes], y2[kLanes], area[kLanes];
    int32_t used, previous;
  };

  SuppressionOptions options_;
  std::vector<Block> blocks_;
  std::vector<int32_t> newest_;
  std::vector<int64_t> ranked_;
};

// The kept candidates of one picture, best first, at most `limit`.
//
// Candidates has `groups` and `boxes` (their numbers), `box(i)`, and `visit(least, bounds, offer)`, which calls
// offer(score, group, box) for each candidate with a key above `least` and score >= bounds[group], a bound that an
// offer may raise; it may call it for others. First those above `likely` are visited, then all above `floor`.
template <class Candidates>
std::vector<Key> select(const Candidates& candidates, const SuppressionOptions& options, int64_t limit, Key likely,
                        Key floor) {
  // Keys of the rounds: a few thousand are sorted in a tenth of a millisecond, and mostly enough. Of those below the
  // likely ones, where any are needed, most are boxes that nothing better overlaps: a few suffice.
  const std::pair<Key, int64_t> rounds[] = {{likely, 2048}, {floor, 256}, {floor, 2048}};
  constexpr float kClosed = std::numeric_limits<float>::quiet_NaN();  // no score is at or above it
  const int64_t groups = candidates.groups, boxes = candidates.boxes;
  Suppressor suppressor(options, groups);
  std::vector<Key> kept;
  Key last = std::numeric_limits<Key>::max();  // the key visited last

  const auto visit = [&](std::vector<Key>& keys) {
    std::sort(keys.begin(), keys.end(), std::greater<Key>());
    for (const Key key : keys) {
      if (static_cast<int64_t>(kept.size()) == limit) return;
      const int64_t group = slot_of(key) / boxes, box = slot_of(key) % boxes;
      if (suppressor.room(group) > 0 && suppressor.keep(group, candidates.box(box))) kept.push_back(key);
      last = key;
    }
  };
  const auto bounds_of = [&](Key key) {
    std::vector<float> bounds(groups, score_of(key));
    for (int64_t group = 0; group < groups; ++group)
      if (suppressor.room(group) <= 0) bounds[group] = kClosed;
    return bounds;
  };

  for (const auto& [least, capacity] : rounds) {
    Shortlist list(capacity, least);
    std::vector<float> bounds = bounds_of(least);
    candidates.visit(least, bounds, [&](float score, int64_t group, int64_t box) {
      const Key key = key_of(score, static_cast<uint32_t>(group * boxes + box));
      if (key < last && list.offer(key)) bounds = bounds_of(list.floor());
    });
    list.prune();
    visit(list.keys());
    if (static_cast<int64_t>(kept.size()) == limit || (list.complete() && least == floor)) return kept;
  }

  // Hardly ever: thousands of candidates were not enough. What is left is the best of each group, and that is all.
  std::vector<Shortlist> lists;
  for (int64_t group = 0; group < groups; ++group) lists.emplace_back(suppressor.room(group), floor);
  std::vector<float> bounds = bounds_of(floor);
  candidates.visit(floor, bounds, [&](float score, int64_t group, int64_t box) {
    const Key key = key_of(score, static_cast<uint32_t>(group * boxes + box));
    if (key < last && lists[group].offer(key)) bounds[group] = score_of(lists[group].floor());
  });
  std::vector<Key> keys;
  for (Shortlist& list : lists) {
    list.prune();
    keys.insert(keys.end(), list.keys().begin(), list.keys().end());
  }
  visit(keys);
  return kept;
}

// Scores as a matrix: of every class and box, or of one group with the best class's.
struct ScoreMatrix {
  const float* scores;
  int64_t group_stride, box_stride;
  int64_t groups, boxes;
  const Box* box_of;  // [boxes]; one with NaN is no candidate

  const Box& box(int64_t i) const { return box_of[i]; }

  template <class Offer>
  void visit(Key, const std::vector<float>& bounds, Offer&& offer) const {
    for (int64_t group = 0; group < groups; ++group) {
      const float* row = scores + group * group_stride;
      for (int64_t i = 0; i < boxes; ++i) {
        const float score = row[i * box_stride];
        if (score >= bounds[group] && !has_nan(box_of[i])) offer(score, group, i);
      }
    }
  }
};

// A kept candidate with its class looked up.
struct Kept {
  float score;
  int64_t label, box;
};

// `labels` is null where a group is a class, else it holds each box's. Across classes boxes are ranked by score and
// index, and returned in the order of all results: by score, label and index.
inline std::vector<Kept> look_up(const std::vector<Key>& keys, int64_t boxes, const int32_t* labels, int64_t most) {
  std::vector<Kept> kept;
  for (const Key key : keys) {
    const int64_t box = slot_of(key) % boxes;
    kept.push_back({score_of(key), labels ? labels[box] : slot_of(key) / boxes, box});
  }
  if (labels)
    std::stable_sort(kept.begin(), kept.end(), [](const Kept& a, const Kept& b) {
      return a.score > b.score || (a.score == b.score && a.label < b.label);
    });
  if (static_cast<int64_t>(kept.size()) > most) kept.resize(most);
  return kept;
}

}  // namespace yolact::cpu
