// Bilinear interpolation with half-pixel centres (align_corners=False, no antialiasing), as torch computes it.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace yolact {

// Where one output coordinate falls between two inputs: value = weight0 * in[index0] + weight1 * in[index1].
struct Tap {
  int32_t index0, index1;
  float weight0, weight1;
};

// The tap of output coordinate `i` when `in` samples are stretched over `out`. scale = float(in) / out.
YOLACT_HD Tap tap(int32_t i, int32_t in, float scale) {
  float position = scale * (static_cast<float>(i) + 0.5f) - 0.5f;
  if (position < 0.0f) position = 0.0f;
  int32_t index0 = static_cast<int32_t>(position);
  if (index0 > in - 1) index0 = in - 1;
  const int32_t index1 = index0 < in - 1 ? index0 + 1 : index0;
  float weight1 = position - static_cast<float>(index0);
  if (weight1 > 1.0f) weight1 = 1.0f;
  return {index0, index1, 1.0f - weight1, weight1};
}

}  // namespace yolact
