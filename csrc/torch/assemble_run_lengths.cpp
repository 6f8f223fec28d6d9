#include <optional>
#include <string>
#include <tuple>

#include "assemble.h"

namespace yolact {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> assemble_run_lengths(const Tensor& prototypes, const Tensor& coefficients,
                                                                const Tensor& boxes, const Tensor& sizes,
                                                                std::optional<Tensor> count, int64_t capacity,
                                                                Text layout, Text box_unit, Text activation,
                                                                double threshold, Text crop, double padding,
                                                                std::optional<Tensor> source_region) {
  AssembleRunLengthsArguments arguments{};
  set_assemble_arguments(arguments, prototypes, coefficients, boxes, count, layout, box_unit, activation, threshold,
                         crop, padding, source_region);
  check_shape(sizes, "sizes", {arguments.batch, 2});
  check_dtype(sizes, "sizes", {ScalarType::Long});
  check_contiguous(sizes, "sizes");
  arguments.sizes = sizes.const_data_ptr<int64_t>();
  arguments.size_stride = 2;
  // Sizes on the host serve tensors anywhere; those on a device cannot be looked at without a wait for it.
  arguments.sizes_on_device = !sizes.is_cpu();
  if (arguments.sizes_on_device) {
    check_same_device(sizes, "sizes", prototypes);
  } else {
    for (int64_t b = 0; b < arguments.batch; ++b)
      check_size(arguments.sizes[2 * b], arguments.sizes[2 * b + 1], "sizes");
  }
  STD_TORCH_CHECK(capacity > 0, "capacity must be at least 1, got ", capacity);

  const int64_t rows = arguments.batch * arguments.detections;
  Tensor data = empty_on(prototypes, {rows, capacity}, ScalarType::Byte);
  Tensor length = empty_on(prototypes, {rows}, ScalarType::Long);
  Tensor needed = empty_on(prototypes, {rows}, ScalarType::Long);
  Tensor size = empty_on(prototypes, {rows, 2}, ScalarType::Long);
  if (rows == 0) return {data, length, needed, size};
  arguments.capacity = capacity;
  arguments.data = data.mutable_data_ptr<uint8_t>();
  arguments.length = length.mutable_data_ptr<int64_t>();
  arguments.needed = needed.mutable_data_ptr<int64_t>();
  arguments.size = size.mutable_data_ptr<int64_t>();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(prototypes)) {
      const CudaScope scope(prototypes);
      cuda::assemble_run_lengths(arguments, scope.stream);
      return {data, length, needed, size};
    }
  }
  cpu::assemble_run_lengths(arguments, torch_threads());
  return {data, length, needed, size};
}

}  // namespace

YOLACT_REGISTER(assemble_run_lengths)

}  // namespace yolact
