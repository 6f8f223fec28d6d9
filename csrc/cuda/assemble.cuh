// What assemble_masks and assemble_run_lengths share on a GPU: one value of a detection's low-resolution mask, to the
// bit as csrc/cpu computes it, and so the same in both operators.
#pragma once

#include "../common/assemble.h"
#include "../common/math.h"
#include "launch.cuh"

namespace yolact::cuda {

// The CPU's kernels sum over the channels in sixteen lanes, which are then added up by halves. Here a thread holds all
// of them in registers: chains of additions of which none waits for another.
constexpr int kLanes = 16;
constexpr int kPiece = 8;  // channels that are loaded together: more would cost the registers of a second block

// Whether the channels of a tensor, side by side, may be loaded sixteen bytes at a time.
struct Wide {
  bool prototypes, coefficients;
};

inline bool is_wide(const void* data, FloatType type, const int64_t* stride, int axes) {
  const int64_t elements = type == FloatType::kFloat32 ? 4 : 8;  // in sixteen bytes
  bool wide = reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride[axes - 1] == 1;
  for (int axis = 0; axis < axes - 1; ++axis) wide = wide && stride[axis] % elements == 0;
  return wide;
}

inline Wide wide_of(const AssembleArguments& a) {
  return {is_wide(a.prototypes, a.prototype_type, a.prototype_stride, 4),
          is_wide(a.coefficients, a.coefficient_type, a.coefficient_stride, 3)};
}

template <class T>
struct alignas(16) SixteenBytes {
  T element[16 / sizeof(T)];
};

// The first `count` of eight elements, `stride` apart; zero for those past it. No load waits for another.
template <class T>
__device__ __forceinline__ void load_elements(const T* from, bool wide, int64_t stride, int32_t count,
                                              T (&elements)[kPiece]) {
  if (wide && count >= kPiece) {
    constexpr int kAtOnce = 16 / sizeof(T);
    UNROLL
    for (int load = 0; load < kPiece / kAtOnce; ++load) {
      const SixteenBytes<T> loaded = reinterpret_cast<const SixteenBytes<T>*>(from)[load];
      UNROLL
      for (int i = 0; i < kAtOnce; ++i) elements[load * kAtOnce + i] = loaded.element[i];
    }
  } else {
    UNROLL
    for (int i = 0; i < kPiece; ++i, from += stride) elements[i] = i < count ? *from : T{0};
  }
}

__device__ __forceinline__ void load_piece(const void* data, FloatType type, bool wide, int64_t from, int64_t stride,
                                           int32_t count, float (&piece)[kPiece]) {
  if (type == FloatType::kFloat32) {
    load_elements(static_cast<const float*>(data) + from, wide, stride, count, piece);
  } else {
    uint16_t bits[kPiece];
    load_elements(static_cast<const uint16_t*>(data) + from, wide, stride, count, bits);
    UNROLL
    for (int i = 0; i < kPiece; ++i)
      piece[i] = type == FloatType::kFloat16 ? half_to_float(bits[i]) : bfloat16_to_float(bits[i]);
  }
}

template <int kCount>
__device__ __forceinline__ float sum_by_halves(float (&lanes)[kLanes]) {
  if constexpr (kCount == 1) {
    return lanes[0];
  } else {
    UNROLL
    for (int i = 0; i < kCount / 2; ++i) lanes[i] += lanes[i + kCount / 2];
    return sum_by_halves<kCount / 2>(lanes);
  }
}

// A detection and its low-resolution mask. Where it lies is kept in the block's shared memory: who needs it loads it
// there, so that a sum over channels has the registers.
struct Detection {
  const AssembleArguments& a;
  Wide wide;
  int64_t pixel;        // in elements: the region's first pixel
  int64_t coefficient;  // and the detection's first coefficient
  Shared<Axis> axes;    // x, y
  Shared<Cut> cuts;

  // Cuts the axes of detection d of picture b: every thread of the block calls it. One barrier: what the block wrote
  // to shared memory before, all see after.
  static __device__ __forceinline__ Detection of(const AssembleArguments& a, Wide wide, int64_t b, int64_t d,
                                                 int64_t height, int64_t width) {
    SHARED(Axis, axes, 2);
    SHARED(Cut, cuts, 2);
    if (threadIdx.x < 2) {  // a thread an axis, and all loads first: they wait for memory once
      const bool is_y = threadIdx.x == 1;
      const float* box = a.boxes + (b * a.detections + d) * 4 + is_y;
      const float edge0 = box[0], edge1 = box[2];
      const bool counts = a.count == nullptr || d < a.count[b];
      const Axis axis = axis_of(a, b, is_y, is_y ? height : width);
      axes[threadIdx.x] = axis;
      cuts[threadIdx.x] = counts ? cut_axis(a, axis, edge0, edge1) : Cut{};
    }
    __syncthreads();
    const Axis x = axes[0], y = axes[1];
    return {a,
            wide,
            b * a.prototype_stride[0] + y.begin * a.prototype_stride[1] + x.begin * a.prototype_stride[2],
            b * a.coefficient_stride[0] + d * a.coefficient_stride[1],
            axes,
            cuts};
  }

  // The low-resolution mask at a pixel of the region.
  __device__ __forceinline__ float value(int32_t row, int32_t column) const {
    const Cut x = cuts[0], y = cuts[1];
    if (row < y.window.begin || row >= y.window.end || column < x.window.begin || column >= x.window.end) return 0.0f;
    const int64_t prototypes = pixel + row * a.prototype_stride[1] + column * a.prototype_stride[2];
    const int32_t channels = static_cast<int32_t>(a.channels);
    const int64_t stride = a.prototype_stride[3], coefficient_stride = a.coefficient_stride[2];
    float sum[kLanes] = {};
    for (int32_t lanes = 0; lanes < channels; lanes += kLanes) {
      UNROLL
      for (int piece = 0; piece < kLanes; piece += kPiece) {
        float values[kPiece], weights[kPiece];
        const int32_t k = lanes + piece;
        load_piece(a.prototypes, a.prototype_type, wide.prototypes, prototypes + k * stride, stride, channels - k,
                   values);
        load_piece(a.coefficients, a.coefficient_type, wide.coefficients, coefficient + k * coefficient_stride,
                   coefficient_stride, channels - k, weights);
        UNROLL
        for (int i = 0; i < kPiece; ++i) sum[piece + i] += values[i] * weights[i];
      }
    }
    const float total = sum_by_halves<kLanes>(sum);
    return a.sigmoid ? sigmoid(total) : total;
  }
};

}  // namespace yolact::cuda
