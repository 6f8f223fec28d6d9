// Non-maximum suppression of scored boxes: Fast NMS (section 3.4 of the paper) and the traditional, greedy way.
#pragma once

#include <cstdint>
#include <optional>

#include "box.h"
#include "parallel.h"
#include "stream.h"

namespace yolact {

struct SuppressionOptions {
  float iou_threshold;  // a box stays while its overlap with those before it is at most this
  OverlapOptions overlap;
  int64_t top_k;           // boxes ranked: a class, or over all of them
  int64_t max_detections;  // rows of the result
  bool across_classes;     // one class a box, its best; boxes of different classes suppress each other
  bool greedy;             // only boxes that are kept suppress
};

struct FastNmsArguments {
  const float* boxes;  // [batch, boxes, 4] xyxy
  int64_t box_stride[3];
  const float* scores;  // [batch, classes, boxes]
  int64_t score_stride[3];
  int64_t batch, classes, count;         // count: boxes a picture
  std::optional<float> score_threshold;  // strictly above
  SuppressionOptions options;
  int64_t* index;  // [batch, max_detections], as label and score
  int64_t* label;
  float* score;
  int64_t* kept;  // [batch]
};

namespace cpu {
void fast_nms(const FastNmsArguments& arguments, const Parallel& parallel);
}
namespace cuda {
int64_t fast_nms_workspace(const FastNmsArguments& arguments);  // bytes, from sizes and options alone
void fast_nms(const FastNmsArguments& arguments, void* workspace, Stream stream);
}  // namespace cuda

}  // namespace yolact
