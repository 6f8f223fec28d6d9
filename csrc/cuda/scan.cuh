// Sums over the threads of a warp and of a block.
#pragma once

#include "launch.cuh"

namespace yolact::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFF;

// The sum of `value` over the lanes up to this one.
template <class T>
__device__ __forceinline__ T warp_inclusive_sum(T value) {
  const int lane = threadIdx.x % kWarp;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const T below = __shfl_up_sync(kAllLanes, value, distance);
    if (lane >= distance) value += below;
  }
  return value;
}

// The sum of `value` over the threads before this one, and over all of them in `total`. For a block of kThreads along
// x; every thread calls it. Two barriers: what the block wrote to shared memory before, all see after, and no warp is
// still reading what it read before.
template <int kThreads, class T>
__device__ __forceinline__ T block_exclusive_sum(T value, T* total) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024, "a block is whole warps");
  constexpr int kWarps = kThreads / kWarp;
  SHARED(T, sums, kWarps);
  const int warp = threadIdx.x / kWarp;
  const T inclusive = warp_inclusive_sum(value);
  if (threadIdx.x % kWarp == kWarp - 1) sums[warp] = inclusive;
  __syncthreads();
  T before = 0, all = 0;
  for (int i = 0; i < kWarps; ++i) {  // broadcasts that do not wait for each other: sooner than five shuffles that do
    const T sum = sums[i];
    before += i < warp ? sum : T{0};
    all += sum;
  }
  __syncthreads();  // the array serves the next call too
  *total = all;
  return before + inclusive - value;
}

}  // namespace yolact::cuda
