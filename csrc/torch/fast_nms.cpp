#include "../common/fast_nms.h"

#include <optional>
#include <string>
#include <tuple>

#include "support.h"
#include "suppression.h"

namespace yolact {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> fast_nms(const Tensor& boxes, const Tensor& scores, double iou_threshold,
                                                    int64_t top_k, int64_t max_detections,
                                                    std::optional<double> score_threshold, bool across_classes,
                                                    Text method, double union_eps, bool plus_one, bool suppress_equal) {
  check_shape(boxes, "boxes", {-1, -1, 4});
  check_dtype(boxes, "boxes", {ScalarType::Float});
  const int64_t batch = boxes.size(0), count = boxes.size(1);
  check_shape(scores, "scores", {batch, -1, count});
  check_dtype(scores, "scores", {ScalarType::Float});
  const int64_t classes = scores.size(1);
  STD_TORCH_CHECK(classes > 0, "scores must be of a class at least, got ", shape_of(scores));
  check_candidates(classes, count);
  check_same_device(scores, "scores", boxes);

  FastNmsArguments arguments{};
  arguments.options = suppression_options(iou_threshold, top_k, max_detections, across_classes, method, union_eps,
                                          plus_one, suppress_equal);
  Tensor index = empty_on(boxes, {batch, max_detections}, ScalarType::Long);
  Tensor label = empty_on(boxes, {batch, max_detections}, ScalarType::Long);
  Tensor score = empty_on(boxes, {batch, max_detections}, ScalarType::Float);
  Tensor kept = empty_on(boxes, {batch}, ScalarType::Long);
  if (batch == 0) return {index, label, score, kept};
  arguments.boxes = boxes.const_data_ptr<float>();
  arguments.scores = scores.const_data_ptr<float>();
  for (int i = 0; i < 3; ++i) {
    arguments.box_stride[i] = boxes.stride(i);
    arguments.score_stride[i] = scores.stride(i);
  }
  arguments.batch = batch;
  arguments.classes = classes;
  arguments.count = count;
  if (score_threshold) arguments.score_threshold = static_cast<float>(*score_threshold);
  arguments.index = index.mutable_data_ptr<int64_t>();
  arguments.label = label.mutable_data_ptr<int64_t>();
  arguments.score = score.mutable_data_ptr<float>();
  arguments.kept = kept.mutable_data_ptr<int64_t>();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(boxes)) {
      const CudaScope scope(boxes);
      const Tensor workspace = workspace_on(boxes, cuda::fast_nms_workspace(arguments));
      cuda::fast_nms(arguments, workspace.mutable_data_ptr(), scope.stream);
      return {index, label, score, kept};
    }
  }
  cpu::fast_nms(arguments, torch_threads());
  return {index, label, score, kept};
}

}  // namespace

YOLACT_REGISTER(fast_nms)

}  // namespace yolact
