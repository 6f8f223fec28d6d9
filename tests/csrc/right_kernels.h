// Kernels without a fault, which use all that simt offers, and what they must give.
#pragma once

#include <vector>

#include "../../csrc/simt/simt.h"
#include "check.h"

namespace {

constexpr unsigned kAll = 0xffffffffu;

// The sum of 1..n by warp shuffles, shared memory and one atomic a block.
__global__ void sum_kernel(const int* input, int n, int* output) {
  SHARED(int, partial, 32);
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int value = i < n ? input[i] : 0;
  for (int delta = 16; delta > 0; delta /= 2) value += __shfl_down_sync(kAll, value, delta);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += partial[w];
    atomicAdd(output, total);
  }
}

// Counts of even numbers, by votes and by a barrier that counts; both must agree. The last warp may be short.
__global__ void votes_kernel(const int* input, int* output) {
  const bool even = input[threadIdx.x] % 2 == 0;
  const unsigned ballot = __ballot_sync(kAll, even);
  Shared<int> counts = dynamic_shared<int>();
  if (threadIdx.x % 32 == 0) counts[threadIdx.x / 32] = __popc(ballot);
  const int all = __syncthreads_count(even);
  int voted = 0;
  for (unsigned w = 0; w < (blockDim.x + 31) / 32; ++w) voted += counts[w];
  const bool agree = all == voted && __any_sync(kAll, even) && !__all_sync(kAll, even) && __all_sync(kAll, 7) &&
                     !__any_sync(kAll, 0) && __syncthreads_or(threadIdx.x == 3) && !__syncthreads_or(0) &&
                     __syncthreads_and(1) && !__syncthreads_and(threadIdx.x != 3);
  output[threadIdx.x] = agree ? all : -1;
}

// Every atomic, on memory that the caller or the block has; what it returns counts, too.
template <class P>
__device__ void all_atomics(P memory, int* returned) {
  const int i = static_cast<int>(threadIdx.x);
  atomicAdd(&memory[0], i);
  atomicMax(&memory[1], i);
  atomicMin(&memory[2], i);
  atomicOr(&memory[3], 1 << i % 8);
  atomicAnd(&memory[4], ~(1 << i % 8));
  atomicXor(&memory[5], i);
  atomicAdd(returned, atomicExch(&memory[6], i));
  int seen = 0;
  for (int expected = -1; expected != seen;) {
    expected = seen;
    seen = atomicCAS(&memory[7], expected, expected + i);
  }
}
__global__ void atomics_kernel(int* memory, int* returned) {
  SHARED(int, own, 8);
  if (threadIdx.x < 8) own[threadIdx.x] = 1000;
  __syncthreads();
  all_atomics(own, returned);
  all_atomics(memory, returned);
  __syncthreads();
  if (threadIdx.x < 6 && own[threadIdx.x] != 1000) memory[8 + threadIdx.x] = own[threadIdx.x];
  if (threadIdx.x == 6) atomicAdd(returned, own[6]);
}

// Passes values through shared memory within a warp, and bytes that lie side by side.
__global__ void warp_kernel(int* output) {
  SHARED(int, tile, 64);
  SHARED(unsigned char, bytes, 64);
  bytes[threadIdx.x] = static_cast<unsigned char>(threadIdx.x);
  for (int round = 0; round < 3; ++round) {
    tile[threadIdx.x] = round;
    __syncwarp();
    output[threadIdx.x] += tile[threadIdx.x ^ 1] + bytes[threadIdx.x ^ 2];
    __syncwarp();
  }
  const unsigned half = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp(half);
  output[threadIdx.x] += tile[threadIdx.x ^ 8];
}

void right_kernels() {
  std::vector<int> input(1000);
  for (int i = 0; i < 1000; ++i) input[i] = i + 1;
  int total = 0;
  LAUNCH(sum_kernel, 8, 128, 0, nullptr, input.data(), 1000, &total);
  CHECK(total == 500500);
  for (const unsigned threads : {96u, 40u}) {
    std::vector<int> counts(threads);
    LAUNCH(votes_kernel, 1, threads, 3 * sizeof(int), nullptr, input.data(), counts.data());
    CHECK(counts == std::vector<int>(threads, static_cast<int>(threads / 2)));
  }
  std::vector<int> memory(14, 1000);
  int returned = 0;
  LAUNCH(atomics_kernel, 1, 64, 0, nullptr, memory.data(), &returned);
  const std::vector<int> expected{1000 + 2016, 1000, 0, 1023, 768, 1000};
  for (int i = 0; i < 6; ++i) {
    CHECK(memory[i] == expected[i]);
    CHECK(expected[i] == 1000 || memory[8 + i] == expected[i]);
  }
  CHECK(returned + memory[6] == 2 * (1000 + 2016));  // of each exchange, what went in comes out or stays
  CHECK(memory[7] == 1000 + 2016);
  std::vector<int> passed(64);
  LAUNCH(warp_kernel, 2, 64, 0, nullptr, passed.data());
  for (int i = 0; i < 64; ++i) CHECK(passed[i] == 2 * (3 + 3 * (i ^ 2) + (i ^ 8)));
}

}  // namespace
