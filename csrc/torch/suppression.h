// The options that fast_nms and detect share, from their schemas' types.
#pragma once

#include <cmath>
#include <limits>
#include <string>

#include "../common/fast_nms.h"
#include "support.h"

namespace yolact {

inline SuppressionOptions suppression_options(double iou_threshold, int64_t top_k, int64_t max_detections,
                                              bool across_classes, const std::string& method, double union_eps,
                                              bool plus_one, bool suppress_equal) {
  STD_TORCH_CHECK(top_k > 0, "top_k must be at least 1, got ", top_k);
  STD_TORCH_CHECK(max_detections > 0, "max_detections must be at least 1, got ", max_detections);
  STD_TORCH_CHECK(method == "fast" || method == "greedy", "method must be 'fast' or 'greedy', got '", method, "'");
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  SuppressionOptions options{};
  options.iou_threshold = static_cast<float>(iou_threshold);
  // An overlap below the threshold is one at most the next lower number.
  if (suppress_equal) options.iou_threshold = std::nextafter(options.iou_threshold, -kInfinity);
  options.overlap.extra = plus_one ? 1.0f : 0.0f;
  options.overlap.union_floor = union_eps > 0 ? static_cast<float>(union_eps) : -kInfinity;
  options.top_k = top_k;
  options.max_detections = max_detections;
  options.across_classes = across_classes;
  options.greedy = method == "greedy";
  return options;
}

// A kernel numbers the (class, box) pairs of a picture with 32 bits.
inline void check_candidates(int64_t classes, int64_t boxes) {
  STD_TORCH_CHECK(classes < 0x7fffffff && boxes < 0x7fffffff && classes * boxes < 0xffffffff,
                  "more than 2^32 pairs of class and box: ", classes, " x ", boxes);
}

}  // namespace yolact
