// From prototypes and coefficients to masks, dense or as run lengths (YOLACT, section 3.3): what both operators
// compute for a pixel, and where. A mask of low resolution, activation(prototypes . coefficients), is interpolated
// to the picture and compared with a threshold. Each axis is cut on its own, so that nothing is computed but what
// may come out as one.
#pragma once

#include <cmath>
#include <cstdint>

#include "half.h"
#include "host_device.h"
#include "interpolation.h"
#include "parallel.h"
#include "span.h"
#include "stream.h"

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
  bool sizes_on_device;  // whether `sizes` is a device pointer, of which the host knows no value
  int64_t capacity;
  uint8_t* data;    // [batch * detections, capacity] COCO strings
  int64_t* length;  // [batch * detections] bytes written: 0 where the capacity does not suffice
  int64_t* needed;  // [batch * detections] bytes that the string needs
  int64_t* size;    // [batch * detections, 2]
};

// One axis of one picture: `extent` prototype pixels from `begin` on are stretched over `output` pixels.
struct Axis {
  int32_t full;  // prototype pixels, the part outside the region included
  int32_t begin, extent;
  int32_t output;
  float scale;  // prototype pixels a pixel of the output
};

YOLACT_HD Tap tap(int32_t i, const Axis& axis) { return tap(i, axis.extent, axis.scale); }

// One axis of one detection.
struct Cut {
  Span output;  // the pixels of the result that may be one
  Span canvas;  // the prototype pixels of the region that those lie between
  Span window;  // the part of the canvas inside the box; the rest is zero
};

// The part of an axis of `full` prototype pixels that a source region names, cut as by slicing; NaN: nothing.
YOLACT_HD Span region_span(float from, float to, int32_t full) {
  const float limit = static_cast<float>(full);
  if (!(from < limit) || !(to > 0.0f)) return {};
  const float begin = std::nearbyintf(from), end = std::nearbyintf(to);
  return {begin > 0.0f ? static_cast<int32_t>(begin) : 0, end < limit ? static_cast<int32_t>(end) : full};
}

YOLACT_HD Axis axis_of(const AssembleArguments& a, int64_t b, bool is_y, int64_t output) {
  const int32_t full = static_cast<int32_t>(is_y ? a.height : a.width);
  Span region{0, full};
  if (a.source_region) region = region_span(a.source_region[4 * b + is_y], a.source_region[4 * b + 2 + is_y], full);
  const int32_t extent = region.empty() ? 0 : region.size();
  return {full, region.begin, extent, static_cast<int32_t>(output),
          static_cast<float>(extent) / static_cast<float>(output)};
}

// The first pixel of the output whose tap begins at `index` or later; `output` where there is none.
//
// Looked for where it would be if nothing were rounded, give or take what rounding does: four operations move a tap by
// less than 2^-21 of the pixel's number, and the guess by as much.
YOLACT_HD int32_t first_output(const Axis& axis, int32_t index) {
  if (index <= 0) return 0;
  const float guess = (static_cast<float>(index) + 0.5f) / axis.scale - 0.5f, slack = 2.0f + guess * 0x1p-20f;
  Span range = intersection({0, axis.output}, {static_cast<int32_t>(guess - slack),  //
                                               static_cast<int32_t>(guess + slack) + 1});
  if (range.begin > axis.output) return axis.output;
  while (!range.empty()) {
    const int32_t middle = range.begin + range.size() / 2;
    if (tap(middle, axis).index0 < index) {
      range.begin = middle + 1;
    } else {
      range.end = middle;
    }
  }
  return range.begin;
}

// The prototype pixels of the whole map inside a box that is cut out before the interpolation.
YOLACT_HD Span box_before(float edge0, float edge1, const Axis& axis, BoxUnit unit, float padding) {
  const float full = static_cast<float>(axis.full);
  if (unit == BoxUnit::kRelative) {
    edge0 = edge0 * full;
    edge1 = edge1 * full;
  } else if (unit == BoxUnit::kOutput) {
    const float begin = static_cast<float>(axis.begin);
    edge0 = edge0 * axis.scale + begin;
    edge1 = edge1 * axis.scale + begin;
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

// Cuts an axis of a detection by the edges of its box.
YOLACT_HD Cut cut_axis(const AssembleArguments& a, const Axis& axis, float edge0, float edge1) {
  if (edge0 != edge0 || edge1 != edge1 || axis.extent == 0) return {};
  Cut cut;
  cut.output = {0, axis.output};
  cut.window = {0, axis.extent};
  if (a.crop == Crop::kAfter) {
    cut.output = box_after(edge0, edge1, axis, a.box_unit, a.padding);
  } else if (a.crop == Crop::kBefore) {
    const Span box = box_before(edge0, edge1, axis, a.box_unit, a.padding);
    cut.window = intersection(cut.window, {box.begin - axis.begin, box.end - axis.begin});
    if (0.0f > a.threshold) {
      // What is outside the box counts as one.
    } else if (cut.window.empty()) {
      cut.output = {};
    } else {
      cut.output = {first_output(axis, cut.window.begin - 1), first_output(axis, cut.window.end)};
    }
  }
  if (cut.output.empty()) return {};
  cut.canvas = {tap(cut.output.begin, axis).index0, tap(cut.output.end - 1, axis).index1 + 1};
  cut.window = intersection(cut.window, cut.canvas);
  return cut;
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

namespace cuda {
void assemble_masks(const AssembleMasksArguments& arguments, Stream stream);  // masks: on a multiple of 16 bytes
void assemble_run_lengths(const AssembleRunLengthsArguments& arguments, Stream stream);
}  // namespace cuda

}  // namespace yolact
