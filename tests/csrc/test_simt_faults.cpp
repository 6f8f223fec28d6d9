// The fault finder finds faults: wrong kernels and launches are named, in every order, and leave nothing behind.
#include <cstdio>
#include <string>
#include <vector>

#include "../../csrc/simt/simt.h"
#include "check.h"
#include "right_kernels.h"
#include "schedules.h"

namespace {

__global__ void missed_barrier() {
  if (threadIdx.x != 5) __syncthreads();
}
__global__ void divergent_barrier() {
  if (threadIdx.x < 7) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void barrier_in_a_divergent_loop() {
  for (unsigned i = 0; i < 2 + threadIdx.x / 63; ++i) __syncthreads();
}
__global__ void missing_lane(int* output) {
  if (threadIdx.x != 9) output[threadIdx.x] = __shfl_sync(kAll, 1, 0);
}
__global__ void different_intrinsics(int* output) {
  output[threadIdx.x] = threadIdx.x < 4 ? __shfl_sync(kAll, 1, 0) : __any_sync(kAll, 1);
}
__global__ void left_out_by_its_mask() { __syncwarp(0xfffffffeu); }
__global__ void overlapping_masks() { __syncwarp(threadIdx.x % 32 < 20 ? 0x000fffffu : 0xffff0000u); }
__global__ void mask_of_lanes_that_are_not_there() {
  if (threadIdx.x >= 32) __syncwarp(0x0000ffffu);
}
__global__ void shuffle_from_outside_the_mask(int* output) {
  if (threadIdx.x < 8) output[threadIdx.x] = __shfl_down_sync(0x000000ffu, 1, 1);
}
__global__ void shuffle_from_a_lane_that_is_not_there(int* output) {
  output[threadIdx.x] = __shfl_xor_sync(kAll, 1, 16);
}
__global__ void out_of_bounds() {
  SHARED(float, tile, 64);
  tile[threadIdx.x + 1] = 1.0f;
}
__global__ void negative_index() {
  Shared<int> tile = dynamic_shared<int>();
  tile[static_cast<int>(threadIdx.x) - 1] = 1;
}
__global__ void index_whose_offset_wraps_around() {
  SHARED(int64_t, tile, 64);
  tile[(int64_t{1} << 61) + threadIdx.x] = 1;
}
__global__ void out_of_dynamic_bounds(float* output) {
  const Shared<float> second = dynamic_shared<float>() + 64;
  second[threadIdx.x] = 1.0f;
  output[threadIdx.x] = second[threadIdx.x];
}
__global__ void uninitialised(float* output) {
  SHARED(float, tile, 64);
  if (threadIdx.x != 3) tile[threadIdx.x] = 1.0f;
  __syncthreads();
  output[threadIdx.x] = tile[threadIdx.x];
}
__global__ void left_by_the_block_before(int* output) {
  const Shared<int> sum = dynamic_shared<int>();
  if (blockIdx.x == 0 && threadIdx.x == 0) sum[0] = 1;
  __syncthreads();
  atomicAdd(output, sum[0]);
}
__global__ void partly_uninitialised(int* output) {
  const Shared<int> words = dynamic_shared<int>();
  const Shared<uint16_t> halves = dynamic_shared<uint16_t>();
  halves[2 * threadIdx.x] = 0;
  output[threadIdx.x] = words[threadIdx.x];
}
__global__ void read_of_a_neighbours_write(int* output) {
  SHARED(int, tile, 64);
  tile[threadIdx.x] = 0;
  __syncthreads();
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  output[threadIdx.x] = tile[(threadIdx.x + 32) % 64];
}
__global__ void write_of_what_others_still_read(int* output) {
  SHARED(int, tile, 64);
  for (int round = 0; round < 2; ++round) {
    if (threadIdx.x == 0) tile[0] = 5;
    __syncthreads();
    output[threadIdx.x] = tile[0];
  }
}
__global__ void two_writes() {
  SHARED(int, tile, 64);
  tile[threadIdx.x / 2] = 1;
}
__global__ void write_beside_an_atomic() {
  SHARED(int, sum, 1);
  if (threadIdx.x == 0) sum[0] = 0;
  __syncthreads();
  if (threadIdx.x < 32) atomicAdd(&sum[0], 1);
  if (threadIdx.x == 40) sum[0] = 0;
}
__global__ void write_before_its_own_atomic() {
  SHARED(int, sum, 1);
  if (threadIdx.x == 0) sum[0] = 0;
  __syncthreads();
  if (threadIdx.x == 0) sum[0] = 0;
  atomicAdd(&sum[0], 1);
}
__global__ void plain_update() {
  SHARED(int, sum, 1);
  if (threadIdx.x == 0) sum[0] = 0;
  __syncthreads();
  sum[0] += 1;
}
__global__ void missing_warp_barrier(int* output) {
  SHARED(int, tile, 64);
  tile[threadIdx.x] = 1;
  __syncwarp();
  output[threadIdx.x] = tile[threadIdx.x ^ 1];
  tile[threadIdx.x] = 2;
}
__global__ void shuffles_order_no_memory(int* output) {
  SHARED(int, tile, 64);
  tile[threadIdx.x] = 1;
  __ballot_sync(kAll, 1);
  output[threadIdx.x] = tile[threadIdx.x ^ 1];
}
__global__ void barrier_of_the_other_half(int* output) {
  SHARED(int, tile, 64);
  tile[threadIdx.x] = 0;
  __syncthreads();
  tile[threadIdx.x] = 1;
  __syncwarp(threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u);
  output[threadIdx.x] = tile[threadIdx.x ^ 16];
}
__global__ void warp_barrier_between_warps(int* output) {
  SHARED(int, tile, 64);
  tile[threadIdx.x] = 0;
  __syncthreads();
  tile[threadIdx.x] = 1;
  __syncwarp();
  output[threadIdx.x] = tile[threadIdx.x ^ 32];
}
__global__ void nested_launch() {
  if (threadIdx.x == 0) simt::launch("inner", divergent_barrier, 1, 32, 0);
}

template <class Launch>
std::string error_of(Launch launch) {
  try {
    launch();
  } catch (const simt::Error& error) {
    return error.what();
  }
  return "no error";
}

// The error names the kernel, the block, a thread (which one, where all orders find the same) and the fault.
template <class... Parameters, class... Arguments>
void expect(void (*kernel)(Parameters...), const std::string& thread, const std::string& fault, unsigned threads,
            size_t dynamic_bytes, Arguments... arguments) {
  const std::string got = error_of([&] { simt::launch("it", kernel, 2, threads, dynamic_bytes, arguments...); });
  if (got.find("kernel it, block (") != 0 || got.find(", 0, 0), thread (" + thread) == std::string::npos ||
      got.find(fault) == std::string::npos) {
    std::fprintf(stderr, "wanted thread (%s, \"%s\", got: %s\n", thread.c_str(), fault.c_str(), got.c_str());
    CHECK(false);
  }
}

void wrong_kernels() {
  std::vector<int> ints(64);
  std::vector<float> floats(64);
  expect(missed_barrier, "", "waits at __syncthreads (line ", 64, 0);
  expect(missed_barrier, "", "for thread (5, 0, 0), which has returned", 64, 0);
  expect(divergent_barrier, "", "comes to __syncthreads (line ", 64, 0);
  expect(divergent_barrier, "", "but others wait at __syncthreads (line ", 64, 0);
  expect(barrier_in_a_divergent_loop, "63", "for thread (0, 0, 0), which has returned", 64, 0);
  expect(missing_lane, "", "waits at __shfl_sync (line ", 64, 0, ints.data());
  expect(missing_lane, "", "for thread (9, 0, 0), which has returned", 64, 0, ints.data());
  expect(different_intrinsics, "", ", but others wait at __", 64, 0, ints.data());
  expect(left_out_by_its_mask, "0", "calls __syncwarp with a mask that leaves itself out", 32, 0);
  expect(overlapping_masks, "", " at __syncwarp (line ", 64, 0);
  expect(mask_of_lanes_that_are_not_there, "", "calls __syncwarp with lanes that are not there", 40, 0);
  expect(shuffle_from_outside_the_mask, "7", "reads lane 8 by __shfl_down_sync, which takes no part", 64, 0,
         ints.data());
  expect(shuffle_from_a_lane_that_is_not_there, "", "by __shfl_xor_sync, which takes no part in it", 40, 0,
         ints.data());
  expect(out_of_bounds, "63", "writes tile[64], but it has 64 elements", 64, 0);
  expect(negative_index, "0", "writes dynamic_shared[-1], but it has 64 elements", 64, 256);
  expect(index_whose_offset_wraps_around, "", "], but it has 64 elements", 64, 0);
  expect(out_of_dynamic_bounds, "", ", but it has 100 elements", 64, 400, floats.data());
  expect(uninitialised, "3", "reads tile[3], which no thread has written", 64, 0, floats.data());
  expect(left_by_the_block_before, "", "reads dynamic_shared[0], which no thread has written", 64, 4, ints.data());
  expect(partly_uninitialised, "", "], which no thread has written", 64, 256, ints.data());
  expect(read_of_a_neighbours_write, "", " with no barrier between", 64, 0, ints.data());
  expect(write_of_what_others_still_read, "", "tile[0], which thread", 33, 0, ints.data());
  expect(two_writes, "", " with no barrier between", 64, 0);
  expect(write_beside_an_atomic, "", " with no barrier between", 64, 0);
  expect(write_before_its_own_atomic, "", " with no barrier between", 64, 0);
  expect(plain_update, "", "sum[0], which thread", 64, 0);
  expect(missing_warp_barrier, "", " with no barrier between", 64, 0, ints.data());
  expect(shuffles_order_no_memory, "", " with no barrier between", 64, 0, ints.data());
  expect(barrier_of_the_other_half, "", " with no barrier between", 64, 0, ints.data());
  expect(warp_barrier_between_warps, "", " with no barrier between", 64, 0, ints.data());
}

void wrong_launches() {
  const auto refused = [](dim3 grid, dim3 block, size_t bytes) {
    return error_of([&] { simt::launch("it", missed_barrier, grid, block, bytes); });
  };
  CHECK(refused(0, 64, 0) == "kernel it: a grid of (0, 1, 1) blocks");
  CHECK(refused(dim3(1, 65536), 64, 0) == "kernel it: a grid of (1, 65536, 1) blocks");
  CHECK(refused(1, 0, 0) == "kernel it: a block of (0, 1, 1) threads");
  CHECK(refused(1, dim3(32, 33), 0) == "kernel it: a block of (32, 33, 1) threads");
  CHECK(refused(1, 64, 65537) == "kernel it: 65537 bytes of dynamic shared memory");
  for (const size_t bytes : {49000, 65500})  // the array has 256 more
    CHECK(error_of([=] {
            simt::launch("it", uninitialised, 1, 64, bytes, nullptr);
          }).find("has " + std::to_string(bytes + 256) + " bytes of shared memory") != std::string::npos);
  CHECK(error_of([] { simt::launch("it", nested_launch, 1, 32, 0); }) == "kernel inner: launched from inside a kernel");
  CHECK(error_of([] { __syncthreads(); }) == "simt: an intrinsic was called outside a kernel");
}

}  // namespace

int main() {
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    wrong_kernels();
    wrong_launches();
    right_kernels();  // nothing is left of what went wrong
  }
  return failures();
}
