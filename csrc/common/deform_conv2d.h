// Modulated deformable convolution (DCNv2, Zhu et al., 2019): what the kernels of csrc/cpu and csrc/cuda do of it.
//
// It is a product of matrices: a row of columns for each output position, its input samples tap by tap, times the
// weights. The product is a library's (csrc/torch/deform_conv2d.cpp calls torch's); what is written here by hand makes
// columns of a range of positions, and takes their gradient back to what they were sampled from. Positions count
// through the whole batch, so that a range may be small where memory is dear and hold many pictures where they are.
#pragma once

#include <cstdint>

#include "half.h"
#include "host_device.h"
#include "parallel.h"
#include "stream.h"

namespace yolact {

struct DeformConv2dArguments {
  int64_t batch, height, width, channels;                 // of the input
  int64_t out_height, out_width;                          // positions a picture
  int64_t kernel[2], stride[2], padding[2], dilation[2];  // (y, x); taps = kernel[0] * kernel[1]
  int64_t groups;                                         // of the weights; divides channels
  int64_t offset_groups;                                  // divides channels: those that share offsets and mask
  const void* input;                                      // [batch, height, width, channels] contiguous
  FloatType type;                                         // of the input, the columns and their gradient
  const void* offset;        // [batch, offset_groups, taps, 2 (y, x), out_height, out_width]
  int64_t offset_stride[4];  // elements: picture, channel of the 2 * taps * offset_groups, y, x
  FloatType offset_type;
  const void* mask;  // [batch, offset_groups, taps, out_height, out_width], or null: ones
  int64_t mask_stride[4];
  FloatType mask_type;
  bool is_double;  // all of them are float64, whatever their types say

  // Of the gradients, all float (double where is_double); null where nobody asks for one.
  void* input_gradient;   // [batch, height, width, channels] contiguous; is added to
  void* offset_gradient;  // [batch, offset_groups, taps, 2, out_height, out_width] contiguous; written
  void* mask_gradient;    // [batch, offset_groups, taps, out_height, out_width] contiguous; written
  bool deterministic;     // the input's gradient has the same bits at every run
};

// Where a tap samples along an axis: `part` of the way from the neighbour `low` to the next one. (float or double)
template <class T>
struct Between {
  int32_t low;
  T part;
};

// Farther than a pixel outside both neighbours are, wherever that is: no conversion meets what fits no int32. A NaN
// goes on as the part, so that what it weighs is NaN.
template <class T>
YOLACT_HD Between<T> between(T position, int64_t size) {
  const T last = static_cast<T>(size);
  position = position < T{-2} ? T{-2} : position > last ? last : position;
  int32_t low = static_cast<int32_t>(position == position ? position : T{-2});
  low -= position < static_cast<T>(low);  // the conversion rounds towards zero
  return {low, position - static_cast<T>(low)};
}

// Columns are [groups, count, taps, channels / groups] contiguous, of the input's type: those of positions
// [first, first + count) out of batch * out_height * out_width, pictures one after the other, rows by rows.
// A sample is the mask times the bilinear interpolation at
//   (y * stride + tap_y * dilation - padding + offset_y, and x alike),
// of four neighbours of which those outside the picture are 0 and get no gradient.

// Where one tap of one position samples the channels of an offset group.
template <class T>  // float or double: what positions and weights are computed in
struct DeformSample {
  int64_t picture;
  Between<T> y, x;
  T mask;

  // Of the neighbours (low, low), (low, high), (high, low) and (high, high) in y, x; of the mask nothing.
  YOLACT_HD void weigh(T (&weight)[4]) const {
    const T low_y = T{1} - y.part, low_x = T{1} - x.part;
    weight[0] = low_y * low_x;
    weight[1] = low_y * x.part;
    weight[2] = y.part * low_x;
    weight[3] = y.part * x.part;
  }
};

template <class T>
YOLACT_HD T load_real(const void* data, int64_t index, FloatType type) {
  return static_cast<T>(load_float(data, index, type));
}
template <>
YOLACT_HD double load_real<double>(const void* data, int64_t index, FloatType) {
  return static_cast<const double*>(data)[index];
}

// Of the position (y, x) of a picture.
template <class T>
YOLACT_HD DeformSample<T> deform_sample(const DeformConv2dArguments& a, int64_t picture, int64_t y, int64_t x,
                                        int64_t tap_y, int64_t tap_x, int64_t offset_group) {
  const int64_t channel = (offset_group * a.kernel[0] + tap_y) * a.kernel[1] + tap_x;  // of the mask; of offsets, two
  const int64_t* stride = a.offset_stride;
  const int64_t offset = picture * stride[0] + 2 * channel * stride[1] + y * stride[2] + x * stride[3];
  const T offset_y = load_real<T>(a.offset, offset, a.offset_type);
  const T offset_x = load_real<T>(a.offset, offset + stride[1], a.offset_type);
  T mask{1};
  if (a.mask != nullptr) {
    const int64_t* of = a.mask_stride;
    mask = load_real<T>(a.mask, picture * of[0] + channel * of[1] + y * of[2] + x * of[3], a.mask_type);
  }
  const T base_y = static_cast<T>(y * a.stride[0] + tap_y * a.dilation[0] - a.padding[0]);
  const T base_x = static_cast<T>(x * a.stride[1] + tap_x * a.dilation[1] - a.padding[1]);
  return {picture, between(base_y + offset_y, a.height), between(base_x + offset_x, a.width), mask};
}

// Of a position that counts through the batch.
template <class T>
YOLACT_HD DeformSample<T> deform_sample(const DeformConv2dArguments& a, int64_t position, int64_t tap,
                                        int64_t offset_group) {
  const int64_t plane = a.out_height * a.out_width, picture = position / plane, pixel = position - picture * plane;
  const int64_t y = pixel / a.out_width, tap_y = tap / a.kernel[1];
  return deform_sample<T>(a, picture, y, pixel - y * a.out_width, tap_y, tap - tap_y * a.kernel[1], offset_group);
}

namespace cpu {
void deform_conv2d_columns(const DeformConv2dArguments& arguments, int64_t first, int64_t count, void* columns,
                           const Parallel& parallel);
void deform_conv2d_columns_backward(const DeformConv2dArguments& arguments, int64_t first, int64_t count,
                                    const void* column_gradient, const Parallel& parallel);
}  // namespace cpu

namespace cuda {
void deform_conv2d_columns(const DeformConv2dArguments& arguments, int64_t first, int64_t count, void* columns,
                           Stream stream);
void deform_conv2d_columns_backward(const DeformConv2dArguments& arguments, int64_t first, int64_t count,
                                    const void* column_gradient, Stream stream);
}  // namespace cuda

}  // namespace yolact
