// Random problems of the mask loss, for the tests of every kind of kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "../../csrc/common/mask_loss.h"
#include "guarded.h"

namespace yolact {

struct MaskLossShape {
  int64_t batch, positives, truths, height, width, channels;
};

// What a caller hands over: arguments and what they point into, on buffers of exactly their size, and the results.
class MaskLossCase {
 public:
  MaskLossArguments arguments{};

  explicit MaskLossCase(uint32_t seed, const MaskLossShape* wanted = nullptr) : engine_(seed) {
    const MaskLossShape shape = wanted ? *wanted
                                       : MaskLossShape{1 + below(3),
                                                       below(12),
                                                       1 + below(4),
                                                       among({1, 3, 15, 16, 17, 33, 50}),
                                                       among({1, 5, 16, 18, 33}),
                                                       among({1, 3, 8, 16, 31, 32, 33, 70})};
    MaskLossArguments& a = arguments;
    a.batch = shape.batch;
    a.positives = shape.positives;
    a.truths = shape.truths;
    a.height = shape.height;
    a.width = shape.width;
    a.channels = shape.channels;
    a.padding = static_cast<float>(below(4)) / 2.0f;
    const int64_t h = a.height, w = a.width, k = a.channels;
    const int64_t pixel = below(2) ? k : k + 4;  // from one pixel to the next
    const bool planes = below(2);
    const int64_t strides[4] = {h * w * (planes ? k : pixel), w * (planes ? 1 : pixel), planes ? 1 : pixel,
                                planes ? h * w : 1};
    std::copy_n(strides, 4, a.prototype_stride);
    const int64_t dense[4] = {h * w * k, w * (planes ? 1 : k), planes ? 1 : k, planes ? h * w : 1};
    std::copy_n(dense, 4, a.prototype_gradient_stride);
    const bool in_rows = below(2);
    a.coefficient_stride[0] = in_rows ? k : 1;
    a.coefficient_stride[1] = in_rows ? 1 : a.positives;
    const bool turned = below(2);
    a.mask_stride[0] = h * w;
    a.mask_stride[1] = turned ? 1 : w;
    a.mask_stride[2] = turned ? h : 1;

    // Logits of some units, now and then so large that they are certain, and values that are none.
    const float size = below(4) == 0 ? 30.0f : 3.0f;
    a.prototypes = floats(a.batch * strides[0], 1.0f, &a.prototype_type);
    a.coefficients = floats(a.positives * k, size / std::sqrt(static_cast<float>(k)), &a.coefficient_type);
    std::vector<int64_t> picture, truth;
    for (int64_t m = 0; m < a.positives; ++m) {
      picture.push_back(below(static_cast<int>(a.batch)));
      truth.push_back(below(static_cast<int>(a.truths)));
      if (below(20) == 0) picture.back() = among({-1, static_cast<int>(a.batch)});
      if (below(20) == 0) truth.back() = among({-1, static_cast<int>(a.truths)});
    }
    a.picture = keep(picture);
    a.truth = keep(truth);
    std::vector<float> boxes;
    for (int64_t i = 0; i < a.truths * 4; ++i) {
      const float edge = number() * 1.4f - 0.2f;
      boxes.push_back(below(40) ? edge : below(2) ? std::nanf("") : std::numeric_limits<float>::infinity());
    }
    a.boxes = keep(boxes);
    std::vector<uint8_t> masks;
    for (int64_t i = 0; i < a.truths * h * w; ++i) masks.push_back(static_cast<uint8_t>(below(2)));
    a.masks = keep(masks);
    std::vector<float> loss_gradient;
    for (int64_t m = 0; m < a.positives; ++m) loss_gradient.push_back(number() * 2.0f - 0.5f);
    a.loss_gradient = keep(loss_gradient);
  }

  // Runs both directions with outputs of exactly their size and gives the bits of all results, one after the other,
  // those of any NaN alike; and whether nothing else was written.
  template <class Forward, class Backward>
  std::vector<uint32_t> results(Forward&& forward, Backward&& backward) {
    MaskLossArguments a = arguments;
    const auto bytes = [](FloatType type) { return type == FloatType::kFloat32 ? 4 : 2; };
    const int64_t of_coefficients = a.positives * a.channels, of_prototypes = a.batch * a.height * a.width * a.channels;
    const Guarded loss(a.positives * 4), coefficients(of_coefficients * bytes(a.coefficient_type));
    const Guarded prototypes(of_prototypes * bytes(a.prototype_type));
    a.loss = loss.data();
    a.prototype_gradient = prototypes.data();
    a.coefficient_gradient = coefficients.data();
    forward(a);
    backward(a);
    std::vector<uint32_t> found;
    const auto take = [&](const Guarded& buffer, int64_t count, FloatType type) {
      for (int64_t i = 0; i < count; ++i) {
        const float value = load_float(buffer.data(), i, type);
        found.push_back(value != value ? 0x7fc00000 : bits_of(value));
      }
      found.push_back(buffer.intact());
    };
    take(loss, a.positives, FloatType::kFloat32);
    take(coefficients, of_coefficients, a.coefficient_type);
    take(prototypes, of_prototypes, a.prototype_type);
    return found;
  }

 private:
  int below(int limit) { return static_cast<int>(engine_() % static_cast<uint32_t>(limit)); }
  int among(std::initializer_list<int> choices) { return choices.begin()[below(static_cast<int>(choices.size()))]; }
  float number() { return static_cast<float>(engine_() % 4096) / 4096.0f; }

  // Numbers of up to `size`, of a type that is drawn, some off a multiple of sixteen bytes.
  const void* floats(int64_t count, float size, FloatType* type) {
    const bool is_odd = below(6) == 0;
    std::vector<float> values(count + below(2));
    for (float& value : values) {
      value = (number() * 2.0f - 1.0f) * size;
      if (is_odd && below(50) == 0) value = below(2) ? std::nanf("") : std::numeric_limits<float>::infinity();
    }
    *type = static_cast<FloatType>(below(3));
    if (*type == FloatType::kFloat32) return keep(values);
    std::vector<uint16_t> narrow;
    for (const float value : values)
      narrow.push_back(*type == FloatType::kFloat16 ? float_to_half(value) : float_to_bfloat16(value));
    return keep(narrow);
  }

  template <class T>
  const T* keep(const std::vector<T>& values) {
    buffers_.push_back(std::make_unique<Guarded>(values.size() * sizeof(T)));
    if (!values.empty()) std::memcpy(buffers_.back()->data(), values.data(), values.size() * sizeof(T));
    return buffers_.back()->template data<T>();
  }

  std::mt19937 engine_;
  std::vector<std::unique_ptr<Guarded>> buffers_;
};

}  // namespace yolact
