#include "../common/detect.h"

#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "support.h"
#include "suppression.h"

namespace yolact {
namespace {

FloatView view_of(const Tensor& tensor, const char* name) {
  FloatView view{};
  view.data = tensor.const_data_ptr();
  view.type = float_type(tensor, name);
  for (int64_t i = 0; i < tensor.dim(); ++i) view.stride[i] = tensor.stride(i);
  return view;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> detect(
    const Tensor& box_deltas, const Tensor& class_logits, const Tensor& priors, double score_threshold,
    bool second_threshold, double iou_threshold, int64_t top_k, int64_t max_detections, bool across_classes,
    Text method, std::vector<double> variances, std::optional<double> max_log_size, bool clip, double union_eps,
    std::optional<std::vector<int64_t>> level_sizes, std::optional<int64_t> pre_nms_top_k) {
  check_shape(priors, "priors", {-1, 4});
  const int64_t batch = class_logits.size(0), count = priors.size(0);
  check_shape(class_logits, "class_logits", {batch, count, -1});
  check_shape(box_deltas, "box_deltas", {batch, count, 4});
  const int64_t classes = class_logits.size(2) - 1;
  STD_TORCH_CHECK(classes > 0, "class_logits must hold background and a class at least, got ", shape_of(class_logits));
  check_candidates(classes, count);
  STD_TORCH_CHECK(variances.size() == 2, "variances must hold two numbers");
  const std::vector<int64_t> levels = level_sizes.value_or(std::vector<int64_t>{count});
  int64_t total = 0;
  for (const int64_t size : levels) {
    STD_TORCH_CHECK(size >= 0, "level_sizes must be at least 0, got ", size);
    total += size;
  }
  STD_TORCH_CHECK(total == count, "level_sizes must add up to ", count, " priors, got ", total);
  if (pre_nms_top_k) STD_TORCH_CHECK(*pre_nms_top_k > 0, "pre_nms_top_k must be at least 1, got ", *pre_nms_top_k);

  check_same_device(box_deltas, "box_deltas", class_logits);
  check_same_device(priors, "priors", class_logits);

  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Tensor boxes = empty_on(box_deltas, {batch, max_detections, 4}, ScalarType::Float);
  Tensor label = empty_on(box_deltas, {batch, max_detections}, ScalarType::Long);
  Tensor score = empty_on(box_deltas, {batch, max_detections}, ScalarType::Float);
  Tensor prior = empty_on(box_deltas, {batch, max_detections}, ScalarType::Long);
  Tensor kept = empty_on(box_deltas, {batch}, ScalarType::Long);
  if (batch == 0) return {boxes, label, score, prior, kept};
  DetectArguments arguments{};
  arguments.box_deltas = view_of(box_deltas, "box_deltas");
  arguments.class_logits = view_of(class_logits, "class_logits");
  arguments.priors = view_of(priors, "priors");
  arguments.batch = batch;
  arguments.count = count;
  arguments.classes = classes;
  arguments.score_threshold = static_cast<float>(score_threshold);
  arguments.second_threshold = second_threshold;
  arguments.decode.centre_variance = static_cast<float>(variances[0]);
  arguments.decode.size_variance = static_cast<float>(variances[1]);
  arguments.decode.max_log_size = max_log_size ? static_cast<float>(*max_log_size) : kInfinity;
  arguments.decode.clip = clip;
  arguments.options =
      suppression_options(iou_threshold, top_k, max_detections, across_classes, method, union_eps, false, false);
  arguments.level_sizes = levels.data();
  arguments.levels = static_cast<int64_t>(levels.size());
  arguments.pre_nms_top_k = pre_nms_top_k.value_or(count);
  arguments.boxes = boxes.mutable_data_ptr<float>();
  arguments.label = label.mutable_data_ptr<int64_t>();
  arguments.score = score.mutable_data_ptr<float>();
  arguments.prior = prior.mutable_data_ptr<int64_t>();
  arguments.kept = kept.mutable_data_ptr<int64_t>();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(class_logits)) {
      STD_TORCH_CHECK(!pre_nms_top_k || arguments.levels <= cuda::kMaxLevels, "level_sizes must hold at most ",
                      cuda::kMaxLevels, " levels, got ", arguments.levels);
      const CudaScope scope(class_logits);
      const Tensor workspace = workspace_on(class_logits, cuda::detect_workspace(arguments));
      cuda::detect(arguments, workspace.mutable_data_ptr(), scope.stream);
      return {boxes, label, score, prior, kept};
    }
  }
  cpu::detect(arguments, torch_threads());
  return {boxes, label, score, prior, kept};
}

}  // namespace

YOLACT_REGISTER(detect)

}  // namespace yolact
