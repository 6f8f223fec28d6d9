#include "../common/decode_run_lengths.h"

#include <tuple>
#include <vector>

#include "support.h"

namespace yolact {
namespace {

// What the data hold is no reason to fail, for on a GPU nobody knows it yet: it is told by `error`.
std::tuple<Tensor, Tensor> decode_run_lengths(const Tensor& data, const Tensor& length, const Tensor& needed,
                                              const Tensor& sizes, std::vector<int64_t> size) {
  check_shape(data, "data", {-1, -1});
  const int64_t count = data.size(0), capacity = data.size(1);
  check_shape(length, "length", {count});
  check_shape(needed, "needed", {count});
  check_shape(sizes, "sizes", {count, 2});
  check_dtype(data, "data", {ScalarType::Byte});
  for (const Tensor* tensor : {&length, &needed, &sizes}) {
    check_dtype(*tensor, "a tensor of run lengths", {ScalarType::Long});
    check_same_device(*tensor, "a tensor of run lengths", data);
  }
  STD_TORCH_CHECK(size.size() == 2, "size must be two numbers");
  check_size(size[0], size[1], "size", 0);

  Tensor masks = empty_on(data, {count, size[0], size[1]}, ScalarType::Bool);
  Tensor error = empty_on(data, {count}, ScalarType::Long);
  if (count == 0) return {masks, error};
  const Tensor plain_data = torch::stable::contiguous(data), plain_length = torch::stable::contiguous(length),
               plain_needed = torch::stable::contiguous(needed), plain_sizes = torch::stable::contiguous(sizes);
  DecodeRunLengthsArguments arguments{};
  arguments.data = plain_data.const_data_ptr<uint8_t>();
  arguments.length = plain_length.const_data_ptr<int64_t>();
  arguments.needed = plain_needed.const_data_ptr<int64_t>();
  arguments.size = plain_sizes.const_data_ptr<int64_t>();
  arguments.count = count;
  arguments.capacity = capacity;
  arguments.height = size[0];
  arguments.width = size[1];
  arguments.masks = reinterpret_cast<uint8_t*>(masks.mutable_data_ptr<bool>());
  arguments.error = error.mutable_data_ptr<int64_t>();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(data)) {
      const CudaScope scope(data);
      const Tensor workspace = workspace_on(data, cuda::decode_run_lengths_workspace(arguments));
      cuda::decode_run_lengths(arguments, workspace.mutable_data_ptr<uint8_t>(), scope.stream);
      return {masks, error};
    }
  }
  cpu::decode_run_lengths(arguments, torch_threads());
  return {masks, error};
}

}  // namespace

YOLACT_REGISTER(decode_run_lengths)

}  // namespace yolact
