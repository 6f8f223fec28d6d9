// Jobs of the operators that have a gradient.
#include <algorithm>

#include "../../csrc/common/deform_conv2d.h"
#include "../../csrc/common/mask_loss.h"
#include "jobs.h"

namespace yolact {
namespace {

int64_t run_mask_loss(bool backward) {
  constexpr int64_t kPositives = 12, kTruths = 4, kSide = 50, kChannels = 32;
  Random random;
  const std::vector<float> prototypes = random.uniform(kSide * kSide * kChannels, 0, 1);
  const std::vector<float> coefficients = random.uniform(kPositives * kChannels, -1, 1);
  std::vector<float> boxes, loss(kPositives), gradient(kPositives, 1.0f);
  for (int64_t i = 0; i < kTruths; ++i) {
    const float x = random.uniform(0, 0.5f), y = random.uniform(0, 0.5f);
    for (const float edge : {x, y, x + 0.4f, y + 0.4f}) boxes.push_back(edge);
  }
  std::vector<int64_t> picture(kPositives), truth;
  for (int64_t i = 0; i < kPositives; ++i) truth.push_back(i % kTruths);
  std::vector<uint8_t> masks(kTruths * kSide * kSide);
  for (uint8_t& pixel : masks) pixel = static_cast<uint8_t>(random.below(2));
  std::vector<float> prototype_gradient(prototypes.size()), coefficient_gradient(coefficients.size());
  MaskLossArguments a{};
  a.prototypes = prototypes.data();
  a.coefficients = coefficients.data();
  for (int64_t* stride : {a.prototype_stride, a.prototype_gradient_stride})
    std::copy_n(std::vector<int64_t>{kSide * kSide * kChannels, kSide * kChannels, kChannels, 1}.begin(), 4, stride);
  std::copy_n(std::vector<int64_t>{kChannels, 1}.begin(), 2, a.coefficient_stride);
  std::copy_n(std::vector<int64_t>{kSide * kSide, kSide, 1}.begin(), 3, a.mask_stride);
  a.picture = picture.data();
  a.truth = truth.data();
  a.boxes = boxes.data();
  a.masks = masks.data();
  a.batch = 1;
  a.height = a.width = kSide;
  a.channels = kChannels;
  a.positives = kPositives;
  a.truths = kTruths;
  a.padding = 1;
  a.loss = loss.data();
  a.loss_gradient = gradient.data();
  a.prototype_gradient = prototype_gradient.data();
  a.coefficient_gradient = coefficient_gradient.data();
  counted([&] { backward ? cpu::mask_loss_backward(a, serial()) : cpu::mask_loss(a, serial()); });
  const std::vector<float>& results = backward ? coefficient_gradient : loss;
  return std::count_if(results.begin(), results.end(), [](float value) { return value != 0; });
}

// Of fewer positions and channels than a network's; offsets as a trained one has them.
int64_t run_deform_conv2d(bool backward) {
  constexpr int64_t kSide = 12, kPositions = kSide * kSide, kChannels = 128, kTaps = 9;
  Random random;
  const std::vector<float> input = random.uniform(kPositions * kChannels, -1, 1);
  const std::vector<float> offset = random.uniform(kPositions * 2 * kTaps, -2, 2);
  const std::vector<float> mask = random.uniform(kPositions * kTaps, 0, 1);
  std::vector<float> columns = random.uniform(kPositions * kTaps * kChannels, -1, 1);
  std::vector<float> input_gradient(input.size()), offset_gradient(offset.size()), mask_gradient(mask.size());
  DeformConv2dArguments a{};
  a.batch = a.groups = a.offset_groups = 1;
  a.height = a.width = a.out_height = a.out_width = kSide;
  a.channels = kChannels;
  std::fill_n(a.kernel, 2, 3);
  for (int64_t* ones : {a.stride, a.padding, a.dilation}) std::fill_n(ones, 2, 1);
  a.input = input.data();
  a.offset = offset.data();
  a.mask = mask.data();
  std::copy_n(std::vector<int64_t>{kPositions * 2 * kTaps, kPositions, kSide, 1}.begin(), 4, a.offset_stride);
  std::copy_n(std::vector<int64_t>{kPositions * kTaps, kPositions, kSide, 1}.begin(), 4, a.mask_stride);
  a.input_gradient = input_gradient.data();
  a.offset_gradient = offset_gradient.data();
  a.mask_gradient = mask_gradient.data();
  counted([&] {
    if (backward) {
      cpu::deform_conv2d_columns_backward(a, 0, kPositions, columns.data(), serial());
    } else {
      cpu::deform_conv2d_columns(a, 0, kPositions, columns.data(), serial());
    }
  });
  const std::vector<float>& results = backward ? input_gradient : columns;
  return std::count_if(results.begin(), results.end(), [](float value) { return value != 0; });
}

}  // namespace

Jobs training_jobs() {
  return {
      {"mask_loss", [] { return run_mask_loss(false); }},
      {"mask_loss_backward", [] { return run_mask_loss(true); }},
      {"deform_conv2d_columns", [] { return run_deform_conv2d(false); }},
      {"deform_conv2d_columns_backward", [] { return run_deform_conv2d(true); }},
  };
}

}  // namespace yolact
