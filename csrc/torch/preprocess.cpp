#include "../common/preprocess.h"

#include <vector>

#include "support.h"

namespace yolact {
namespace {

Tensor preprocess(const Tensor& pictures, std::vector<int64_t> size, std::vector<double> mean, std::vector<double> std,
                  bool round_to_uint8) {
  check_shape(pictures, "pictures", {-1, -1, -1, 3});
  check_dtype(pictures, "pictures", {ScalarType::Byte});
  STD_TORCH_CHECK(size.size() == 2, "size must be two numbers");
  check_size(size[0], size[1], "size");
  STD_TORCH_CHECK(mean.size() == 3 && std.size() == 3, "mean and std must hold three numbers each");
  const int64_t batch = pictures.size(0), height = pictures.size(1), width = pictures.size(2);
  check_size(height, width, "pictures");
  STD_TORCH_CHECK(width * 3 < int64_t{1} << 31, "pictures must have rows of fewer than 2**31 bytes, got a width of ",
                  width);

  Tensor output = empty_on(pictures, {batch, 3, size[0], size[1]}, ScalarType::Float);
  if (batch == 0) return output;
  PreprocessArguments arguments{};
  arguments.pictures = pictures.const_data_ptr<uint8_t>();
  for (int i = 0; i < 4; ++i) arguments.stride[i] = pictures.stride(i);
  arguments.batch = batch;
  arguments.height = height;
  arguments.width = width;
  arguments.out_height = size[0];
  arguments.out_width = size[1];
  for (int c = 0; c < 3; ++c) {
    arguments.mean[c] = static_cast<float>(mean[c]);
    arguments.std[c] = static_cast<float>(std[c]);
  }
  arguments.round_to_uint8 = round_to_uint8;
  arguments.output = output.mutable_data_ptr<float>();
  if constexpr (kHasCudaKernels) {
    if (is_for_cuda(pictures)) {
      const CudaScope scope(pictures);
      cuda::preprocess(arguments, scope.stream);
      return output;
    }
  }
  cpu::preprocess(arguments, torch_threads());
  return output;
}

}  // namespace

YOLACT_REGISTER(preprocess)

}  // namespace yolact
