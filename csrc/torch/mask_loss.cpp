#include "../common/mask_loss.h"

#include <tuple>

#include "support.h"

namespace yolact {
namespace {

// Everything but the outputs. The tensors must outlive the arguments.
void set_arguments(MaskLossArguments& a, const Tensor& prototypes, const Tensor& coefficients, const Tensor& picture,
                   const Tensor& truth, const Tensor& boxes, const Tensor& masks, double padding) {
  check_shape(prototypes, "prototypes", {-1, -1, -1, -1});
  a.batch = prototypes.size(0);
  a.height = prototypes.size(1);
  a.width = prototypes.size(2);
  a.channels = prototypes.size(3);
  check_size(a.height, a.width, "prototypes");
  STD_TORCH_CHECK(a.channels > 0, "prototypes must have a channel, got ", shape_of(prototypes));
  check_shape(coefficients, "coefficients", {-1, a.channels});
  a.positives = coefficients.size(0);
  STD_TORCH_CHECK(a.batch > 0 || a.positives == 0, "prototypes must be of a picture, got ", a.positives,
                  " positives of none");
  check_shape(picture, "picture", {a.positives});
  check_shape(truth, "truth", {a.positives});
  check_shape(boxes, "boxes", {-1, 4});
  a.truths = boxes.size(0);
  check_shape(masks, "masks", {a.truths, a.height, a.width});
  const std::pair<const Tensor*, const char*> others[] = {
      {&coefficients, "coefficients"}, {&picture, "picture"}, {&truth, "truth"}, {&boxes, "boxes"}, {&masks, "masks"}};
  for (const auto& [tensor, name] : others) check_same_device(*tensor, name, prototypes);
  check_dtype(picture, "picture", {ScalarType::Long});
  check_dtype(truth, "truth", {ScalarType::Long});
  check_dtype(boxes, "boxes", {ScalarType::Float});
  check_dtype(masks, "masks", {ScalarType::Bool});
  for (const auto& [tensor, name] : {others[1], others[2], others[3]})
    STD_TORCH_CHECK(tensor->is_contiguous(), name, " must be contiguous");

  a.is_double = prototypes.scalar_type() == ScalarType::Double && coefficients.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(!a.is_double || !is_for_cuda(prototypes), "float64 is computed on the CPU only");
  if (!a.is_double) {
    a.prototype_type = float_type(prototypes, "prototypes");
    a.coefficient_type = float_type(coefficients, "coefficients");
  }
  a.prototypes = prototypes.data_ptr();
  for (int i = 0; i < 4; ++i) a.prototype_stride[i] = prototypes.stride(i);
  a.coefficients = coefficients.data_ptr();
  for (int i = 0; i < 2; ++i) a.coefficient_stride[i] = coefficients.stride(i);
  a.picture = picture.const_data_ptr<int64_t>();
  a.truth = truth.const_data_ptr<int64_t>();
  a.boxes = boxes.const_data_ptr<float>();
  a.masks = static_cast<const uint8_t*>(masks.data_ptr());
  for (int i = 0; i < 3; ++i) a.mask_stride[i] = masks.stride(i);
  a.padding = static_cast<float>(padding);
}

Tensor mask_loss(const Tensor& prototypes, const Tensor& coefficients, const Tensor& picture, const Tensor& truth,
                 const Tensor& boxes, const Tensor& masks, double padding) {
  MaskLossArguments arguments{};
  set_arguments(arguments, prototypes, coefficients, picture, truth, boxes, masks, padding);
  Tensor loss =
      empty_on(prototypes, {arguments.positives}, arguments.is_double ? ScalarType::Double : ScalarType::Float);
  if (arguments.positives == 0) return loss;
  arguments.loss = loss.mutable_data_ptr();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(prototypes)) {
      const CudaScope scope(prototypes);
      cuda::mask_loss(arguments, scope.stream);
      return loss;
    }
  }
  cpu::mask_loss(arguments, torch_threads());
  return loss;
}

std::tuple<Tensor, Tensor> mask_loss_backward(const Tensor& loss_gradient, const Tensor& prototypes,
                                              const Tensor& coefficients, const Tensor& picture, const Tensor& truth,
                                              const Tensor& boxes, const Tensor& masks, double padding) {
  MaskLossArguments arguments{};
  set_arguments(arguments, prototypes, coefficients, picture, truth, boxes, masks, padding);
  check_shape(loss_gradient, "loss_gradient", {arguments.positives});
  check_dtype(loss_gradient, "loss_gradient", {arguments.is_double ? ScalarType::Double : ScalarType::Float});
  STD_TORCH_CHECK(loss_gradient.is_contiguous(), "loss_gradient must be contiguous");
  check_same_device(loss_gradient, "loss_gradient", prototypes);
  arguments.loss_gradient = loss_gradient.data_ptr();

  // Channels or columns side by side, as in the prototypes: whoever made them goes on with the gradient.
  const int64_t batch = arguments.batch, height = arguments.height, width = arguments.width;
  const int64_t channels = arguments.channels, plane = height * width;
  const bool channels_last = prototypes.stride(3) == 1;
  const int64_t strides[4] = {plane * channels, width * (channels_last ? channels : 1), channels_last ? channels : 1,
                              channels_last ? 1 : plane};
  Tensor prototype_gradient =
      empty_strided_on(prototypes, {batch, height, width, channels}, strides, prototypes.scalar_type());
  Tensor coefficient_gradient = empty_on(coefficients, {arguments.positives, channels}, coefficients.scalar_type());
  if (batch == 0) return {prototype_gradient, coefficient_gradient};
  arguments.prototype_gradient = prototype_gradient.mutable_data_ptr();
  for (int i = 0; i < 4; ++i) arguments.prototype_gradient_stride[i] = strides[i];
  arguments.coefficient_gradient = coefficient_gradient.mutable_data_ptr();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(prototypes)) {
      const CudaScope scope(prototypes);
      cuda::mask_loss_backward(arguments, scope.stream);
      return {prototype_gradient, coefficient_gradient};
    }
  }
  cpu::mask_loss_backward(arguments, torch_threads());
  return {prototype_gradient, coefficient_gradient};
}

}  // namespace

YOLACT_REGISTER(mask_loss)
YOLACT_REGISTER(mask_loss_backward)

}  // namespace yolact
