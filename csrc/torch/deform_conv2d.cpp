// Tile by tile: columns by the kernels of csrc/cpu or csrc/cuda, and products by torch's own linear, through the
// dispatcher, which serves every device and every torch that this library does.
#include "../common/deform_conv2d.h"

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "support.h"

namespace yolact {
namespace {

// Of a tile's columns. On a CPU small enough for the last cache; at the sizes of YOLACT++ that is 455 positions or
// more, with which a product is near its best speed. On a GPU about the second cache, and many blocks for each kernel.
constexpr int64_t kTileBytes = int64_t{8} << 20, kTileBytesOfGpu = int64_t{32} << 20;

// Side by side the channels, then columns, rows, and what is first; the stride along an axis of one means nothing.
bool is_channels_last(const Tensor& tensor) {
  int64_t stride = 1;
  for (const int64_t axis : {1, 3, 2, 0}) {
    if (tensor.size(axis) > 1 && tensor.stride(axis) != stride) return false;
    stride *= tensor.size(axis);
  }
  return true;
}

Tensor channels_last_on(const Tensor& like, int64_t batch, int64_t channels, int64_t height, int64_t width,
                        ScalarType type) {
  const int64_t strides[4] = {height * width * channels, 1, width * channels, channels};
  return empty_strided_on(like, {batch, channels, height, width}, strides, type);
}

// What a CPU computes with: torch's products of half types are several times as slow there as those of float32.
Tensor widened(const Tensor& tensor) {
  const bool is_half = tensor.scalar_type() == ScalarType::Half || tensor.scalar_type() == ScalarType::BFloat16;
  return is_half && !is_for_cuda(tensor) ? torch::stable::to(tensor, ScalarType::Float) : tensor;
}

FloatType sampling_type(const Tensor& tensor, const char* name, bool is_double) {
  if (!is_double) return float_type(tensor, name);
  check_dtype(tensor, name, {ScalarType::Double});
  return FloatType::kFloat32;
}

// Of a pair; so small that what is made of them and sizes stays far below 63 bits.
int64_t number_of(const std::vector<int64_t>& pair, int axis, const char* name, int64_t least) {
  STD_TORCH_CHECK(pair.size() == 2, name, " must be two numbers, got ", pair.size());
  STD_TORCH_CHECK(pair[axis] >= least && pair[axis] < int64_t{1} << 30, name, " must be within [", least,
                  ", 2**30), got ", pair[axis]);
  return pair[axis];
}

// A convolution's arguments, checked, and the tensors that they point into.
struct Convolution {
  DeformConv2dArguments a{};
  Tensor input, weight;
  int64_t outputs, taps;

  Convolution(const Tensor& given_input, const Tensor& offset, const Tensor& given_weight,
              const std::optional<Tensor>& mask, const std::vector<int64_t>& stride,
              const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, bool deterministic)
      : input(widened(given_input)), weight(widened(given_weight)) {
    check_shape(input, "input", {-1, -1, -1, -1});
    check_shape(weight, "weight", {-1, -1, -1, -1});
    check_size(input.size(2), input.size(3), "input");
    check_size(weight.size(2), weight.size(3), "weight");
    a.batch = input.size(0);
    a.channels = input.size(1);
    a.height = input.size(2);
    a.width = input.size(3);
    outputs = weight.size(0);
    const int64_t group_channels = weight.size(1);
    STD_TORCH_CHECK(a.channels > 0 && group_channels > 0 && a.channels % group_channels == 0,
                    "the channels of input must be a multiple of those of weight, got ", a.channels, " and ",
                    group_channels);
    a.groups = a.channels / group_channels;
    STD_TORCH_CHECK(outputs > 0 && outputs % a.groups == 0, "weight must have outputs for ", a.groups, " groups, got ",
                    outputs);
    STD_TORCH_CHECK(is_channels_last(input), "input must be channels last");
    STD_TORCH_CHECK(is_channels_last(weight), "weight must be channels last");

    int64_t positions[2];
    for (int axis = 0; axis < 2; ++axis) {
      a.kernel[axis] = weight.size(2 + axis);
      a.stride[axis] = number_of(stride, axis, "stride", 1);
      a.padding[axis] = number_of(padding, axis, "padding", 0);
      a.dilation[axis] = number_of(dilation, axis, "dilation", 1);
      const int64_t reach = a.dilation[axis] * (a.kernel[axis] - 1) + 1;
      const int64_t width = input.size(2 + axis) + 2 * a.padding[axis];
      STD_TORCH_CHECK(reach <= width, "weight reaches over ", reach, " pixels of ", width);
      positions[axis] = (width - reach) / a.stride[axis] + 1;
    }
    a.out_height = positions[0];
    a.out_width = positions[1];
    check_size(a.out_height, a.out_width, "the result");
    taps = a.kernel[0] * a.kernel[1];

    check_shape(offset, "offset", {a.batch, -1, a.out_height, a.out_width});
    a.offset_groups = offset.size(1) / (2 * taps);
    STD_TORCH_CHECK(a.offset_groups > 0 && offset.size(1) % (2 * taps) == 0 && a.channels % a.offset_groups == 0,
                    "offset must have ", 2 * taps,
                    " channels for each of the groups that the channels of input divide into, got ", offset.size(1));
    if (mask) check_shape(*mask, "mask", {a.batch, a.offset_groups * taps, a.out_height, a.out_width});

    check_dtype(given_weight, "weight", {given_input.scalar_type()});
    a.is_double = input.scalar_type() == ScalarType::Double;
    a.type = sampling_type(input, "input", a.is_double);
    a.offset_type = sampling_type(offset, "offset", a.is_double);
    check_same_device(weight, "weight", input);
    check_same_device(offset, "offset", input);
    a.input = input.data_ptr();
    a.offset = offset.data_ptr();
    for (int i = 0; i < 4; ++i) a.offset_stride[i] = offset.stride(i);
    if (mask) {
      a.mask_type = sampling_type(*mask, "mask", a.is_double);
      check_same_device(*mask, "mask", input);
      a.mask = mask->data_ptr();
      for (int i = 0; i < 4; ++i) a.mask_stride[i] = mask->stride(i);
    }
    a.deterministic = deterministic;
  }

  int64_t positions() const { return a.batch * a.out_height * a.out_width; }
  int64_t group_rows() const { return taps * weight.size(1); }  // of the matrix that a group of weights is
  int64_t group_outputs() const { return outputs / a.groups; }
  ScalarType sum_type() const { return a.is_double ? ScalarType::Double : ScalarType::Float; }

  int64_t tiles() const {
    const int64_t bytes = taps * a.channels * static_cast<int64_t>(input.element_size());
    const int64_t most = std::max<int64_t>((is_for_cuda(input) ? kTileBytesOfGpu : kTileBytes) / bytes, 1);
    return (positions() + most - 1) / most;
  }

  // Calls f(first, count) for tiles that are as large as each other.
  template <class F>
  void for_each_tile(const F& f) const {
    const int64_t many = tiles(), each = positions() / std::max<int64_t>(many, 1), rest = positions() - many * each;
    for (int64_t tile = 0, first = 0, count; tile < many; ++tile, first += count) {
      count = each + (tile < rest);
      f(first, count);
    }
  }

  // Memory for the largest tile.
  Tensor columns() const {
    const int64_t many = std::max<int64_t>(tiles(), 1);
    return empty_on(input, {(positions() + many - 1) / many, taps * a.channels}, input.scalar_type());
  }
};

void make_columns(const Convolution& c, int64_t first, int64_t count, const Tensor& columns) {
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(c.input)) {
      const CudaScope scope(c.input);
      return cuda::deform_conv2d_columns(c.a, first, count, columns.data_ptr(), scope.stream);
    }
  }
  cpu::deform_conv2d_columns(c.a, first, count, columns.data_ptr(), torch_threads());
}

void take_back_columns(const Convolution& c, int64_t first, int64_t count, const Tensor& column_gradient) {
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(c.input)) {
      const CudaScope scope(c.input);
      return cuda::deform_conv2d_columns_backward(c.a, first, count, column_gradient.data_ptr(), scope.stream);
    }
  }
  cpu::deform_conv2d_columns_backward(c.a, first, count, column_gradient.data_ptr(), torch_threads());
}

// A part of a tensor's memory as a matrix: `first` and the strides count elements.
struct Matrix {
  const Tensor& of;
  int64_t first, rows, columns, stride[2];

  Matrix transposed() const { return {of, first, columns, rows, {stride[1], stride[0]}}; }

  Tensor view() const {
    char* const data = static_cast<char*>(of.data_ptr()) + first * static_cast<int64_t>(of.element_size());
    return torch::stable::from_blob(data, {rows, columns}, {stride[0], stride[1]}, of.device(), of.scalar_type());
  }
};

// out = a b^T (+ bias). (Of torch's products this is the one that adds and takes no number, which its stable interface
// cannot hand over.)
void multiply(const Matrix& out, const Matrix& a, const Matrix& b, const std::optional<Tensor>& bias = std::nullopt) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(a.view()), from(b.view()), from(bias), from(out.view())};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::linear", "out", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);  // takes the result over, to let go of it
}

// The matrices of a group: its weights, a tile of its columns, and of its outputs in a channels-last tensor.
Matrix weights_of(const Convolution& c, const Tensor& weight, int64_t group) {
  const int64_t rows = c.group_rows();
  return {weight, group * c.group_outputs() * rows, c.group_outputs(), rows, {rows, 1}};
}

Matrix columns_of(const Convolution& c, const Tensor& columns, int64_t group, int64_t count) {
  return {columns, group * count * c.group_rows(), count, c.group_rows(), {c.group_rows(), 1}};
}

Matrix outputs_of(const Convolution& c, const Tensor& outputs, int64_t group, int64_t first, int64_t count) {
  return {outputs, first * c.outputs + group * c.group_outputs(), count, c.group_outputs(), {c.outputs, 1}};
}

Tensor deform_conv2d(const Tensor& input, const Tensor& offset, const Tensor& weight, std::optional<Tensor> bias,
                     std::optional<Tensor> mask, std::vector<int64_t> stride, std::vector<int64_t> padding,
                     std::vector<int64_t> dilation, bool deterministic) {
  const Convolution c(input, offset, weight, mask, stride, padding, dilation, deterministic);
  if (bias) {
    check_shape(*bias, "bias", {c.outputs});
    check_dtype(*bias, "bias", {input.scalar_type()});
    check_same_device(*bias, "bias", input);
    bias = widened(*bias);
  }
  const Tensor output =
      channels_last_on(input, c.a.batch, c.outputs, c.a.out_height, c.a.out_width, c.input.scalar_type());
  if (c.a.batch > 0) {
    const Tensor columns = c.columns();
    c.for_each_tile([&](int64_t first, int64_t count) {
      make_columns(c, first, count, columns);
      for (int64_t group = 0; group < c.a.groups; ++group) {
        std::optional<Tensor> bias_of_group;
        if (bias) bias_of_group = torch::stable::narrow(*bias, 0, group * c.group_outputs(), c.group_outputs());
        multiply(outputs_of(c, output, group, first, count), columns_of(c, columns, group, count),
                 weights_of(c, c.weight, group), bias_of_group);
      }
    });
  }
  return torch::stable::to(output, input.scalar_type());
}

// Of what is not wanted the gradient is of shape [0].
std::tuple<Tensor, Tensor, Tensor, Tensor> deform_conv2d_backward(
    const Tensor& gradient, const Tensor& input, const Tensor& offset, const Tensor& weight, std::optional<Tensor> mask,
    std::vector<int64_t> stride, std::vector<int64_t> padding, std::vector<int64_t> dilation, bool deterministic,
    std::vector<bool> wanted) {
  Convolution c(input, offset, weight, mask, stride, padding, dilation, deterministic);
  check_shape(gradient, "gradient", {c.a.batch, c.outputs, c.a.out_height, c.a.out_width});
  check_dtype(gradient, "gradient", {input.scalar_type()});
  check_same_device(gradient, "gradient", input);
  STD_TORCH_CHECK(is_channels_last(gradient), "gradient must be channels last");
  STD_TORCH_CHECK(wanted.size() == 4, "wanted must be four: of the input, offset, weight and mask");
  const auto [of_input, of_offset, of_weight, of_mask] = std::tuple(wanted[0], wanted[1], wanted[2], wanted[3]);
  STD_TORCH_CHECK(mask || !of_mask, "a gradient is wanted of no mask");

  const auto none = [&] { return empty_on(input, {0}, c.sum_type()); };
  Tensor input_gradient = none(), offset_gradient = none(), weight_gradient = none(), mask_gradient = none();
  if (of_input) {
    input_gradient = channels_last_on(input, c.a.batch, c.a.channels, c.a.height, c.a.width, c.sum_type());
    torch::stable::zero_(input_gradient);
    c.a.input_gradient = input_gradient.data_ptr();
  }
  if (of_offset) {
    offset_gradient = empty_on(input, {c.a.batch, offset.size(1), c.a.out_height, c.a.out_width}, c.sum_type());
    c.a.offset_gradient = offset_gradient.data_ptr();
  }
  if (of_mask) {
    mask_gradient = empty_on(input, {c.a.batch, mask->size(1), c.a.out_height, c.a.out_width}, c.sum_type());
    c.a.mask_gradient = mask_gradient.data_ptr();
  }

  const Tensor wide_gradient = widened(gradient);
  const Tensor columns = c.columns();  // and their gradient, one after the other
  c.for_each_tile([&](int64_t first, int64_t count) {
    if (of_input || of_offset || of_mask) {
      for (int64_t group = 0; group < c.a.groups; ++group)
        multiply(columns_of(c, columns, group, count), outputs_of(c, wide_gradient, group, first, count),
                 weights_of(c, c.weight, group).transposed());
      take_back_columns(c, first, count, columns);
    }
    if (of_weight) {
      make_columns(c, first, count, columns);
      const Tensor part =
          channels_last_on(weight, c.outputs, weight.size(1), c.a.kernel[0], c.a.kernel[1], c.weight.scalar_type());
      for (int64_t group = 0; group < c.a.groups; ++group)
        multiply(weights_of(c, part, group), outputs_of(c, wide_gradient, group, first, count).transposed(),
                 columns_of(c, columns, group, count).transposed());
      weight_gradient = first == 0 ? torch::stable::to(part, c.sum_type())
                                   : torch::stable::subtract(weight_gradient, part, -1.0);  // adds: it is all there is
    }
  });
  if (of_weight && c.a.batch == 0) {
    weight_gradient = channels_last_on(weight, c.outputs, weight.size(1), c.a.kernel[0], c.a.kernel[1], c.sum_type());
    torch::stable::zero_(weight_gradient);
  }
  return {torch::stable::to(input_gradient, input.scalar_type()),
          torch::stable::to(offset_gradient, offset.scalar_type()),
          torch::stable::to(weight_gradient, weight.scalar_type()),
          torch::stable::to(mask_gradient, mask ? mask->scalar_type() : input.scalar_type())};
}

}  // namespace

YOLACT_REGISTER(deform_conv2d)
YOLACT_REGISTER(deform_conv2d_backward)

}  // namespace yolact
