// Whole pixels of an axis, and those that a box leaves.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace yolact {

struct Span {
  int32_t begin = 0, end = 0;
  YOLACT_HD bool empty() const { return begin >= end; }
  YOLACT_HD int32_t size() const { return end - begin; }
};

YOLACT_HD Span intersection(Span a, Span b) {
  return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

// The whole pixels i of [0, limit) with low <= i < high, where low and high are the sorted edges of a box, padded
// and clamped. A box with a NaN edge holds none.
YOLACT_HD Span pixels_between(float edge0, float edge1, float padding, float limit) {
  const float low = (edge1 < edge0 ? edge1 : edge0) - padding;
  const float high = (edge1 < edge0 ? edge0 : edge1) + padding;
  if (!(low < limit) || !(high > 0.0f)) return {};
  return {low > 0.0f ? static_cast<int32_t>(std::ceil(low)) : 0,
          static_cast<int32_t>(std::ceil(high < limit ? high : limit))};
}

}  // namespace yolact
