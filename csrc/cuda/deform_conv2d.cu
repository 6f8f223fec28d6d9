// The columns of deform_conv2d (csrc/common/deform_conv2d.h): samples of the input, as rows of a matrix.
//
// Launch: a block of 256 threads has 32 samples and, of an offset group, as many channels as 32 lanes take at sixteen
// bytes each: 128 in float, 256 in half. A thread for each sample places it; then a warp has a sample at a time.
//
// Bytes: the columns, written once; four times as many are read of the input, but from the caches, as the taps of
// positions side by side meet the same pixels: a block's samples are those of a few positions, whose neighbourhoods
// overlap. At R50++'s stage 3, 35 x 35 positions of 3 x 3 taps and 256 channels in float: 11.3 MB written, of 1.3 MB.
// Operations: 8 for each number of a column; about 150 for a sample, once for 128 channels.
// What makes it fast: all loads and stores are of sixteen bytes, side by side in a warp; the four neighbours are loaded
// without waiting for one another; what a sample's channels have in common is computed once and read as a broadcast.
#include "deform_conv2d.cuh"

namespace yolact::cuda {
namespace {

constexpr int kSamples = 32;  // of a block
constexpr int kBlocks = 4;    // a multiprocessor: enough, so that threads have the registers for four loads at once

template <class F>
constexpr int kWide = 16 / sizeof(typename F::Stored);  // channels that a lane has at once

template <class F, int kWidth>
__device__ __forceinline__ void write_columns(const Samples& samples, const Split& split, int64_t begin,
                                              int64_t offset_group, int64_t first_lane,
                                              Shared<Corners<typename F::Real>> corners, void* columns) {
  using Stored = typename F::Stored;
  const DeformConv2dArguments& a = samples.a;
  const int64_t of_a_group = a.channels / a.groups, of_an_offset_group = a.channels / a.offset_groups;
  const int64_t in_group = (first_lane + threadIdx.x % split.lanes) * kWidth;
  if (in_group >= of_an_offset_group) return;
  const int64_t channel = offset_group * of_an_offset_group + in_group;
  Stored* to = static_cast<Stored*>(columns) + samples.column(channel) + begin * of_a_group;
  const int32_t count = static_cast<int32_t>(samples.size() - begin < kSamples ? samples.size() - begin : kSamples);
  for (int32_t i = threadIdx.x / split.lanes; i < count; i += kThreads / split.lanes) {
    const Corners<typename F::Real> at = corners[i];
    typename F::Real values[4][kWidth];
    load_neighbours<F>(a, at, channel, values);
    Piece<Stored, kWidth> piece;
    UNROLL
    for (int k = 0; k < kWidth; ++k)
      piece.element[k] = F::store(at.weight[0] * values[0][k] + at.weight[1] * values[1][k] +
                                  at.weight[2] * values[2][k] + at.weight[3] * values[3][k]);
    *reinterpret_cast<Piece<Stored, kWidth>*>(to + i * of_a_group) = piece;
  }
}

template <class F>
__global__ void __launch_bounds__(kThreads, kBlocks) columns_kernel(Samples samples, Split split, void* columns) {
  SHARED(Corners<typename F::Real>, corners, kSamples);
  const uint32_t offset_groups = static_cast<uint32_t>(samples.a.offset_groups);
  const int64_t offset_group = blockIdx.x / split.slices % offset_groups;
  const int64_t first_lane = int64_t{blockIdx.x % split.slices} * split.lanes;
  const int64_t begin = int64_t{blockIdx.x / split.slices / offset_groups} * kSamples;
  if (threadIdx.x < kSamples && begin + threadIdx.x < samples.size())
    corners[threadIdx.x] = corners_of<typename F::Real>(samples, begin + threadIdx.x, offset_group);
  __syncthreads();
  if (split.wide)
    write_columns<F, kWide<F>>(samples, split, begin, offset_group, first_lane, corners, columns);
  else
    write_columns<F, 1>(samples, split, begin, offset_group, first_lane, corners, columns);
}

}  // namespace

void deform_conv2d_columns(const DeformConv2dArguments& a, int64_t first, int64_t count, void* columns, Stream stream) {
  const Samples samples{a, first, count};
  for_type(a, [&](auto type) {
    using F = decltype(type);
    const Split split = split_of(a, columns, kWide<F>);
    const int64_t blocks = blocks_for<int64_t>(samples.size(), kSamples) * a.offset_groups * split.slices;
    LAUNCH(columns_kernel<F>, blocks, kThreads, 0, stream, samples, split, columns);
  });
}

}  // namespace yolact::cuda
