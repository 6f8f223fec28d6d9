// What the kernels of deform_conv2d share: how numbers are stored, where samples lie, who has which channels.
//
// A sample is a tap of a position: they count through a range of positions, tap by tap. Whatever is computed of one
// alone, its place and its weights, is computed by one thread for its block, which keeps it in shared memory; lanes
// side by side then have channels side by side.
#pragma once

#include "../common/deform_conv2d.h"
#include "launch.cuh"
#include "scan.cuh"

namespace yolact::cuda {

// The types of numbers: how they are stored and computed with.
struct Float {
  using Stored = float;
  using Real = float;
  static __device__ __forceinline__ float load(float value) { return value; }
  static __device__ __forceinline__ float store(float value) { return value; }
};
struct Double {
  using Stored = double;
  using Real = double;
  static __device__ __forceinline__ double load(double value) { return value; }
  static __device__ __forceinline__ double store(double value) { return value; }
};
struct Half {
  using Stored = uint16_t;
  using Real = float;
  static __device__ __forceinline__ float load(uint16_t bits) { return half_to_float(bits); }
  static __device__ __forceinline__ uint16_t store(float value) { return float_to_half(value); }
};
struct BFloat16 {
  using Stored = uint16_t;
  using Real = float;
  static __device__ __forceinline__ float load(uint16_t bits) { return bfloat16_to_float(bits); }
  static __device__ __forceinline__ uint16_t store(float value) { return float_to_bfloat16(value); }
};

// Calls launch(type) with the one that the arguments are of.
template <class Launch>
void for_type(const DeformConv2dArguments& a, Launch&& launch) {
  if (a.is_double)
    launch(Double{});
  else if (a.type == FloatType::kFloat32)
    launch(Float{});
  else if (a.type == FloatType::kFloat16)
    launch(Half{});
  else
    launch(BFloat16{});
}

constexpr int kThreads = 256;

// So many elements that are loaded or stored at once.
template <class T, int kWidth>
struct alignas(kWidth * sizeof(T)) Piece {
  T element[kWidth];
};

// How channels are spread over lanes and blocks: an offset group's over `lanes` at a time, a power of two that is at
// most a warp, and what is more over `slices`.
struct Split {
  bool wide;  // a lane has several channels at once, as all of them are aligned and no group ends among them; else one
  uint32_t lanes, slices;
};

// For `width` channels at once, where it can be.
inline Split split_of(const DeformConv2dArguments& a, const void* columns, int64_t width) {
  const int64_t channels = a.channels / a.offset_groups;
  bool wide = width > 1 && a.channels / a.groups % width == 0 && channels % width == 0;
  for (const void* data : {a.input, columns, static_cast<const void*>(a.input_gradient)})
    wide = wide && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  const int64_t pieces = wide ? channels / width : channels;
  uint32_t lanes = 1;
  while (lanes < kWarp && lanes < pieces) lanes *= 2;
  return {wide, lanes, static_cast<uint32_t>(blocks_for<int64_t>(pieces, lanes))};
}

// What one launch is for.
struct Samples {
  DeformConv2dArguments a;
  int64_t first, count;  // positions

  YOLACT_HD int64_t taps() const { return a.kernel[0] * a.kernel[1]; }
  YOLACT_HD int64_t size() const { return count * taps(); }

  // Where a channel has its column of sample 0, in elements; those of the next sample are a group's channels farther.
  YOLACT_HD int64_t column(int64_t channel) const {
    if (a.groups == 1) return channel;
    const int64_t of_a_group = a.channels / a.groups, group = channel / of_a_group;
    return group * size() * of_a_group + channel - group * of_a_group;
  }
};

// A sample's four neighbours, as all channels of an offset group share them.
template <class Real>
struct Corners {
  int64_t pixel;  // in elements of the input: channel 0 of the neighbour (low, low) in y, x, wherever that would lie
  Real down, right, mask;
  Real weight[4];   // of (low, low), (low, high), (high, low) and (high, high), the mask included
  uint32_t inside;  // a bit for each of them
};

template <class Real>
__device__ __forceinline__ Corners<Real> corners_of(const Samples& samples, int64_t sample, int64_t offset_group) {
  const DeformConv2dArguments& a = samples.a;
  const int64_t position = sample / samples.taps(), tap = sample - position * samples.taps();
  const DeformSample<Real> at = deform_sample<Real>(a, samples.first + position, tap, offset_group);
  Corners<Real> corners{
      ((at.picture * a.height + at.y.low) * a.width + at.x.low) * a.channels, at.y.part, at.x.part, at.mask, {}, 0};
  at.weigh(corners.weight);
  UNROLL
  for (int i = 0; i < 4; ++i) {
    const int32_t y = at.y.low + i / 2, x = at.x.low + i % 2;
    if (y >= 0 && y < a.height && x >= 0 && x < a.width) corners.inside |= 1u << i;
    corners.weight[i] *= at.mask;
  }
  return corners;
}

// A lane's channels of a column or of a neighbour.
template <class F, int kWidth>
__device__ __forceinline__ Piece<typename F::Stored, kWidth> load_channels(const typename F::Stored* from) {
  return *reinterpret_cast<const Piece<typename F::Stored, kWidth>*>(from);
}

// Of all four neighbours, zeros of those outside: in their place the input's first pixel is loaded, so that there is
// no branch and no load waits for another. `channel` is the lane's first.
template <class F, int kWidth>
__device__ __forceinline__ void load_neighbours(const DeformConv2dArguments& a,
                                                const Corners<typename F::Real>& corners, int64_t channel,
                                                typename F::Real (&values)[4][kWidth]) {
  using Real = typename F::Real;
  const typename F::Stored* first = static_cast<const typename F::Stored*>(a.input) + channel;
  Piece<typename F::Stored, kWidth> pieces[4];
  UNROLL
  for (int i = 0; i < 4; ++i) {
    const int64_t pixel = corners.pixel + (i / 2 * a.width + i % 2) * a.channels;
    pieces[i] = load_channels<F, kWidth>(first + (corners.inside >> i & 1 ? pixel : 0));
  }
  UNROLL
  for (int i = 0; i < 4; ++i) {
    UNROLL
    for (int k = 0; k < kWidth; ++k) values[i][k] = corners.inside >> i & 1 ? F::load(pieces[i].element[k]) : Real{0};
  }
}

}  // namespace yolact::cuda
