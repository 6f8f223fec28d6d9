// The gradients of deform_conv2d's columns (csrc/common/deform_conv2d.h) by what they were sampled from.
//
// The offsets' and the mask's gradients of a sample are made of four numbers: the products, over the channels of its
// offset group, of the columns' gradient with each of the four neighbours.
//
// sample_gradient_kernel: a block of 256 threads has 16 samples, a warp one at a time; lanes have channels side by
// side, and add up their products by shuffles, always in the same order. It may add the input's gradient to the
// neighbours too, by atomics, while it has the columns' in registers: then a lane has one channel at a time, so that a
// warp's atomics fall into one line of memory.
//   Bytes: the columns' gradient once, the input four times as often, from the caches; and four atomics a number.
//
// input_gradient_kernel, in place of the atomics where the same bits are asked for at every run: a block of 512 threads
// owns a tile of 16 x 8 pixels and 32 lanes of channels. It looks at every sample of its picture, 512 at a time, lists
// those with a neighbour in the tile, in order, and a warp adds what the list has for its row of the tile to sums in
// registers. A pixel's channel so has one owner, who goes by the samples' order: no atomic, and one order of every sum.
//   Bytes: the columns' gradient 2.25 times, for the two rows that a sample meets and an eighth in the next tile; the
//   input's gradient read and written once. Operations: about 200 for a look, and there are as many looks at a sample
//   as its picture has tiles and slices of channels: 45 at 69 x 69 x 128, 30 at 35 x 35 x 256, 24 at 18 x 18 x 512. So
//   the time for a picture grows with the square of its pixels: the price of the order.
#include "deform_conv2d.cuh"

namespace yolact::cuda {
namespace {

// Channels that a lane has at once: sixteen bytes of what is computed with, as sums in registers are.
template <class F>
constexpr int kWide = 16 / sizeof(typename F::Real);

// ---- what a sample's offset and mask, and by atomics its neighbours, get ----

constexpr int kSamples = 16;  // of a block
constexpr int kBlocks = 3;    // a multiprocessor: enough, so that threads have the registers for five loads at once

// Adds what a lane has to the products of the columns' gradient with each of the four neighbours, where they are asked
// for; and, a channel at a time, to the gradient of the input.
template <class F, int kWidth>
__device__ __forceinline__ void add_channels(const Samples& samples, const Split& split, int64_t sample,
                                             int64_t offset_group, const Corners<typename F::Real>& at,
                                             const void* column_gradient, bool is_scattered,
                                             typename F::Real (&products)[4]) {
  using Real = typename F::Real;
  const DeformConv2dArguments& a = samples.a;
  const bool has_products = a.offset_gradient != nullptr || a.mask_gradient != nullptr;
  const int64_t of_a_group = a.channels / a.groups, of_an_offset_group = a.channels / a.offset_groups;
  const int64_t first = offset_group * of_an_offset_group, end = first + of_an_offset_group;
  const auto* gradients = static_cast<const typename F::Stored*>(column_gradient) + sample * of_a_group;
  for (int64_t channel = first + threadIdx.x % split.lanes * kWidth; channel < end; channel += split.lanes * kWidth) {
    const auto piece = load_channels<F, kWidth>(gradients + samples.column(channel));
    Real gradient[kWidth], values[4][kWidth];
    UNROLL
    for (int k = 0; k < kWidth; ++k) gradient[k] = F::load(piece.element[k]);
    if (has_products) {
      load_neighbours<F>(a, at, channel, values);
      UNROLL
      for (int i = 0; i < 4; ++i) {
        UNROLL
        for (int k = 0; k < kWidth; ++k) products[i] += gradient[k] * values[i][k];
      }
    }
    if constexpr (kWidth == 1) {
      if (!is_scattered) continue;
      Real* to = static_cast<Real*>(a.input_gradient) + at.pixel + channel;
      UNROLL
      for (int i = 0; i < 4; ++i)
        if (at.inside >> i & 1) atomicAdd(to + (i / 2 * a.width + i % 2) * a.channels, at.weight[i] * gradient[0]);
    }
  }
}

template <class F>
__global__ void __launch_bounds__(kThreads, kBlocks)
    sample_gradient_kernel(Samples samples, Split split, const void* column_gradient, bool is_scattered) {
  using Real = typename F::Real;
  SHARED(Corners<Real>, corners, kSamples);
  const DeformConv2dArguments& a = samples.a;
  const uint32_t offset_groups = static_cast<uint32_t>(a.offset_groups);
  const int64_t offset_group = blockIdx.x % offset_groups, begin = int64_t{blockIdx.x / offset_groups} * kSamples;
  if (threadIdx.x < kSamples && begin + threadIdx.x < samples.size())
    corners[threadIdx.x] = corners_of<Real>(samples, begin + threadIdx.x, offset_group);
  __syncthreads();
  const int32_t lane = static_cast<int32_t>(threadIdx.x % split.lanes);
  for (int32_t turn = 0; turn < kSamples; turn += kThreads / split.lanes) {  // all lanes of a warp go on as long
    const int32_t i = turn + static_cast<int32_t>(threadIdx.x / split.lanes);
    const int64_t sample = begin + i;
    const bool is_sample = i < kSamples && sample < samples.size();
    Corners<Real> at{};
    if (is_sample) at = corners[i];
    Real products[4] = {};
    if (is_sample && split.wide)
      add_channels<F, kWide<F>>(samples, split, sample, offset_group, at, column_gradient, is_scattered, products);
    else if (is_sample)
      add_channels<F, 1>(samples, split, sample, offset_group, at, column_gradient, is_scattered, products);
    for (uint32_t half = split.lanes / 2; half > 0; half /= 2) {
      UNROLL
      for (int k = 0; k < 4; ++k) products[k] += __shfl_xor_sync(kAllLanes, products[k], half);
    }
    if (!is_sample || lane != 0) continue;
    const int64_t plane = a.out_height * a.out_width, taps = samples.taps();
    const int64_t position = samples.first + sample / taps, tap = sample % taps;
    const int64_t channel = (position / plane * a.offset_groups + offset_group) * taps + tap, pixel = position % plane;
    const Real up = Real{1} - at.down, left = Real{1} - at.right;
    if (a.mask_gradient != nullptr)
      static_cast<Real*>(a.mask_gradient)[channel * plane + pixel] =
          up * (left * products[0] + at.right * products[1]) + at.down * (left * products[2] + at.right * products[3]);
    if (a.offset_gradient != nullptr) {
      Real* to = static_cast<Real*>(a.offset_gradient) + 2 * channel * plane + pixel;
      to[0] = at.mask * (left * (products[2] - products[0]) + at.right * (products[3] - products[1]));
      to[plane] = at.mask * (up * (products[1] - products[0]) + at.down * (products[3] - products[2]));
    }
  }
}

// ---- the input's gradient without atomics ----

constexpr int kGatherThreads = 512;
constexpr int kRows = kGatherThreads / kWarp, kColumns = 8;  // of a tile: a warp has a row of it
constexpr int kLoads = 4;                                    // columns that a warp loads together

// A sample with neighbours in a tile.
template <class Real>
struct Touch {
  int64_t sample;  // in the range
  int32_t y, x;    // of the neighbour (low, low), from the tile's corner: from -1 on
  Real down, right, mask;
};

// Adds what a list of touches has for the warp's row of the tile, in the list's order.
template <class F, int kWidth>
__device__ __forceinline__ void add_touches(Shared<Touch<typename F::Real>> touches, int32_t count,
                                            const typename F::Stored* gradients, int64_t of_a_group,
                                            typename F::Real (&sums)[kColumns][kWidth]) {
  using Real = typename F::Real;
  const int32_t row = static_cast<int32_t>(threadIdx.x / kWarp), lane = static_cast<int32_t>(threadIdx.x % kWarp);
  for (int32_t begin = 0; begin < count; begin += kWarp) {
    bool is_met = false;
    if (begin + lane < count) {
      const Touch<Real> touch = touches[begin + lane];
      is_met = touch.y == row || touch.y + 1 == row;
    }
    uint32_t met = __ballot_sync(kAllLanes, is_met);
    while (met != 0) {
      int32_t index[kLoads];  // negative where none is left
      Piece<typename F::Stored, kWidth> gradient[kLoads];
      UNROLL
      for (int i = 0; i < kLoads; ++i, met &= met - 1) {
        index[i] = __ffs(static_cast<int>(met)) - 1;
        const Touch<Real> touch = touches[begin + (index[i] < 0 ? 0 : index[i])];
        gradient[i] = load_channels<F, kWidth>(gradients + touch.sample * of_a_group);
      }
      UNROLL
      for (int i = 0; i < kLoads; ++i) {
        if (index[i] < 0) continue;
        const Touch<Real> touch = touches[begin + index[i]];
        const Real weight = touch.mask * (touch.y == row ? Real{1} - touch.down : touch.down);
        const Real low = weight * (Real{1} - touch.right), high = weight * touch.right;
        UNROLL
        for (int x = 0; x < kColumns; ++x) {
          if (touch.x != x && touch.x + 1 != x) continue;
          UNROLL
          for (int k = 0; k < kWidth; ++k) sums[x][k] += (touch.x == x ? low : high) * F::load(gradient[i].element[k]);
        }
      }
    }
  }
}

template <class F, int kWidth>
__device__ __forceinline__ void gather(const Samples& samples, const void* column_gradient, int64_t picture,
                                       int64_t top, int64_t left, int64_t offset_group, int64_t first_lane,
                                       Shared<Touch<typename F::Real>> touches) {
  using Real = typename F::Real;
  const DeformConv2dArguments& a = samples.a;
  const int64_t plane = a.out_height * a.out_width, taps = samples.taps();
  const int64_t of_a_group = a.channels / a.groups, of_an_offset_group = a.channels / a.offset_groups;
  const int64_t in_group = (first_lane + threadIdx.x % kWarp) * kWidth;
  const bool has_channel = in_group < of_an_offset_group;
  const int64_t channel = offset_group * of_an_offset_group + in_group;
  const auto* gradients =
      static_cast<const typename F::Stored*>(column_gradient) + (has_channel ? samples.column(channel) : 0);

  // The positions of the range that are of this picture, tap by tap.
  const int64_t before = picture * plane - samples.first, after = before + plane;
  const int64_t begin = before > 0 ? before : 0, end = after < samples.count ? after : samples.count;
  const int64_t positions = end - begin, all = positions * taps;
  Real sums[kColumns][kWidth] = {};
  for (int64_t chunk = 0; chunk < all; chunk += kGatherThreads) {
    const int64_t i = chunk + threadIdx.x;
    Touch<Real> touch{};
    bool is_met = false;
    if (i < all) {
      const int64_t tap = i / positions, position = begin + i - tap * positions;
      const DeformSample<Real> at = deform_sample<Real>(a, samples.first + position, tap, offset_group);
      touch = {position * taps + tap,
               static_cast<int32_t>(at.y.low - top),
               static_cast<int32_t>(at.x.low - left),
               at.y.part,
               at.x.part,
               at.mask};
      is_met = touch.y >= -1 && touch.y < kRows && touch.x >= -1 && touch.x < kColumns;
    }
    int32_t count;
    const int32_t place = block_exclusive_sum<kGatherThreads>(static_cast<int32_t>(is_met), &count);
    if (is_met) touches[place] = touch;
    __syncthreads();  // the next sum's barriers keep what is read now from being overwritten
    add_touches<F>(touches, count, gradients, of_a_group, sums);
  }

  const int64_t y = top + threadIdx.x / kWarp;
  if (!has_channel || y >= a.height) return;
  Real* row = static_cast<Real*>(a.input_gradient) + ((picture * a.height + y) * a.width + left) * a.channels + channel;
  UNROLL
  for (int x = 0; x < kColumns; ++x) {
    if (left + x >= a.width) continue;
    auto* to = reinterpret_cast<Piece<Real, kWidth>*>(row + x * a.channels);
    Piece<Real, kWidth> sum = *to;
    UNROLL
    for (int k = 0; k < kWidth; ++k) sum.element[k] += sums[x][k];
    *to = sum;
  }
}

template <class F>
__global__ void __launch_bounds__(kGatherThreads)
    input_gradient_kernel(Samples samples, Split split, const void* column_gradient, uint32_t tiles_y,
                          uint32_t tiles_x) {
  SHARED(Touch<typename F::Real>, touches, kGatherThreads);
  const DeformConv2dArguments& a = samples.a;
  const uint32_t offset_groups = static_cast<uint32_t>(a.offset_groups);
  const int64_t first_lane = int64_t{blockIdx.x % split.slices} * split.lanes;
  const int64_t offset_group = blockIdx.x / split.slices % offset_groups;
  const uint32_t tile = blockIdx.x / split.slices / offset_groups;
  const int64_t picture = samples.first / (a.out_height * a.out_width) + tile / tiles_x / tiles_y;
  const int64_t top = int64_t{tile / tiles_x % tiles_y} * kRows, left = int64_t{tile % tiles_x} * kColumns;
  if (split.wide)
    gather<F, kWide<F>>(samples, column_gradient, picture, top, left, offset_group, first_lane, touches);
  else
    gather<F, 1>(samples, column_gradient, picture, top, left, offset_group, first_lane, touches);
}

}  // namespace

void deform_conv2d_columns_backward(const DeformConv2dArguments& a, int64_t first, int64_t count,
                                    const void* column_gradient, Stream stream) {
  const Samples samples{a, first, count};
  const bool is_scattered = a.input_gradient != nullptr && !a.deterministic;
  const bool is_gathered = a.input_gradient != nullptr && a.deterministic;
  const int64_t plane = a.out_height * a.out_width, pictures = (first + count - 1) / plane - first / plane + 1;
  const int64_t tiles_y = blocks_for<int64_t>(a.height, kRows), tiles_x = blocks_for<int64_t>(a.width, kColumns);
  for_type(a, [&](auto type) {
    using F = decltype(type);
    if (is_scattered || a.offset_gradient != nullptr || a.mask_gradient != nullptr) {
      const Split split = split_of(a, column_gradient, is_scattered ? 1 : kWide<F>);
      const int64_t blocks = blocks_for<int64_t>(samples.size(), kSamples) * a.offset_groups;
      LAUNCH(sample_gradient_kernel<F>, blocks, kThreads, 0, stream, samples, split, column_gradient, is_scattered);
    }
    if (is_gathered) {
      const Split split = split_of(a, column_gradient, kWide<F>);
      const int64_t blocks = pictures * tiles_y * tiles_x * a.offset_groups * split.slices;
      LAUNCH(input_gradient_kernel<F>, blocks, kGatherThreads, 0, stream, samples, split, column_gradient, tiles_y,
             tiles_x);
    }
  });
}

}  // namespace yolact::cuda
