// Loads of a tensor's channels, as floats: sixteen bytes at a time where they lie side by side.
#pragma once

#include "../common/half.h"
#include "launch.cuh"

namespace yolact::cuda {

// Whether pieces of four or eight channels may be loaded at once, which begin at a multiple of as many.
inline bool is_wide(const void* data, FloatType type, const int64_t* stride, int axes) {
  const int64_t elements = type == FloatType::kFloat32 ? 4 : 8;  // in sixteen bytes
  bool wide = reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride[axes - 1] == 1;
  for (int axis = 0; axis < axes - 1; ++axis) wide = wide && stride[axis] % elements == 0;
  return wide;
}

template <class T, int kCount>
struct alignas(kCount * sizeof(T)) Together {
  T element[kCount];
};

// The first `count` of kWidth elements, `stride` apart; zero for those past it. No load waits for another.
template <class T, int kWidth>
__device__ __forceinline__ void load_elements(const T* from, bool wide, int64_t stride, int32_t count,
                                              T (&elements)[kWidth]) {
  if (wide && count >= kWidth) {
    constexpr int kAtOnce = kWidth * sizeof(T) < 16 ? kWidth : 16 / sizeof(T);
    UNROLL
    for (int load = 0; load < kWidth / kAtOnce; ++load) {
      const Together<T, kAtOnce> loaded = reinterpret_cast<const Together<T, kAtOnce>*>(from)[load];
      UNROLL
      for (int i = 0; i < kAtOnce; ++i) elements[load * kAtOnce + i] = loaded.element[i];
    }
  } else {
    UNROLL
    for (int i = 0; i < kWidth; ++i, from += stride) elements[i] = i < count ? *from : T{0};
  }
}

__device__ __forceinline__ float widened(float value, FloatType) { return value; }

__device__ __forceinline__ float widened(uint16_t bits, FloatType type) {
  return type == FloatType::kFloat16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

template <int kWidth>
__device__ __forceinline__ void load_piece(const void* data, FloatType type, bool wide, int64_t from, int64_t stride,
                                           int32_t count, float (&piece)[kWidth]) {
  if (type == FloatType::kFloat32) {
    load_elements(static_cast<const float*>(data) + from, wide, stride, count, piece);
  } else {
    uint16_t bits[kWidth];
    load_elements(static_cast<const uint16_t*>(data) + from, wide, stride, count, bits);
    UNROLL
    for (int i = 0; i < kWidth; ++i) piece[i] = widened(bits[i], type);
  }
}

constexpr int kPiece = 8;  // channels that a thread loads together: more would cost the registers of a second block

}  // namespace yolact::cuda
