#include "../common/decode_run_lengths.h"

#include <vector>

#include "support.h"

namespace yolact {
namespace {

Tensor decode_run_lengths(const Tensor& data, const Tensor& length, const Tensor& needed, const Tensor& sizes,
                          std::vector<int64_t> size) {
  check_shape(data, "data", {-1, -1});
  const int64_t count = data.size(0), capacity = data.size(1);
  check_shape(length, "length", {count});
  check_shape(needed, "needed", {count});
  check_shape(sizes, "sizes", {count, 2});
  check_dtype(data, "data", {ScalarType::Byte});
  for (const Tensor* tensor : {&length, &needed, &sizes})
    check_dtype(*tensor, "a tensor of run lengths", {ScalarType::Long});
  STD_TORCH_CHECK(size.size() == 2, "size must be two numbers");
  check_size(size[0], size[1], "size", 0);

  Tensor masks = empty_on(data, {count, size[0], size[1]}, ScalarType::Bool);
  const Tensor plain_data = torch::stable::contiguous(data), plain_length = torch::stable::contiguous(length),
               plain_needed = torch::stable::contiguous(needed), plain_sizes = torch::stable::contiguous(sizes);
  const int64_t* needs = plain_needed.const_data_ptr<int64_t>();
  const int64_t* own = plain_sizes.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    STD_TORCH_CHECK(needs[i] <= capacity, "row ", i, " of run_lengths overflowed: it needs ", needs[i],
                    " bytes, its capacity is ", capacity);
    STD_TORCH_CHECK(own[2 * i] == size[0] && own[2 * i + 1] == size[1], "row ", i, " of run_lengths is of size [",
                    own[2 * i], ", ", own[2 * i + 1], "], not [", size[0], ", ", size[1], "]");
  }

  DecodeRunLengthsArguments arguments{};
  arguments.data = plain_data.const_data_ptr<uint8_t>();
  arguments.length = plain_length.const_data_ptr<int64_t>();
  arguments.count = count;
  arguments.capacity = capacity;
  arguments.height = size[0];
  arguments.width = size[1];
  arguments.masks = reinterpret_cast<uint8_t*>(masks.mutable_data_ptr<bool>());
  const BrokenRow broken = cpu::decode_run_lengths(arguments, torch_threads());
  STD_TORCH_CHECK(broken.row < 0, "row ", broken.row, " of run_lengths ", message_of(broken.error));
  return masks;
}

}  // namespace

YOLACT_REGISTER(decode_run_lengths)

}  // namespace yolact
