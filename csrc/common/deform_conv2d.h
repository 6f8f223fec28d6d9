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
// of four neighbours of which those outside the picture are 0.
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
