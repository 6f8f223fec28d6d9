// From prototypes and coefficients to masks, dense or as run lengths (YOLACT, section 3.3): what both operators
// compute for a pixel, and where. A mask of low resolution, activation(prototypes . coefficients), is interpolated
// to the picture and compared with a threshold. Each axis is cut on its own, so that nothing is computed but what
// may come out as one.
#pragma once

#include <cmath>
#include <cstdint>

#include "half.h"
#include "host_device.h"
#include "parallel.h"

namespace yolact {

enum class BoxUnit { kRelative, kOutput, kPrototype };  // fractions of the prototypes, pixels of the result, or theirs
enum class Crop { kBefore, kAfter, kNone };             // cut by the box before or after interpolation, or not at all

struct AssembleArguments {
  const void* prototypes;  // [batch, height, width, channels], element strides below
  FloatType prototype_type;
  int64_t prototype_stride[4];
  const void* coefficients;  // [batch, detections, channels], element strides below
  FloatType coefficient_type;
  int64_t coefficient_stride[3];
  const float* boxes;          // [batch, detections, 4] xyxy
  const int64_t* count;        // [batch], or null: every row is valid
  const float* source_region;  // [batch, 4] xyxy in prototype pixels, or null: the whole map
  const int64_t* sizes;        // (height, width) of the results of picture b at sizes + b * size_stride
  int64_t size_stride;
  int64_t batch, detections, height, width, channels;
  BoxUnit box_unit;
  bool sigmoid;
  float threshold;
  Crop crop;
  float padding;  // in prototype pixels
};

struct AssembleMasksArguments : AssembleArguments {
  bool packed;     // eight pixels of a row to a byte, the first in its lowest bit
  uint8_t* masks;  // [batch, detections, height, width], or ceil(width / 8) bytes a row
};

struct AssembleRunLengthsArguments : AssembleArguments {
  int64_t capacity;
  uint8_t* data;    // [batch * detections, capacity] COCO strings
  int64_t* length;  // [batch * detections] bytes written: 0 where the capacity does not suffice
  int64_t* needed;  // [batch * detections] bytes that the string needs
  int64_t* size;    // [batch * detections, 2]
};

struct Span {
  int32_t begin = 0, end = 0;
  YOLACT_HD bool empty() const { return begin >= end; }
};

// One axis of one picture: `extent` prototype pixels from `begin` on are stretched over `output` pixels.
struct Axis {
  int32_t full;  // prototype pixels, the part outside the region included
  int32_t begin, extent;
  int32_t output;
};

// The part of an axis of `full` prototype pixels that a source region names, cut as by slicing; NaN: nothing.
YOLACT_HD Span region_span(float from, float to, int32_t full) {
  const float limit = static_cast<float>(full);
  if (!(from < limit) || !(to > 0.0f)) return {};
  const float begin = std::nearbyintf(from), end = std::nearbyintf(to);
  return {begin > 0.0f ? static_cast<int32_t>(begin) : 0, end < limit ? static_cast<int32_t>(end) : full};
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

// The prototype pixels of the whole map inside a box that is cut out before the interpolation.
YOLACT_HD Span box_before(float edge0, float edge1, const Axis& axis, BoxUnit unit, float padding) {
  const float full = static_cast<float>(axis.full);
  if (unit == BoxUnit::kRelative) {
    edge0 = edge0 * full;
    edge1 = edge1 * full;
  } else if (unit == BoxUnit::kOutput) {
    const float scale = static_cast<float>(axis.extent) / static_cast<float>(axis.output);
    const float begin = static_cast<float>(axis.begin);
    edge0 = edge0 * scale + begin;
    edge1 = edge1 * scale + begin;
  }
  return pixels_between(edge0, edge1, padding, full);
}

// The pixels of the result inside a box that is cut out after the interpolation. Without a source region a relative
// edge is exactly edge * output, as a caller would scale it.
YOLACT_HD Span box_after(float edge0, float edge1, const Axis& axis, BoxUnit unit, float padding) {
  const float full = static_cast<float>(axis.full), begin = static_cast<float>(axis.begin);
  const float extent = static_cast<float>(axis.extent), output = static_cast<float>(axis.output);
  if (unit == BoxUnit::kRelative) {
    const float scale = output * (full / extent), origin = begin / full;
    edge0 = (edge0 - origin) * scale;
    edge1 = (edge1 - origin) * scale;
  } else if (unit == BoxUnit::kPrototype) {
    const float scale = output / extent;
    edge0 = (edge0 - begin) * scale;
    edge1 = (edge1 - begin) * scale;
  }
  return pixels_between(edge0, edge1, padding * (output / extent), output);
}

// The value of a pixel between four of low resolution, with the weights of its column, then of its row. Torch adds
// in this order too. Templates, so that a kernel may blend many pixels at a time.
template <class Value, class Weight>
YOLACT_HD auto blend(Value value0, Value value1, Weight weight0, Weight weight1) {
  return weight0 * value0 + weight1 * value1;
}

// Values above `above` blend to a value that is above the threshold, whatever the weights of a tap; values below
// `below` to one that is not.
//
// With both values at u the blend is u (1 + e) with |e| < 2^-22: the weights add up to 1 within 2^-25, as 1 - w is
// rounded once, and two products and a sum are rounded; products that underflow are off by less than 2^-148 on
// top. Rounding preserves order and no weight is negative, so larger values never blend to less. `above` leaves
// the threshold by 2^-20 of its size and by 2^-126: more than both errors. Infinite values are left to the blend
// itself, as 0 * infinity is no number; an infinite threshold too, since then no value is above or below.
struct Margin {
  float above, below;
};

YOLACT_HD Margin margin_of(float threshold) {
  const float margin = std::fabs(threshold) * 0x1p-20f + 0x1p-126f;
  return {threshold + margin, threshold - margin};
}

namespace cpu {
void assemble_masks(const AssembleMasksArguments& arguments, const Parallel& parallel);
void assemble_run_lengths(const AssembleRunLengthsArguments& arguments, const Parallel& parallel);
}  // namespace cpu

}  // namespace yolact
