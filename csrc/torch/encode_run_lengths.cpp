#include "../common/encode_run_lengths.h"

#include <tuple>

#include "support.h"

namespace yolact {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> encode_run_lengths(const Tensor& masks, int64_t capacity) {
  check_shape(masks, "masks", {-1, -1, -1});
  check_dtype(masks, "masks", {ScalarType::Bool, ScalarType::Byte});
  STD_TORCH_CHECK(capacity > 0, "capacity must be at least 1, got ", capacity);
  const int64_t count = masks.size(0), height = masks.size(1), width = masks.size(2);
  check_size(height, width, "masks", 0);

  Tensor data = empty_on(masks, {count, capacity}, ScalarType::Byte);
  Tensor length = empty_on(masks, {count}, ScalarType::Long);
  Tensor needed = empty_on(masks, {count}, ScalarType::Long);
  Tensor size = empty_on(masks, {count, 2}, ScalarType::Long);
  EncodeRunLengthsArguments arguments{};
  arguments.masks = static_cast<const uint8_t*>(masks.data_ptr());
  for (int i = 0; i < 3; ++i) arguments.stride[i] = masks.stride(i);
  arguments.count = count;
  arguments.height = height;
  arguments.width = width;
  arguments.data = data.mutable_data_ptr<uint8_t>();
  arguments.capacity = capacity;
  arguments.length = length.mutable_data_ptr<int64_t>();
  arguments.needed = needed.mutable_data_ptr<int64_t>();
  arguments.size = size.mutable_data_ptr<int64_t>();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(masks)) {
      if (count == 0) return {data, length, needed, size};
      const CudaScope scope(masks);
      const Tensor workspace = workspace_on(masks, cuda::encode_run_lengths_workspace(arguments));
      cuda::encode_run_lengths(arguments, workspace.mutable_data_ptr<uint8_t>(), scope.stream);
      return {data, length, needed, size};
    }
  }
  cpu::encode_run_lengths(arguments, torch_threads());
  return {data, length, needed, size};
}

}  // namespace

YOLACT_REGISTER(encode_run_lengths)

}  // namespace yolact
