#include <optional>
#include <string>
#include <vector>

#include "assemble.h"

namespace yolact {
namespace {

Tensor assemble_masks(const Tensor& prototypes, const Tensor& coefficients, const Tensor& boxes,
                      std::vector<int64_t> size, std::optional<Tensor> count, Text layout, Text box_unit,
                      Text activation, double threshold, Text crop, double padding, std::optional<Tensor> source_region,
                      bool packed) {
  AssembleMasksArguments arguments{};
  set_assemble_arguments(arguments, prototypes, coefficients, boxes, count, layout, box_unit, activation, threshold,
                         crop, padding, source_region);
  STD_TORCH_CHECK(size.size() == 2, "size must be two numbers");
  check_size(size[0], size[1], "size");

  const int64_t pitch = packed ? (size[1] + 7) / 8 : size[1];
  Tensor masks = empty_on(prototypes, {arguments.batch, arguments.detections, size[0], pitch},
                          packed ? ScalarType::Byte : ScalarType::Bool);
  if (masks.numel() == 0) return masks;
  arguments.sizes = size.data();
  arguments.packed = packed;
  arguments.masks = static_cast<uint8_t*>(masks.data_ptr());
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(prototypes)) {
      const CudaScope scope(prototypes);
      cuda::assemble_masks(arguments, scope.stream);
      return masks;
    }
  }
  cpu::assemble_masks(arguments, torch_threads());
  return masks;
}

}  // namespace

YOLACT_REGISTER(assemble_masks)

}  // namespace yolact
