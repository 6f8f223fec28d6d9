// What every kernel is written with, and the two things it is compiled by: nvcc for a GPU, the host compiler against
// csrc/simt for tests. The words are the same to both:
//
//   SHARED(T, name, n);                 an array of the block's shared memory
//   Shared<T> p = dynamic_shared<T>();  the launch's dynamic shared memory; Shared<T> is what T* is, to such memory
//   LAUNCH(kernel, grid, block, dynamic_bytes, stream, arguments...)
//   device_address(pointer)             where the device sees pinned memory of the host
//   UNROLL, UNROLL_BY(n)                before a loop, where nvcc must unroll it
//
// Everything else is plain CUDA C++ that csrc/simt/simt.h knows: no early return before a barrier, warp intrinsics with
// every lane of the warp in them, no waiting for another block, no half types but those of csrc/common/half.h.
#pragma once

#include <cstdint>

#include "../common/host_device.h"
#include "../common/stream.h"

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

template <class T>
using Shared = T*;

#define SHARED(T, name, n) __shared__ T name[n]

#define YOLACT_PRAGMA(text) _Pragma(#text)
#define UNROLL YOLACT_PRAGMA(unroll)
#define UNROLL_BY(n) YOLACT_PRAGMA(unroll n)

template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char yolact_dynamic_shared[];
  return reinterpret_cast<T*>(yolact_dynamic_shared);
}

namespace yolact::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA, ") + what + ": " + cudaGetErrorString(error));
}

constexpr size_t kSharedBytes = 48 * 1024;  // what every GPU gives a block without being asked

// Converts the arguments to the kernel's own parameter types, launches, and throws where the launch was refused. What
// goes wrong while the kernel runs shows at the next synchronisation, as it does for any asynchronous call.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_bytes, Stream stream,
            Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "a kernel takes as many arguments as it has parameters");
  const void* function = reinterpret_cast<const void*>(kernel);
  if (dynamic_bytes > kSharedBytes)
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(dynamic_bytes)),
          name);
  std::tuple<Parameters...> values(static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  const cudaError_t error = std::apply(
      [&](auto&... value) {
        void* addresses[] = {const_cast<void*>(static_cast<const void*>(&value))...};
        return cudaLaunchKernel(function, grid, block, addresses, dynamic_bytes, stream);
      },
      values);
  check(error, name);
}

// Throws where the memory is not pinned: a kernel that wrote there would end the process's use of the device.
template <class T>
T* device_address(T* pinned) {
  void* address = nullptr;
  check(cudaHostGetDevicePointer(&address, pinned, 0), "memory of the host that is not pinned");
  return static_cast<T*>(address);
}

}  // namespace yolact::cuda

#define LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...) \
  ::yolact::cuda::launch(#kernel, kernel, grid, block, dynamic_bytes, stream, __VA_ARGS__)

#else

#include "../simt/simt.h"

#define UNROLL
#define UNROLL_BY(n)

namespace yolact::cuda {

template <class T>
T* device_address(T* pinned) {
  return pinned;
}

}  // namespace yolact::cuda

#endif

namespace yolact::cuda {

// How many blocks of `size` cover `count`.
template <class Integer>
YOLACT_HD constexpr Integer blocks_for(Integer count, Integer size) {
  return (count + size - 1) / size;
}

}  // namespace yolact::cuda
