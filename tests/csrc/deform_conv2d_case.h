// Random problems of deform_conv2d's kernels, and a plain loop that solves them, for the tests of every kind of kernel.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "../../csrc/common/deform_conv2d.h"
#include "guarded.h"

namespace yolact {

struct DeformConv2dShape {
  int64_t batch, height, width, groups, offset_groups, channels;
  int64_t kernel[2], stride[2], padding[2], dilation[2];
};

// What a caller hands over: arguments and what they point into, on buffers of exactly their size, and the results. Its
// numbers are such that all sums and products of them are exact in every type: in any order they are the same.
class DeformConv2dCase {
 public:
  DeformConv2dArguments arguments{};
  int64_t first, count;
  const void* column_gradient;

  // Where `exact` is false, numbers are what a normal distribution gives, and results depend on the order of sums.
  // Without `half` types only offsets and mask may be of one.
  explicit DeformConv2dCase(uint32_t seed, const DeformConv2dShape* wanted = nullptr, bool exact = true,
                            bool half = true)
      : engine_(seed), exact_(exact) {
    DeformConv2dArguments& a = arguments;
    const DeformConv2dShape s = wanted ? *wanted : draw_shape();
    a.batch = s.batch;
    a.height = s.height;
    a.width = s.width;
    a.channels = s.channels;
    a.groups = s.groups;
    a.offset_groups = s.offset_groups;
    int64_t size[2] = {s.height, s.width};
    for (int i = 0; i < 2; ++i) {
      a.kernel[i] = s.kernel[i];
      a.stride[i] = s.stride[i];
      a.padding[i] = s.padding[i];
      a.dilation[i] = s.dilation[i];
      size[i] = (size[i] + 2 * s.padding[i] - s.dilation[i] * (s.kernel[i] - 1) - 1) / s.stride[i] + 1;
    }
    a.out_height = size[0];
    a.out_width = size[1];
    a.is_double = below(4) == 0;
    a.type = static_cast<FloatType>(below(3));
    a.offset_type = below(2) ? a.type : FloatType::kFloat32;
    a.mask_type = below(2) ? a.type : FloatType::kFloat32;
    if (!half) a.type = FloatType::kFloat32;

    const int64_t positions = a.batch * a.out_height * a.out_width;
    count = wanted == nullptr && below(3) ? 1 + below(positions) : positions;
    first = below(positions - count + 1);
    a.input = numbers(a.batch * a.height * a.width * a.channels, a.type, [&] { return value(3); });
    column_gradient = numbers(count * taps() * a.channels, a.type, [&] { return value(2); });
    a.offset = maps(2, a.offset_type, a.offset_stride, [&] { return offset(); });
    if (below(3))
      a.mask = maps(1, a.mask_type, a.mask_stride, [&] { return exact_ ? 0.5 * (1 << below(3)) : value(1); });
    const int64_t input_size = a.batch * a.height * a.width * a.channels;
    for (int64_t i = 0; i < input_size; ++i) before_.push_back(value(5));
  }

  int64_t taps() const { return arguments.kernel[0] * arguments.kernel[1]; }

  // Which gradients are asked for, a bit each: the input's, the offsets', the mask's, and the first deterministic.
  // Gives every number of the outputs, as doubles, one after the other, those of any NaN alike; and whether nothing
  // else was written.
  template <class Forward, class Backward>
  std::vector<double> results(int asked, Forward&& forward, Backward&& backward) const {
    DeformConv2dArguments a = arguments;
    const FloatType type = FloatType::kFloat32;
    const Guarded columns(count * taps() * a.channels * bytes(a.type));
    const Guarded input_gradient(static_cast<int64_t>(before_.size()) * bytes(type));
    const Guarded offset_gradient(maps_size(2) * bytes(type)), mask_gradient(maps_size(1) * bytes(type));
    for (size_t i = 0; i < before_.size(); ++i) store(input_gradient.data(), i, type, before_[i]);
    if (asked & 1) a.input_gradient = input_gradient.data();
    if (asked & 2) a.offset_gradient = offset_gradient.data();
    if (asked & 4 && a.mask) a.mask_gradient = mask_gradient.data();
    a.deterministic = asked & 8;
    forward(a, first, count, columns.data());
    if (asked & 7) backward(a, first, count, column_gradient);
    std::vector<double> found;
    const auto take = [&](const Guarded& buffer, FloatType of) {
      for (int64_t i = 0; i < buffer.size() / bytes(of); ++i) found.push_back(plain(load(buffer.data(), i, of)));
      found.push_back(buffer.intact());
    };
    take(columns, a.type);
    take(input_gradient, type);
    take(offset_gradient, type);
    take(mask_gradient, type);
    return found;
  }

  // The same by plain loops in double.
  std::vector<double> expected(int asked) const {
    return results(
        asked,
        [&](const auto& a, auto, auto, void* columns) {
          each([&](int64_t, int64_t column, int64_t, const Neighbours& n) {
            store(columns, column, a.type, n.mask * n.sum());
          });
        },
        [&](const auto& a, auto, auto, const void* gradients) {
          const FloatType type = FloatType::kFloat32;
          const auto add = [&](void* to, int64_t i, double value, bool begins) {
            store(to, i, type, (begins ? 0.0 : load(to, i, type)) + value);
          };
          each([&](int64_t channel, int64_t column, int64_t map, const Neighbours& n) {
            const double gradient = load(gradients, column, a.type);
            const int64_t plane = a.out_height * a.out_width, in_group = channel % (a.channels / a.offset_groups);
            for (int i = 0; a.input_gradient && i < 4; ++i)
              if (n.at[i] >= 0) add(a.input_gradient, n.at[i], n.mask * n.weight(i) * gradient, false);
            if (a.offset_gradient) {
              const int64_t y = map / plane * 2 * plane + map % plane;
              add(a.offset_gradient, y, n.mask * n.slope_y() * gradient, in_group == 0);
              add(a.offset_gradient, y + plane, n.mask * n.slope_x() * gradient, in_group == 0);
            }
            if (a.mask_gradient) add(a.mask_gradient, map, n.sum() * gradient, in_group == 0);
          });
        });
  }

 private:
  // Of one sample of one channel.
  struct Neighbours {
    double mask, y, x;  // as far from the upper left neighbour
    int64_t at[4];      // negative where it is outside
    double value[4];
    double weight(int i) const { return (i < 2 ? 1 - y : y) * (i % 2 ? x : 1 - x); }
    double sum() const {
      return value[0] * weight(0) + value[1] * weight(1) + value[2] * weight(2) + value[3] * weight(3);
    }
    double slope_y() const { return (value[2] - value[0]) * (1 - x) + (value[3] - value[1]) * x; }
    double slope_x() const { return (value[1] - value[0]) * (1 - y) + (value[3] - value[2]) * y; }
  };

  // Calls visit(channel, index of the column, index into the mask's gradient, neighbours) for every number of a column.
  template <class Visit>
  void each(Visit&& visit) const {
    const DeformConv2dArguments& a = arguments;
    const int64_t plane = a.out_height * a.out_width, of_a_group = a.channels / a.groups;
    for (int64_t position = first; position < first + count; ++position) {
      const int64_t picture = position / plane, row = position % plane / a.out_width, column = position % a.out_width;
      for (int64_t tap = 0; tap < taps(); ++tap) {
        for (int64_t c = 0; c < a.channels; ++c) {
          const int64_t map = c / (a.channels / a.offset_groups) * taps() + tap;
          const int64_t* stride = a.offset_stride;
          const int64_t from = picture * stride[0] + 2 * map * stride[1] + row * stride[2] + column * stride[3];
          double y = static_cast<double>(row * a.stride[0] + tap / a.kernel[1] * a.dilation[0] - a.padding[0]);
          double x = static_cast<double>(column * a.stride[1] + tap % a.kernel[1] * a.dilation[1] - a.padding[1]);
          y += load(a.offset, from, a.offset_type);
          x += load(a.offset, from + stride[1], a.offset_type);
          Neighbours n{1.0, 0.0, 0.0, {-1, -1, -1, -1}, {}};
          if (a.mask) {
            const int64_t* of = a.mask_stride;
            n.mask = load(a.mask, picture * of[0] + map * of[1] + row * of[2] + column * of[3], a.mask_type);
          }
          const double top = std::floor(y), left = std::floor(x);
          n.y = std::isinf(y) ? 0.0 : y - top;
          n.x = std::isinf(x) ? 0.0 : x - left;
          for (int i = 0; i < 4; ++i) {
            const double at_y = top + i / 2, at_x = left + i % 2;
            if (!(at_y >= 0 && at_y < static_cast<double>(a.height) && at_x >= 0 &&
                  at_x < static_cast<double>(a.width)))
              continue;
            n.at[i] = ((picture * a.height + static_cast<int64_t>(at_y)) * a.width + static_cast<int64_t>(at_x)) *
                          a.channels +
                      c;
            n.value[i] = load(a.input, n.at[i], a.type);
          }
          const int64_t group = c / of_a_group;
          const int64_t index = ((group * count + position - first) * taps() + tap) * of_a_group + c % of_a_group;
          visit(c, index, (picture * a.offset_groups * taps() + map) * plane + position % plane, n);
        }
      }
    }
  }

  DeformConv2dShape draw_shape() {
    const int64_t groups = among({1, 1, 2, 3}), offset_groups = among({1, 1, 2, 3});
    DeformConv2dShape s{};
    s.batch = 1 + below(2);
    s.height = among({1, 2, 5});
    s.width = among({1, 3, 6});
    s.groups = groups;
    s.offset_groups = offset_groups;
    s.channels = groups * offset_groups * among({1, 3, 4, 8, 8, 12, 32});
    for (int i = 0; i < 2; ++i) {
      s.kernel[i] = among({1, 2, 3, 3, 3});
      s.stride[i] = 1 + below(2);
      s.dilation[i] = 1 + below(2);
      s.padding[i] = s.dilation[i] * (s.kernel[i] - 1) / 2 + below(2);
      const int64_t least = s.dilation[i] * (s.kernel[i] - 1) + 1 - 2 * s.padding[i];
      if ((i ? s.width : s.height) < least) (i ? s.width : s.height) = least;
    }
    return s;
  }

  double offset() {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (below(40) == 0) return among({-1000, 1000, 7, -7});
    if (below(60) == 0) return below(3) == 0 ? std::nan("") : below(2) ? kInfinity : -kInfinity;
    return exact_ ? 0.25 * static_cast<double>(below(17) - 8) : value(1);
  }

  // A whole number up to `most`, or of a normal distribution that wide.
  double value(int most) {
    return exact_ ? static_cast<double>(below(2 * most + 1) - most)
                  : std::normal_distribution<double>(0, most)(engine_);
  }

  int64_t below(int64_t limit) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(limit)); }
  int among(std::initializer_list<int> choices) { return choices.begin()[below(static_cast<int64_t>(choices.size()))]; }

  // So many maps for each tap and offset group; in rows, in columns, or channels last with a gap.
  int64_t maps_size(int64_t each) const {
    return arguments.batch * arguments.offset_groups * taps() * each * arguments.out_height * arguments.out_width;
  }
  template <class Draw>
  const void* maps(int64_t each, FloatType type, int64_t (&stride)[4], Draw&& draw) {
    const int64_t h = arguments.out_height, w = arguments.out_width, channels = arguments.offset_groups * taps() * each;
    const int64_t layouts[3][4] = {{channels * h * w, h * w, w, 1},
                                   {channels * h * w, h * w, 1, h},
                                   {(channels + 1) * h * w, 1, w * (channels + 1), channels + 1}};
    std::memcpy(stride, layouts[below(3)], sizeof stride);
    return numbers(arguments.batch * stride[0], type, draw);
  }

  // Some off a multiple of sixteen bytes, as what the page ends with is no multiple either.
  template <class Draw>
  const void* numbers(int64_t size, FloatType type, Draw&& draw) {
    const int64_t more = below(4) == 0;
    buffers_.push_back(std::make_unique<Guarded>((size + more) * bytes(type)));
    for (int64_t i = 0; i < size + more; ++i) store(buffers_.back()->data(), i, type, draw());
    return buffers_.back()->data();
  }

  int64_t bytes(FloatType type) const { return arguments.is_double ? 8 : type == FloatType::kFloat32 ? 4 : 2; }
  double load(const void* data, int64_t i, FloatType type) const {
    return arguments.is_double ? static_cast<const double*>(data)[i] : static_cast<double>(load_float(data, i, type));
  }
  void store(void* data, int64_t i, FloatType type, double value) const {
    if (arguments.is_double)
      static_cast<double*>(data)[i] = value;
    else
      store_float(data, i, type, static_cast<float>(value));
  }
  static double plain(double value) { return value != value ? -12345.0 : value; }

  std::mt19937 engine_;
  bool exact_;
  std::vector<std::unique_ptr<Guarded>> buffers_;
  std::vector<double> before_;  // what is added to
};

}  // namespace yolact
