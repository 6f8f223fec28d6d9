// The loss of assembled masks and its gradients (YOLACT, section 3.3), without ever holding a mask: all three kernels
// compute the logits anew, each pixel in a thread, and only inside boxes.
//
// Launch, in blocks of 256 threads, which go by tiles of 16 x 16 pixels:
//   mask_loss_kernel: a block a positive. It walks the tiles of the box, band by band; a thread adds up the entropies
//     at its place of the tile, and the block adds up its threads' once a band.
//   coefficient_gradient_kernel: a block a positive and 32 channels. The derivatives of a tile go to shared memory, of
//     which a lane has a channel and a warp two of the columns, so that sums of threads are added up once a band only.
//   prototype_gradient_kernel: a block a tile of a picture and 32 channels. It looks through all positives, 256 at a
//     time, for those of the picture whose boxes meet the tile; a thread adds what each of them has, in their order, to
//     the 32 gradients of its pixel, in registers.
// The first two begin their tiles at the box's left edge, not at a multiple of sixteen: fewer of them, and the same
// sums. No atomic, and every sum has one order, that of csrc/cpu: the same bits. Pictures come in any order, and the
// host knows nothing of them.
//
// Bytes: 4 K a pixel inside a box, from L2, each time a logit is computed; and the prototypes' gradient, written once:
// 20 MB for eight pictures of 138 x 138 x 32, which is what is left when boxes are small.
// Operations a pixel inside a box: 2 K for a logit and about 60 for its entropy; backward twice a logit and about 40
// for its derivative, and 4 K.
// What makes it fast: channels are loaded sixteen bytes at a time where they lie side by side, coefficients are one
// broadcast for the block, and a positive that does not meet a tile costs it a 256th of a step.
#include "../common/mask_loss.h"
#include "assemble.cuh"
#include "scan.cuh"

namespace yolact::cuda {
namespace {

constexpr int kThreads = kBandRows * kBandLanes;
constexpr int kWarps = kThreads / kWarp;
constexpr int kChannels = kWarp;  // that a block has gradients of
static_assert(kThreads == 256 && kWarp == 2 * kBandLanes, "a warp is two rows of a tile");

// The sum of an array by halves.
template <int kCount>
__device__ __forceinline__ float halves_of(float (&values)[kCount]) {
  UNROLL
  for (int half = kCount / 2; half > 0; half /= 2) {
    UNROLL
    for (int i = 0; i < half; ++i) values[i] += values[i + half];
  }
  return values[0];
}

struct Inputs {
  MaskLossArguments a;
  bool wide_prototypes, wide_coefficients;  // may be loaded sixteen bytes at a time

  // The logit of positive m at a pixel.
  __device__ __forceinline__ float logit(const Positive& positive, int64_t m, int32_t row, int32_t column) const {
    const int64_t* stride = a.prototype_stride;
    const int64_t pixel = positive.picture * stride[0] + row * stride[1] + column * stride[2];
    const int64_t first = m * a.coefficient_stride[0];
    const int32_t channels = static_cast<int32_t>(a.channels);
    float sum = 0.0f;
    for (int32_t k = 0; k < channels; k += kPiece) {
      float values[kPiece], weights[kPiece];
      load_piece(a.prototypes, a.prototype_type, wide_prototypes, pixel + k * stride[3], stride[3], channels - k,
                 values);
      load_piece(a.coefficients, a.coefficient_type, wide_coefficients, first + k * a.coefficient_stride[1],
                 a.coefficient_stride[1], channels - k, weights);
      UNROLL
      for (int i = 0; i < kPiece; ++i) sum += values[i] * weights[i];
    }
    return sum;
  }

  __device__ __forceinline__ bool truth(const Positive& positive, int32_t row, int32_t column) const {
    return a.masks[positive.truth * a.mask_stride[0] + row * a.mask_stride[1] + column * a.mask_stride[2]] != 0;
  }
};

__device__ __forceinline__ bool is_inside(const Positive& positive, int32_t row, int32_t column) {
  return positive.y.begin <= row && row < positive.y.end && positive.x.begin <= column && column < positive.x.end;
}

__global__ void __launch_bounds__(kThreads) mask_loss_kernel(Inputs inputs) {
  SHARED(float, sums, kThreads);
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int64_t m = blockIdx.x;
  const Positive positive = positive_of(inputs.a, m);
  const Span bands = bands_of(positive.y);
  float total = 0.0f;
  for (int32_t band = bands.begin; band < bands.end; ++band) {
    const int32_t row = band * kBandRows + thread / kBandLanes;
    float sum = 0.0f;
    const bool is_row = positive.y.begin <= row && row < positive.y.end;
    for (int32_t x = positive.x.begin + thread % kBandLanes; is_row && x < positive.x.end; x += kBandLanes)
      sum += mask_entropy(inputs.logit(positive, m, row, x), inputs.truth(positive, row, x));
    sums[thread] = sum;
    __syncthreads();
    if (thread < kWarp) {  // a lane has the rows of one parity, whose halves are warps
      float rows[kWarps];
      UNROLL
      for (int i = 0; i < kWarps; ++i) rows[i] = sums[i * kWarp + thread];
      float value = halves_of(rows);
      UNROLL
      for (int half = kWarp / 2; half > 0; half /= 2) value += __shfl_down_sync(kAllLanes, value, half);
      total += value;
    }
    __syncthreads();
  }
  if (thread == 0) static_cast<float*>(inputs.a.loss)[m] = total / positive.area;
}

// What an entropy of positive m weighs in the loss.
__device__ __forceinline__ float weight_of(const MaskLossArguments& a, int64_t m, const Positive& positive) {
  return static_cast<const float*>(a.loss_gradient)[m] / positive.area;
}

__global__ void __launch_bounds__(kThreads) coefficient_gradient_kernel(Inputs inputs, uint32_t chunks) {
  SHARED(float, derivatives, kThreads);
  SHARED(float, sums, kThreads);
  const MaskLossArguments& a = inputs.a;
  const int32_t thread = static_cast<int32_t>(threadIdx.x), warp = thread / kWarp;
  const int64_t m = blockIdx.x / chunks, channel = int64_t{blockIdx.x % chunks} * kChannels + thread % kWarp;
  const bool is_channel = channel < a.channels;
  const Positive positive = positive_of(a, m);
  const Span bands = bands_of(positive.y);
  const float weight = weight_of(a, m, positive);
  const int64_t* stride = a.prototype_stride;
  float total = 0.0f;
  for (int32_t band = bands.begin; band < bands.end; ++band) {
    const Span rows = intersection(positive.y, {band * kBandRows, (band + 1) * kBandRows});
    float low = 0.0f, high = 0.0f;  // of the warp's column in the first half of a tile, and in the second
    for (int32_t left = positive.x.begin; left < positive.x.end; left += kBandLanes) {
      const int32_t own_row = band * kBandRows + thread / kBandLanes, own_column = left + thread % kBandLanes;
      if (is_inside(positive, own_row, own_column))
        derivatives[thread] = weight * mask_entropy_gradient(inputs.logit(positive, m, own_row, own_column),
                                                             inputs.truth(positive, own_row, own_column));
      __syncthreads();
      for (int32_t row = rows.begin; row < rows.end; ++row) {
        const int32_t place = row % kBandRows * kBandLanes + warp, column = left + warp;
        const int64_t pixel = positive.picture * stride[0] + row * stride[1] + column * stride[2] + channel * stride[3];
        if (is_channel && column < positive.x.end)
          low += derivatives[place] * load_float(a.prototypes, pixel, a.prototype_type);
        if (is_channel && column + kWarps < positive.x.end)
          high += derivatives[place + kWarps] * load_float(a.prototypes, pixel + kWarps * stride[2], a.prototype_type);
      }
      __syncthreads();
    }
    sums[thread] = low + high;
    __syncthreads();
    if (thread < kWarp) {
      float columns[kWarps];
      UNROLL
      for (int i = 0; i < kWarps; ++i) columns[i] = sums[i * kWarp + thread];
      total += halves_of(columns);  // read before the next band's sums are written: a tile's barriers are between
    }
  }
  if (thread < kWarp && is_channel)
    store_float(a.coefficient_gradient, m * a.channels + channel, a.coefficient_type, total);
}

// A positive whose box meets a tile.
struct Met {
  int64_t m;
  Positive positive;
  float weight;
};

__global__ void __launch_bounds__(kThreads)
    prototype_gradient_kernel(Inputs inputs, uint32_t chunks, uint32_t rows, uint32_t columns) {
  SHARED(Met, met, kThreads);
  const MaskLossArguments& a = inputs.a;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t first_channel = static_cast<int32_t>(blockIdx.x % chunks) * kChannels;
  const uint32_t tile = blockIdx.x / chunks;
  const int64_t picture = tile / (rows * columns);
  const int32_t top = static_cast<int32_t>(tile / columns % rows) * kBandRows;
  const int32_t left = static_cast<int32_t>(tile % columns) * kBandLanes;
  const int32_t row = top + thread / kBandLanes, column = left + thread % kBandLanes;
  const int32_t channels = static_cast<int32_t>(a.channels) - first_channel;  // from the first on

  float gradients[kChannels] = {};
  for (int64_t begin = 0; begin < a.positives; begin += kThreads) {
    Met mine{};
    mine.m = begin + thread;
    bool meets = mine.m < a.positives && a.picture[mine.m] == picture;
    if (meets) {
      mine.positive = positive_of(a, mine.m);
      meets = !intersection(mine.positive.y, {top, top + kBandRows}).empty() &&
              !intersection(mine.positive.x, {left, left + kBandLanes}).empty();
    }
    int32_t total;
    const int32_t place = block_exclusive_sum<kThreads>(static_cast<int32_t>(meets), &total);
    if (meets) {
      mine.weight = weight_of(a, mine.m, mine.positive);
      met[place] = mine;
    }
    __syncthreads();  // those of the next sum keep what is read below from being overwritten
    for (int32_t i = 0; i < total; ++i) {
      const Met one = met[i];
      if (!is_inside(one.positive, row, column)) continue;
      const float derivative = one.weight * mask_entropy_gradient(inputs.logit(one.positive, one.m, row, column),
                                                                  inputs.truth(one.positive, row, column));
      const int64_t first = one.m * a.coefficient_stride[0] + first_channel * a.coefficient_stride[1];
      UNROLL
      for (int piece = 0; piece < kChannels; piece += kPiece) {
        float weights[kPiece];
        load_piece(a.coefficients, a.coefficient_type, inputs.wide_coefficients,
                   first + piece * a.coefficient_stride[1], a.coefficient_stride[1], channels - piece, weights);
        UNROLL
        for (int k = 0; k < kPiece; ++k) gradients[piece + k] += derivative * weights[k];
      }
    }
  }
  if (row >= a.height || column >= a.width) return;
  const int64_t* stride = a.prototype_gradient_stride;
  const int64_t to = picture * stride[0] + row * stride[1] + column * stride[2] + first_channel * stride[3];
  UNROLL
  for (int k = 0; k < kChannels; ++k)
    if (k < channels) store_float(a.prototype_gradient, to + k * stride[3], a.prototype_type, gradients[k]);
}

Inputs inputs_of(const MaskLossArguments& a) {
  return {a, is_wide(a.prototypes, a.prototype_type, a.prototype_stride, 4),
          is_wide(a.coefficients, a.coefficient_type, a.coefficient_stride, 2)};
}

}  // namespace

void mask_loss(const MaskLossArguments& a, Stream stream) {
  LAUNCH(mask_loss_kernel, a.positives, kThreads, 0, stream, inputs_of(a));
}

void mask_loss_backward(const MaskLossArguments& a, Stream stream) {
  const int64_t chunks = blocks_for<int64_t>(a.channels, kChannels);
  const int64_t rows = blocks_for<int64_t>(a.height, kBandRows), columns = blocks_for<int64_t>(a.width, kBandLanes);
  const Inputs inputs = inputs_of(a);
  if (a.positives > 0) LAUNCH(coefficient_gradient_kernel, a.positives * chunks, kThreads, 0, stream, inputs, chunks);
  LAUNCH(prototype_gradient_kernel, a.batch * rows * columns * chunks, kThreads, 0, stream, inputs, chunks, rows,
         columns);
}

}  // namespace yolact::cuda
