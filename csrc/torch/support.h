// What every operator's glue needs: checks that print the value they got, allocation, torch's threads and streams.
//
// One function serves every device. It is compiled twice: into the package, where CPU tensors go to the kernels of
// csrc/cpu and CUDA tensors to those of csrc/cuda, and with YOLACT_SIMT into a library for tests, `yolact_simt::<op>`,
// where CPU tensors go to the kernels of csrc/cuda too.
#pragma once

#include <torch/csrc/stable/accelerator.h>
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
#include "../common/stream.h"

#if defined(YOLACT_SIMT)
#define YOLACT_LIBRARY yolact_simt
#else
#define YOLACT_LIBRARY yolact
#endif
#define YOLACT_STABLE_LIBRARY(library, m) STABLE_TORCH_LIBRARY(library, m)  // so that the name above is expanded
#define YOLACT_STABLE_IMPL(library, key, m) STABLE_TORCH_LIBRARY_IMPL(library, key, m)

// Registers the function `name` as the operator of that name, for every kind of tensors the build has kernels for.
#if defined(YOLACT_CUDA)
#define YOLACT_REGISTER(name)                                                     \
  YOLACT_STABLE_IMPL(YOLACT_LIBRARY, CPU, m) { m.impl(#name, TORCH_BOX(&name)); } \
  YOLACT_STABLE_IMPL(YOLACT_LIBRARY, CUDA, m) { m.impl(#name, TORCH_BOX(&name)); }
#else
#define YOLACT_REGISTER(name) \
  YOLACT_STABLE_IMPL(YOLACT_LIBRARY, CPU, m) { m.impl(#name, TORCH_BOX(&name)); }
#endif

namespace yolact {

// An operator's `str` argument. torch's own conversion, to std::string, forgets a copy at every call (up to 2.13).
struct Text : std::string {
  using std::string::string;
};

}  // namespace yolact

template <>
struct torch::stable::detail::ToImpl<yolact::Text> {
  template <typename... Version>
  static yolact::Text call(StableIValue value, Version...) {
    const auto handle = to<StringHandle>(value);
    size_t length = 0;
    const char* data = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &data));
    const yolact::Text text(data, length);
    STABLE_TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
    return text;
  }
};

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
  for (size_t axis = 0; fits && axis < shape.size(); ++axis) {
    const int64_t size = shape.begin()[axis];
    fits = size < 0 || tensor.size(static_cast<int64_t>(axis)) == size;
  }
  if (fits) return;
  std::ostringstream wanted;
  for (const int64_t size : shape)
    wanted << (wanted.tellp() > 0 ? ", " : "") << (size < 0 ? std::string("*") : std::to_string(size));
  STD_TORCH_CHECK(false, name, " must be of shape [", wanted.str(), "], got ", shape_of(tensor));
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

// A tensor of unwritten memory beside `like`. By the shim itself: the C++ twin of it looks the operator up by name at
// every call, which takes longer than a small kernel. What cannot be had is told with its shape and its bytes, in words
// that begin as those of torch's own error on GPUs.
inline Tensor empty_strided_on(const Tensor& like, std::initializer_list<int64_t> size, const int64_t* strides,
                               ScalarType type) {
  int32_t device_type, device_index;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  const int32_t dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  AtenTensorHandle tensor;
  if (aoti_torch_empty_strided(static_cast<int64_t>(size.size()), size.begin(), strides, dtype, device_type,
                               device_index, &tensor) != AOTI_TORCH_SUCCESS) {
    std::ostringstream shape;
    double gigabytes = static_cast<double>(aoti_torch_dtype_element_size(dtype)) / 1e9;
    for (const int64_t length : size) {
      shape << (shape.tellp() > 0 ? ", " : "") << length;
      gigabytes *= static_cast<double>(length);
    }
    STD_TORCH_CHECK(false, "out of memory: a result of shape [", shape.str(), "] takes ", gigabytes, " GB");
  }
  return Tensor(tensor);
}

// The same, contiguous.
inline Tensor empty_on(const Tensor& like, std::initializer_list<int64_t> size, ScalarType type) {
  constexpr size_t kMostAxes = 4;
  STD_TORCH_CHECK(size.size() <= kMostAxes, "a tensor of ", size.size(), " axes");
  int64_t strides[kMostAxes], stride = 1;
  for (size_t axis = size.size(); axis-- > 0;) {
    strides[axis] = stride;
    // Past 63 bits nothing is allocated whatever the strides are.
    if (size.begin()[axis] > 1 && __builtin_mul_overflow(stride, size.begin()[axis], &stride)) stride = 1;
  }
  return empty_strided_on(like, size, strides, type);
}

// Torch's own thread pool, so that torch.set_num_threads holds for the kernels too.
inline Parallel torch_threads() {
  return {static_cast<int>(torch::stable::get_num_threads()), [](int64_t count, int64_t grain, const Range& body) {
            if (count > 0) torch::stable::parallel_for(0, count, grain, body);
          }};
}

// Whether there are kernels of csrc/cuda in this library at all: what calls them stands under `if constexpr`.
#if defined(YOLACT_CUDA) || defined(YOLACT_SIMT)
constexpr bool kHasCudaKernels = true;
#else
constexpr bool kHasCudaKernels = false;
#endif

// Whether the kernels of csrc/cuda take this tensor.
inline bool is_for_cuda(const Tensor& tensor) {
#if defined(YOLACT_SIMT)
  (void)tensor;
  return true;
#else
  return !tensor.is_cpu();
#endif
}

// The current stream of a device; throws where torch is a CPU build.
Stream current_stream(int32_t device);

// While it lives, launches go to the tensors' device, on its current stream.
#if defined(YOLACT_SIMT)
struct CudaScope {
  explicit CudaScope(const Tensor&) {}
  Stream stream = nullptr;
};
#else
struct CudaScope {
  explicit CudaScope(const Tensor& like)
      : guard(like.get_device_index()), stream(current_stream(like.get_device_index())) {}
  torch::stable::accelerator::DeviceGuard guard;
  Stream stream;
};
#endif

// Memory that a call needs beside its arguments; torch's allocator keeps it from others until the stream is past it.
inline Tensor workspace_on(const Tensor& like, int64_t bytes) { return empty_on(like, {bytes}, ScalarType::Byte); }

// Tensors of one call lie on one device.
inline void check_same_device(const Tensor& tensor, const char* name, const Tensor& like) {
  STD_TORCH_CHECK(tensor.is_cpu() == like.is_cpu() && tensor.get_device_index() == like.get_device_index(), name,
                  " must be on the device of the other tensors");
}

}  // namespace yolact
