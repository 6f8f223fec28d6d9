// What every operator's glue needs: checks that print the value they got, allocation, torch's threads.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <string>

#include "../common/half.h"
#include "../common/parallel.h"
#include "../common/run_lengths.h"

namespace yolact {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_of(const Tensor& tensor) {
  std::ostringstream text;
  text << '[';
  for (int64_t i = 0; i < tensor.dim(); ++i) text << (i ? ", " : "") << tensor.size(i);
  text << ']';
  return text.str();
}

// Every size must equal `shape`, where -1 stands for any.
inline void check_shape(const Tensor& tensor, const char* name, std::initializer_list<int64_t> shape) {
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t axis = 0;
  std::ostringstream wanted;
  for (const int64_t size : shape) {
    fits = fits && (size < 0 || tensor.size(axis) == size);
    wanted << (axis++ ? ", " : "") << (size < 0 ? std::string("*") : std::to_string(size));
  }
  STD_TORCH_CHECK(fits, name, " must be of shape [", wanted.str(), "], got ", shape_of(tensor));
}

inline void check_dtype(const Tensor& tensor, const char* name, std::initializer_list<ScalarType> allowed) {
  for (const ScalarType type : allowed)
    if (tensor.scalar_type() == type) return;
  STD_TORCH_CHECK(false, name, " has an unsupported dtype: ", torch::headeronly::toString(tensor.scalar_type()));
}

inline FloatType float_type(const Tensor& tensor, const char* name) {
  check_dtype(tensor, name, {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16});
  switch (tensor.scalar_type()) {
    case ScalarType::Half:
      return FloatType::kFloat16;
    case ScalarType::BFloat16:
      return FloatType::kBFloat16;
    default:
      return FloatType::kFloat32;
  }
}

// A side fits an int32 with room for a few more, and the pixels fit the 32 bits of COCO's counts.
inline void check_size(int64_t height, int64_t width, const char* name, int64_t least = 1) {
  constexpr int64_t kEnd = int64_t{1} << 30;
  STD_TORCH_CHECK(height >= least && width >= least, name, " must be at least ", least, " high and wide, got ", height,
                  " x ", width);
  STD_TORCH_CHECK(height < kEnd && width < kEnd && height * width <= kMaxPixels, name,
                  " must have fewer than 2**32 pixels, and 2**30 a side, got ", height, " x ", width);
}

inline Tensor empty_on(const Tensor& like, std::initializer_list<int64_t> size, ScalarType type) {
  return torch::stable::new_empty(like, size, type);
}

// Torch's own thread pool, so that torch.set_num_threads holds for the kernels too.
inline Parallel torch_threads() {
  return {static_cast<int>(torch::stable::get_num_threads()), [](int64_t count, int64_t grain, const Range& body) {
            if (count > 0) torch::stable::parallel_for(0, count, grain, body);
          }};
}

}  // namespace yolact
