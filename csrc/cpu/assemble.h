// What assemble_masks and assemble_run_lengths share: where each axis of a detection is cut, and the low-resolution
// mask of what is left, on a canvas whose inner axis is the one that the caller walks along.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "../common/assemble.h"
#include "lanes.h"

namespace yolact::cpu {

constexpr int kFew = 8;  // pixels at once between two values: seldom are there more
typedef float Few __attribute__((vector_size(kFew * sizeof(float))));

// The taps of one axis of one picture.
struct Grid {
  explicit Grid(const Axis& axis);

  Axis axis;
  std::vector<int32_t> index0, index1;  // [output], from the region's begin; index1 is index0 + 1 but at the edge
  std::vector<float> weight0, weight1;  // [output + kLanes]
  std::vector<int32_t> first;           // [extent + 1]: the first output pixel with index0 >= i
};

struct Picture {
  const Grid &x, &y;
};

struct Canvas {
  float* values;   // [outer length, stride]: the low-resolution mask; kLanes more may be read
  int64_t stride;  // more than the inner length
};

class Assembler {
 public:
  enum class Inner { kX, kY };  // along which axis of the canvas its values lie side by side

  Assembler(const AssembleArguments& arguments, Inner inner, const Parallel& parallel);

  const Picture& picture(int64_t b) const { return pictures_[b]; }

  // Cuts both axes of detection d; false where none of its pixels can be one.
  bool cut(int64_t b, int64_t d, Cut* x, Cut* y) const;

  // Computes what `cut` left, in a workspace of this many floats, and cuts off what lies below the threshold all
  // around; false where nothing is left.
  bool draw(int64_t b, int64_t d, Cut* x, Cut* y, float* workspace, Canvas* canvas) const;
  int64_t workspace_size() const { return workspace_size_; }

  int64_t tallest() const { return tallest_; }  // the most rows of a result

 private:
  Canvas fill(int64_t b, int64_t d, const Cut& x, const Cut& y, float* workspace) const;

  const AssembleArguments& arguments_;
  const Inner inner_;
  std::deque<Grid> grids_;  // of which pictures share those that are the same
  std::vector<Picture> pictures_;
  std::unique_ptr<float[]> converted_;  // the prototypes, where their type or strides do not suit
  const float* prototypes_;
  int64_t stride_[4];  // of prototypes_: picture, row, column, channel
  int64_t workspace_size_ = 0, tallest_ = 0;
};

}  // namespace yolact::cpu
