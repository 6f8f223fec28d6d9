// Random problems of mask assembly, for the tests of both operators on every kind of kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "../../csrc/common/assemble.h"
#include "guarded.h"

namespace yolact {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int below(int limit) { return static_cast<int>(engine_() % static_cast<uint32_t>(limit)); }
  int among(std::initializer_list<int> choices) { return choices.begin()[below(static_cast<int>(choices.size()))]; }
  float number() { return static_cast<float>(engine_() % 4096) / 4096.0f; }

 private:
  std::mt19937 engine_;
};

struct Shape {
  int64_t batch, detections, map_height, map_width, channels, height, width;
};

inline Shape random_shape(Random& random) {
  return {1 + random.below(2),
          1 + random.below(4),
          random.among({1, 2, 5, 17, 40, 70}),
          random.among({1, 3, 15, 16, 17, 33}),
          random.among({1, 3, 16, 32, 33, 48}),
          random.among({1, 2, 7, 64, 90}),
          random.among({1, 3, 8, 50})};
}

// What a caller hands over: arguments and what they point into, on buffers of exactly their size.
class Case {
 public:
  AssembleArguments arguments{};

  // sizes_differ: each picture has a size of its own, of up to 80 pixels a side, and not the shape's.
  // is_noise: nothing is cut, and half of the low-resolution values are above the threshold.
  Case(Random& random, const Shape& shape, bool sizes_differ, bool is_noise = false) {
    AssembleArguments& a = arguments;
    a.batch = shape.batch;
    a.detections = shape.detections;
    a.height = shape.map_height;
    a.width = shape.map_width;
    a.channels = shape.channels;
    const int64_t rows = a.batch * a.detections;
    a.sigmoid = random.below(2);
    const float of_logits[] = {0.0f, 0.0f, 0.25f, 1.0f, -0.25f}, of_sigmoids[] = {0.5f, 0.5f, 0.625f, 0.5f, -0.25f};
    const int which = is_noise ? 0 : random.below(5);
    a.threshold = a.sigmoid ? of_sigmoids[which] : of_logits[which];
    a.crop = is_noise ? Crop::kNone : static_cast<Crop>(random.below(3));
    a.padding = static_cast<float>(random.below(3)) / 2.0f;

    a.prototype_type = static_cast<FloatType>(random.below(3));
    a.coefficient_type = static_cast<FloatType>(random.below(3));
    const int64_t h = a.height, w = a.width, k = a.channels;
    int64_t pixel = k;  // from one pixel to the next
    switch (random.below(4)) {
      case 0:  // channels side by side, with others between
        pixel = k + random.among({1, 4, 8});
        [[fallthrough]];
      case 1:  // channels side by side
        std::copy_n(std::initializer_list<int64_t>{h * w * pixel, w * pixel, pixel, 1}.begin(), 4, a.prototype_stride);
        break;
      case 2:  // columns side by side
        std::copy_n(std::initializer_list<int64_t>{h * w * k, w, 1, h * w}.begin(), 4, a.prototype_stride);
        break;
      default:  // neither
        std::copy_n(std::initializer_list<int64_t>{h * w * k, 1, h, h * w}.begin(), 4, a.prototype_stride);
    }
    const bool in_rows = random.below(2);
    const int64_t coefficient_stride[3] = {a.detections * k, in_rows ? k : 1, in_rows ? 1 : a.detections};
    std::copy_n(coefficient_stride, 3, a.coefficient_stride);

    // Small fractions, of whose blends many fall on a threshold; or a map of one value, where the last bit of a sum
    // decides: the threshold is nearly that sum in another order.
    const bool is_constant = !is_noise && random.below(6) == 0;
    std::vector<float> prototypes(a.batch * h * w * pixel), coefficients(rows * k), channels(k);
    for (float& value : channels) value = random.number();
    for (int64_t i = 0; i < a.batch * h * w; ++i)
      for (int64_t c = 0; c < k; ++c) {
        const int64_t* s = a.prototype_stride;
        prototypes[i / (h * w) * s[0] + i / w % h * s[1] + i % w * s[2] + c * s[3]] =
            is_constant ? channels[c] : static_cast<float>(random.below(9) - 4);
      }
    if (!is_noise && a.prototype_type != FloatType::kFloat16 && random.below(4) == 0) {
      constexpr float kInfinity = std::numeric_limits<float>::infinity();
      for (float& value : prototypes)
        if (random.below(2) == 0) value = random.below(4) == 0 ? -kInfinity : random.below(4) == 0 ? 3e38f : kInfinity;
    }
    for (float& value : coefficients)
      value = is_constant ? random.number() - 0.5f : static_cast<float>(random.below(9) - 4) / 16.0f;
    a.prototypes = keep(prototypes, a.prototype_type, random.below(2));
    a.coefficients = keep(coefficients, a.coefficient_type, random.below(2));
    if (is_constant) {
      float sum = 0.0f;
      for (int64_t c = 0; c < k; ++c)
        sum += load_float(a.prototypes, c * a.prototype_stride[3], a.prototype_type) *
               load_float(a.coefficients, c * a.coefficient_stride[2], a.coefficient_type);
      a.sigmoid = false;
      a.threshold = std::nextafter(sum, sum + static_cast<float>(random.below(3) - 1));
    }

    std::vector<int64_t> sizes;
    for (int64_t b = 0; b < a.batch; ++b) {
      sizes.push_back(sizes_differ ? 1 + random.below(80) : shape.height);
      sizes.push_back(sizes_differ ? 1 + random.below(80) : shape.width);
    }
    a.sizes = keep(sizes);
    a.size_stride = 2;

    a.box_unit = static_cast<BoxUnit>(random.below(3));
    const bool of_output = a.box_unit == BoxUnit::kOutput, is_relative = a.box_unit == BoxUnit::kRelative;
    const int64_t extent[] = {is_relative ? 1 : of_output ? sizes[1] : w, is_relative ? 1 : of_output ? sizes[0] : h};
    std::vector<float> boxes(rows * 4);
    const bool in_order = random.below(4) > 0;
    for (int64_t i = 0; i < rows * 4; ++i) {
      const float edge = in_order ? random.number() * 0.7f + (i % 4 < 2 ? -0.2f : 0.5f) : random.number() * 1.4f - 0.2f;
      boxes[i] = edge * static_cast<float>(extent[i % 2]);
    }
    if (!is_noise && random.below(4) == 0) {
      constexpr float kInfinity = std::numeric_limits<float>::infinity();
      const float odd[] = {kInfinity, -kInfinity, std::nanf(""), 1e30f};
      boxes[random.below(static_cast<int>(boxes.size()))] = odd[random.below(4)];
    }
    a.boxes = keep(boxes);
    if (!is_noise && random.below(3) == 0) {
      std::vector<float> regions;
      for (int64_t b = 0; b < a.batch; ++b)
        for (const float edge : {0.3f * w, 0.2f * h, 0.9f * w, 0.8f * h}) regions.push_back(edge);
      a.source_region = keep(regions);
    }
    if (!is_noise && random.below(4) == 0) {
      std::vector<int64_t> count;
      for (int64_t b = 0; b < a.batch; ++b) count.push_back(random.below(static_cast<int>(a.detections) + 1));
      a.count = keep(count);
    }
  }

 private:
  // The values in another type, cut to its precision, and `shift` elements off a multiple of sixteen bytes.
  const void* keep(const std::vector<float>& values, FloatType type, int64_t shift) {
    std::vector<float> wide(values);
    wide.resize(values.size() + shift);
    if (type == FloatType::kFloat32) return keep(wide);
    std::vector<uint16_t> narrow;
    for (const float value : wide) {
      const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
      const uint32_t half = magnitude < 0x38800000 ? 0 : (magnitude - 0x38000000) >> 13;  // nothing below 2^-14
      narrow.push_back(static_cast<uint16_t>(type == FloatType::kBFloat16 ? bits >> 16 : bits >> 31 << 15 | half));
    }
    return keep(narrow);
  }

  template <class T>
  const T* keep(const std::vector<T>& values) {
    buffers_.push_back(std::make_unique<Guarded>(values.size() * sizeof(T)));
    std::memcpy(buffers_.back()->data(), values.data(), values.size() * sizeof(T));
    return buffers_.back()->template data<T>();
  }

  std::vector<std::unique_ptr<Guarded>> buffers_;
};

}  // namespace yolact
