// What assemble_masks and assemble_run_lengths check and pass on alike.
#pragma once

#include <optional>
#include <string>

#include "../common/assemble.h"
#include "support.h"

namespace yolact {

// Which of `choices` it is.
template <class Choice>
Choice choose(const std::string& value, const char* name,
              std::initializer_list<std::pair<const char*, Choice>> choices) {
  for (const auto& [text, choice] : choices)
    if (value == text) return choice;
  STD_TORCH_CHECK(false, name, " has an unknown value: ", value);
}

inline void check_contiguous(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
}

// Everything but the sizes and the outputs. The tensors must outlive the arguments.
inline void set_assemble_arguments(AssembleArguments& a, const Tensor& prototypes, const Tensor& coefficients,
                                   const Tensor& boxes, const std::optional<Tensor>& count, const std::string& layout,
                                   const std::string& box_unit, const std::string& activation, double threshold,
                                   const std::string& crop, double padding,
                                   const std::optional<Tensor>& source_region) {
  check_shape(prototypes, "prototypes", {-1, -1, -1, -1});
  const bool channels_last = choose<bool>(layout, "layout", {{"hwk", true}, {"khw", false}});
  const int y = channels_last ? 1 : 2, x = y + 1, k = channels_last ? 3 : 1;
  a.batch = prototypes.size(0);
  a.height = prototypes.size(y);
  a.width = prototypes.size(x);
  a.channels = prototypes.size(k);
  check_size(a.height, a.width, "prototypes");
  STD_TORCH_CHECK(a.channels > 0, "prototypes must have a channel, got ", shape_of(prototypes));
  check_shape(coefficients, "coefficients", {a.batch, -1, a.channels});
  check_same_device(coefficients, "coefficients", prototypes);
  a.detections = coefficients.size(1);
  check_shape(boxes, "boxes", {a.batch, a.detections, 4});
  check_dtype(boxes, "boxes", {ScalarType::Float});
  check_contiguous(boxes, "boxes");
  check_same_device(boxes, "boxes", prototypes);

  a.prototypes = prototypes.data_ptr();
  a.prototype_type = float_type(prototypes, "prototypes");
  const int axes[4] = {0, y, x, k};
  for (int i = 0; i < 4; ++i) a.prototype_stride[i] = prototypes.stride(axes[i]);
  a.coefficients = coefficients.data_ptr();
  a.coefficient_type = float_type(coefficients, "coefficients");
  for (int i = 0; i < 3; ++i) a.coefficient_stride[i] = coefficients.stride(i);
  a.boxes = boxes.const_data_ptr<float>();
  if (count) {
    check_shape(*count, "count", {a.batch});
    check_dtype(*count, "count", {ScalarType::Long});
    check_contiguous(*count, "count");
    check_same_device(*count, "count", prototypes);
    a.count = count->const_data_ptr<int64_t>();
  }
  if (source_region) {
    check_shape(*source_region, "source_region", {a.batch, 4});
    check_dtype(*source_region, "source_region", {ScalarType::Float});
    check_contiguous(*source_region, "source_region");
    check_same_device(*source_region, "source_region", prototypes);
    a.source_region = source_region->const_data_ptr<float>();
  }
  a.box_unit = choose<BoxUnit>(
      box_unit, "box_unit",
      {{"relative", BoxUnit::kRelative}, {"output", BoxUnit::kOutput}, {"prototype", BoxUnit::kPrototype}});
  a.sigmoid = choose<bool>(activation, "activation", {{"sigmoid", true}, {"none", false}});
  a.threshold = static_cast<float>(threshold);
  a.crop = choose<Crop>(crop, "crop", {{"before", Crop::kBefore}, {"after", Crop::kAfter}, {"none", Crop::kNone}});
  a.padding = static_cast<float>(padding);
}

}  // namespace yolact
