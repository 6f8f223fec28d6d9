// What assemble_masks and assemble_run_lengths share on a GPU: one value of a detection's low-resolution mask, to the
// bit as csrc/cpu computes it, and so the same in both operators.
#pragma once

#include "../common/assemble.h"
#include "../common/math.h"
#include "channels.cuh"
#include "launch.cuh"
#include "scan.cuh"

namespace yolact::cuda {

// The CPU's kernels sum over the channels in sixteen lanes, which are then added up by halves. Here, where the channels
// lie side by side, four threads share four pixels: each has four lanes of all of them. So what a warp loads at once
// lies in eight lines of memory, not in 32, a thread needs few of the coefficients, and all loads of 32 channels, as
// many as YOLACT has, are on their way together. Where they lie apart (NCHW), a thread has a pixel for itself, and
// neighbours load neighbours.
constexpr int kLanes = 16;
constexpr int kSharers = 4;  // threads, and pixels
constexpr int kWidth = kLanes / kSharers;
constexpr int kTurns = 2;  // through the lanes, whose loads are on their way together

// Whether threads share pixels: the channels fill the lanes, and may be loaded sixteen bytes at a time (channels.cuh).
inline bool is_shared(const AssembleArguments& a) {
  return a.channels % kLanes == 0 && is_wide(a.prototypes, a.prototype_type, a.prototype_stride, 4) &&
         is_wide(a.coefficients, a.coefficient_type, a.coefficient_stride, 3);
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

// Each of kPixels threads side by side has some lanes of every pixel's sum: the sum of all lanes of its own pixel. The
// halves of pixels go to the threads whose they are, until there is one.
template <int kPixels>
__device__ __forceinline__ float total_of(const float (&sums)[kPixels][kWidth]) {
  if constexpr (kPixels == 1) {
    return (sums[0][0] + sums[0][2]) + (sums[0][1] + sums[0][3]);
  } else {
    constexpr int kHalf = kPixels / 2;
    const bool is_upper = threadIdx.x & kHalf;
    float halves[kHalf][kWidth];
    UNROLL
    for (int pixel = 0; pixel < kHalf; ++pixel) {
      UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const float lower = sums[pixel][i], upper = sums[pixel + kHalf][i];
        halves[pixel][i] = (is_upper ? upper : lower) + __shfl_xor_sync(kAllLanes, is_upper ? lower : upper, kHalf);
      }
    }
    return total_of(halves);
  }
}

// Of a result.
struct Size {
  int32_t height, width;
};

// A detection and its low-resolution mask. Where it lies is kept in the block's shared memory: who needs it loads it
// there, so that a sum over channels has the registers.
struct Detection {
  const AssembleArguments& a;
  bool shared;          // whether threads share pixels
  int64_t pixel;        // in elements: the region's first pixel
  int64_t coefficient;  // and the detection's first coefficient
  Shared<Axis> axes;    // x, y
  Shared<Cut> cuts;

  // Cuts the axes of detection d of picture b, whose result has the size that `size_of` returns: every thread of the
  // block calls it. One barrier: what the block wrote to shared memory before, all see after.
  template <class SizeOf>
  static __device__ __forceinline__ Detection of(const AssembleArguments& a, bool shared, int64_t b, int64_t d,
                                                 SizeOf size_of) {
    SHARED(Axis, axes, 2);
    SHARED(Cut, cuts, 2);
    if (threadIdx.x < 2) {  // a thread an axis, and all loads first: they wait for memory once
      const bool is_y = threadIdx.x == 1;
      const float* box = a.boxes + (b * a.detections + d) * 4 + is_y;
      const float edge0 = box[0], edge1 = box[2];
      const bool counts = a.count == nullptr || d < a.count[b];
      const Size size = size_of();
      const Axis axis = axis_of(a, b, is_y, is_y ? size.height : size.width);
      axes[threadIdx.x] = axis;
      cuts[threadIdx.x] = counts ? cut_axis(a, axis, edge0, edge1) : Cut{};
    }
    __syncthreads();
    const Axis x = axes[0], y = axes[1];
    return {a,
            shared,
            b * a.prototype_stride[0] + y.begin * a.prototype_stride[1] + x.begin * a.prototype_stride[2],
            b * a.coefficient_stride[0] + d * a.coefficient_stride[1],
            axes,
            cuts};
  }

  // The low-resolution mask at a pixel of the region, which may be another for every thread. All of a warp call it.
  __device__ __forceinline__ float value(int32_t row, int32_t column) const {
    const Cut x = cuts[0], y = cuts[1];
    const bool is_inside =
        row >= y.window.begin && row < y.window.end && column >= x.window.begin && column < x.window.end;
    // Outside, any pixel will do.
    const int64_t at = pixel + (is_inside ? row * a.prototype_stride[1] + column * a.prototype_stride[2] : 0);
    const float sum = !shared                                   ? sum_alone(at)
                      : a.prototype_type == FloatType::kFloat32 ? sum_shared<float>(at)
                                                                : sum_shared<uint16_t>(at);
    if (!is_inside) return 0.0f;
    return a.sigmoid ? sigmoid(sum) : sum;
  }

 private:
  // Over the channels of the pixel at `at`, by a thread for itself.
  __device__ __forceinline__ float sum_alone(int64_t at) const {
    const int32_t channels = static_cast<int32_t>(a.channels);
    const int64_t stride = a.prototype_stride[3], coefficient_stride = a.coefficient_stride[2];
    float lanes[kLanes] = {};
    for (int32_t first = 0; first < channels; first += kLanes) {
      UNROLL
      for (int piece = 0; piece < kLanes; piece += kPiece) {
        float values[kPiece], weights[kPiece];
        const int32_t k = first + piece;
        load_piece(a.prototypes, a.prototype_type, false, at + k * stride, stride, channels - k, values);
        load_piece(a.coefficients, a.coefficient_type, false, coefficient + k * coefficient_stride, coefficient_stride,
                   channels - k, weights);
        UNROLL
        for (int i = 0; i < kPiece; ++i) lanes[piece + i] += values[i] * weights[i];
      }
    }
    return sum_by_halves<kLanes>(lanes);
  }

  // The same by threads that share pixels.
  template <class T>
  __device__ __forceinline__ float sum_shared(int64_t at) const {
    const int32_t sharer = static_cast<int32_t>(threadIdx.x) % kSharers, channels = static_cast<int32_t>(a.channels);
    float sums[kSharers][kWidth] = {};
    for (int32_t first = 0; first < channels; first += kTurns * kLanes) {
      Together<T, kWidth> values[kTurns][kSharers];
      float weights[kTurns][kWidth];
      int32_t channel[kTurns];
      UNROLL
      for (int turn = 0; turn < kTurns; ++turn) {
        const int32_t k = first + turn * kLanes;
        channel[turn] = (k < channels ? k : first) + sharer * kWidth;  // what is past the last is loaded for nothing
      }
      UNROLL
      for (int i = 0; i < kSharers; ++i) {
        const int lane = static_cast<int>(threadIdx.x) % kWarp - sharer + i;
        const T* of_pixel = static_cast<const T*>(a.prototypes) + __shfl_sync(kAllLanes, at, lane);
        UNROLL
        for (int turn = 0; turn < kTurns; ++turn)
          values[turn][i] = *reinterpret_cast<const Together<T, kWidth>*>(of_pixel + channel[turn]);
      }
      UNROLL
      for (int turn = 0; turn < kTurns; ++turn)
        load_piece(a.coefficients, a.coefficient_type, true, coefficient + channel[turn], 1, kWidth, weights[turn]);
      UNROLL
      for (int turn = 0; turn < kTurns && first + turn * kLanes < channels; ++turn) {
        UNROLL
        for (int i = 0; i < kSharers; ++i) {
          UNROLL
          for (int c = 0; c < kWidth; ++c)
            sums[i][c] += widened(values[turn][i].element[c], a.prototype_type) * weights[turn][c];
        }
      }
    }
    return total_of(sums);
  }
};

}  // namespace yolact::cuda
