#include "../common/gather_run_lengths.h"

#include "support.h"

namespace yolact {
namespace {

// For run lengths on a GPU `out` is pinned memory of the host.
void gather_run_lengths(const Tensor& data, const Tensor& length, const Tensor& needed, const Tensor& size,
                        const Tensor& out) {
  check_shape(data, "data", {-1, -1});
  const int64_t count = data.size(0), capacity = data.size(1);
  check_shape(length, "length", {count});
  check_shape(needed, "needed", {count});
  check_shape(size, "size", {count, 2});
  check_shape(out, "out", {gathered_size(count, capacity)});
  check_dtype(data, "data", {ScalarType::Byte});
  check_dtype(out, "out", {ScalarType::Byte});
  for (const Tensor* tensor : {&length, &needed, &size}) {
    check_dtype(*tensor, "a tensor of run lengths", {ScalarType::Long});
    check_same_device(*tensor, "a tensor of run lengths", data);
  }
  STD_TORCH_CHECK(out.is_cpu() && out.is_contiguous(), "out must be contiguous and in the host's memory");
  if (count == 0) return;
  STD_TORCH_CHECK(reinterpret_cast<uintptr_t>(out.data_ptr()) % alignof(RunRecord) == 0,
                  "out must begin at a multiple of ", alignof(RunRecord), " bytes");

  const Tensor plain_data = torch::stable::contiguous(data), plain_length = torch::stable::contiguous(length),
               plain_needed = torch::stable::contiguous(needed), plain_size = torch::stable::contiguous(size);
  GatherRunLengthsArguments arguments{};
  arguments.data = plain_data.const_data_ptr<uint8_t>();
  arguments.length = plain_length.const_data_ptr<int64_t>();
  arguments.needed = plain_needed.const_data_ptr<int64_t>();
  arguments.size = plain_size.const_data_ptr<int64_t>();
  arguments.count = count;
  arguments.capacity = capacity;
  arguments.output = out.mutable_data_ptr<uint8_t>();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(data)) {
      const CudaScope scope(data);
      cuda::gather_run_lengths(arguments, scope.stream);
      return;
    }
  }
  cpu::gather_run_lengths(arguments);
}

}  // namespace

YOLACT_REGISTER(gather_run_lengths)

}  // namespace yolact
