// Raw outputs of the network to detections: softmax, threshold, decoding, suppression.
#pragma once

#include <cstdint>
#include <limits>

#include "box.h"
#include "fast_nms.h"
#include "half.h"
#include "parallel.h"
#include "stream.h"

namespace yolact {

struct FloatView {
  const void* data;
  FloatType type;
  int64_t stride[3];
};

struct DetectArguments {
  FloatView box_deltas;           // [batch, priors, 4]
  FloatView class_logits;         // [batch, priors, 1 + classes], background first
  FloatView priors;               // [priors, 4] cx cy w h; stride[0] and stride[1] count
  int64_t batch, count, classes;  // count: priors
  float score_threshold;          // a prior stays when its best foreground probability is strictly above
  bool second_threshold;          // each detection's own score must be above it too
  DecodeOptions decode;
  SuppressionOptions options;
  const int64_t* level_sizes;  // [levels], adding up to `count`
  int64_t levels;
  int64_t pre_nms_top_k;  // priors a level that go on to suppression, at most
  float* boxes;           // [batch, max_detections, 4] xyxy
  int64_t* label;         // [batch, max_detections], as score and prior
  float* score;
  int64_t* prior;
  int64_t* kept;  // [batch]
};

namespace cpu {
void detect(const DetectArguments& arguments, const Parallel& parallel);
}
namespace cuda {
constexpr int64_t kMaxLevels = 64;  // where pre_nms_top_k limits them: they are passed by value
int64_t detect_workspace(const DetectArguments& arguments);  // bytes, from sizes and options alone
void detect(const DetectArguments& arguments, void* workspace, Stream stream);
}  // namespace cuda

}  // namespace yolact
