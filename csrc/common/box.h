// Boxes: decoding against priors, overlap. Each operation rounds as torch's does in the same order.
#pragma once

#include "host_device.h"
#include "math.h"

namespace yolact {

struct Box {
  float x1, y1, x2, y2;
};

YOLACT_HD bool has_nan(const Box& box) {
  return box.x1 != box.x1 || box.y1 != box.y1 || box.x2 != box.x2 || box.y2 != box.y2;
}

// How overlap is counted: the original has neither, mmdetection a floor, traditional NMS the extra pixel.
struct OverlapOptions {
  float extra;        // added to widths and heights: 0 or 1
  float union_floor;  // the union is at least this; -infinity: as it is
};

YOLACT_HD float area(const Box& box, float extra) { return (box.x2 - box.x1 + extra) * (box.y2 - box.y1 + extra); }

struct Overlap {
  float intersection, both;  // both: the union
};

YOLACT_HD Overlap overlap_of(const Box& a, float area_a, const Box& b, float area_b, OverlapOptions options) {
  float width = (a.x2 < b.x2 ? a.x2 : b.x2) - (a.x1 > b.x1 ? a.x1 : b.x1) + options.extra;
  float height = (a.y2 < b.y2 ? a.y2 : b.y2) - (a.y1 > b.y1 ? a.y1 : b.y1) + options.extra;
  width = width < 0.0f ? 0.0f : width;  // written so that NaN (infinity less infinity) stays
  height = height < 0.0f ? 0.0f : height;
  const float intersection = width * height;
  const float both = area_a + area_b - intersection;
  return {intersection, both < options.union_floor ? options.union_floor : both};
}

// Intersection over union; NaN for 0 / 0, as it is for two boxes without an area.
YOLACT_HD float overlap(const Box& a, float area_a, const Box& b, float area_b, OverlapOptions options) {
  const Overlap found = overlap_of(a, area_a, b, area_b, options);
  return found.intersection / found.both;
}

struct DecodeOptions {
  float centre_variance, size_variance;
  float max_log_size;  // of the log size's magnitude; infinity: any
  bool clip;           // to 0..1
};

YOLACT_HD float clamp(float value, float low, float high) {
  return value < low ? low : value > high ? high : value;  // NaN stays
}

// delta: centre offsets and log sizes relative to the prior (cx cy w h). The exponential is taken in double and
// rounded once: mostly the float nearest to the true one, and the same bits on every backend.
YOLACT_HD Box decode(const float delta[4], const float prior[4], const DecodeOptions& options) {
  float low[2], high[2];
  for (int axis = 0; axis < 2; ++axis) {
    const float centre = prior[axis] + delta[axis] * options.centre_variance * prior[2 + axis];
    const float log_size = clamp(delta[2 + axis] * options.size_variance, -options.max_log_size, options.max_log_size);
    const float size = prior[2 + axis] * static_cast<float>(exponential(static_cast<double>(log_size)));
    low[axis] = centre - size / 2.0f;
    high[axis] = size + low[axis];
    if (options.clip) {
      low[axis] = clamp(low[axis], 0.0f, 1.0f);
      high[axis] = clamp(high[axis], 0.0f, 1.0f);
    }
  }
  return {low[0], low[1], high[0], high[1]};
}

}  // namespace yolact
