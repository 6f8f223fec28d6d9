// The fault finder finds faults: right kernels give right results in every order, wrong ones are named.
#include <cstdio>
#include <string>
#include <vector>

#include "../../csrc/simt/simt.h"
#include "check.h"
#include "schedules.h"

namespace {

// The sum of 1..n by warp shuffles, shared memory and one atomic a block.
__global__ void sum_kernel(const int* input, int n, int* output) {
  SHARED(int, partial, 32);
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int value = i < n ? input[i] : 0;
  for (int delta = 16; delta > 0; delta /= 2) value += __shfl_down_sync(0xffffffffu, value, delta);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += partial[w];
    atomicAdd(output, total);
  }
}

// Counts of even numbers, by votes and by a barrier that counts; both must agree.
__global__ void votes_kernel(const int* input, int* output) {
  const bool even = input[threadIdx.x] % 2 == 0;
  const unsigned ballot = __ballot_sync(0xffffffffu, even);
  Shared<int> counts = dynamic_shared<int>();
  if (threadIdx.x % 32 == 0) counts[threadIdx.x / 32] = __popc(ballot);
  const int all = __syncthreads_count(even);
  int voted = 0;
  for (unsigned w = 0; w < (blockDim.x + 31) / 32; ++w) voted += counts[w];
  output[threadIdx.x] = all == voted ? all : -1;
}

__global__ void missed_barrier_kernel() {
  if (threadIdx.x != 5) __syncthreads();
}
__global__ void divergent_barrier_kernel() {
  if (threadIdx.x < 7) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void missing_lane_kernel(int* output) {
  if (threadIdx.x != 9) output[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
__global__ void outside_mask_kernel() { __syncwarp(0xfffffffeu); }
__global__ void out_of_bounds_kernel() {
  SHARED(float, tile, 64);
  tile[threadIdx.x + 1] = 1.0f;
}
__global__ void negative_index_kernel() {
  Shared<int> tile = dynamic_shared<int>();
  tile[static_cast<int>(threadIdx.x) - 1] = 1;
}
__global__ void uninitialised_kernel(float* output) {
  SHARED(float, tile, 64);
  if (threadIdx.x != 3) tile[threadIdx.x] = 1.0f;
  __syncthreads();
  output[threadIdx.x] = tile[threadIdx.x];
}
// Each thread reads its neighbour's element without a barrier between: right in one order alone.
__global__ void race_kernel(int* output) {
  SHARED(int, tile, 64);
  tile[threadIdx.x] = 0;
  __syncthreads();
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  output[threadIdx.x] = tile[(threadIdx.x + 1) % 64];
}
// Reads and writes a counter in two steps.
__global__ void lost_update_kernel(int* counter, int* tickets) {
  const int seen = *counter;
  atomicAdd(tickets, 1);
  *counter = seen + 1;
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

void expect_error(const std::string& got, const std::string& kernel, const std::string& thread,
                  const std::string& fault) {
  if (got.find(kernel) == std::string::npos || got.find("thread (" + thread) == std::string::npos ||
      got.find(fault) == std::string::npos) {
    std::fprintf(stderr, "wanted %s, thread (%s, \"%s\", got: %s\n", kernel.c_str(), thread.c_str(), fault.c_str(),
                 got.c_str());
    CHECK(false);
  }
}

}  // namespace

int main() {
  std::vector<int> input(1000);
  for (int i = 0; i < 1000; ++i) input[i] = i + 1;
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    int total = 0;
    LAUNCH(sum_kernel, 8, 128, 0, nullptr, input.data(), 1000, &total);
    CHECK(total == 500500);
    std::vector<int> counts(96);
    LAUNCH(votes_kernel, 1, 96, 3 * sizeof(int), nullptr, input.data(), counts.data());
    for (const int count : counts) CHECK(count == 48);
  }

  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    std::vector<int> ints(64);
    std::vector<float> floats(64);
    expect_error(error_of([] { simt::launch("missed", missed_barrier_kernel, 2, 64, 0); }), "kernel missed, block (",
                 "", "for thread (5, 0, 0), which has returned");
    expect_error(error_of([] { simt::launch("divergent", divergent_barrier_kernel, 1, 64, 0); }), "kernel divergent",
                 "", "but others wait at __syncthreads");
    expect_error(error_of([&] { LAUNCH(missing_lane_kernel, 1, 64, 0, nullptr, ints.data()); }),
                 "kernel missing_lane_kernel, block (0, 0, 0)", "", "for thread (9, 0, 0), which has returned");
    expect_error(error_of([] { simt::launch("outside", outside_mask_kernel, 1, 32, 0); }), "kernel outside", "0",
                 "a mask that leaves itself out");
    expect_error(error_of([] { simt::launch("bounds", out_of_bounds_kernel, 1, 64, 0); }), "kernel bounds", "63",
                 "touches tile[64], but it has 64 elements");
    expect_error(error_of([] { simt::launch("negative", negative_index_kernel, 1, 64, 64 * sizeof(int)); }),
                 "kernel negative", "0", "touches dynamic_shared[-1]");
    expect_error(error_of([&] { LAUNCH(uninitialised_kernel, 1, 64, 0, nullptr, floats.data()); }),
                 "kernel uninitialised_kernel", "3", "reads tile[3], which no thread has written");
  }

  std::vector<std::vector<int>> raced;
  for (const auto order : {simt::Schedule::kForward, simt::Schedule::kBackward}) {
    simt::schedule() = {order, 0, false};
    raced.emplace_back(64);
    LAUNCH(race_kernel, 1, 64, 0, nullptr, raced.back().data());
  }
  CHECK(raced[0] != raced[1]);

  int counts[2];
  for (const bool switching : {false, true}) {
    simt::schedule() = {simt::Schedule::kForward, 0, switching};
    int counter = 0, tickets = 0;
    LAUNCH(lost_update_kernel, 1, 64, 0, nullptr, &counter, &tickets);
    CHECK(tickets == 64);
    counts[switching] = counter;
  }
  CHECK(counts[0] == 64 && counts[1] < 64);

  CHECK(error_of([] { __syncthreads(); }) == "simt: an intrinsic was called outside a kernel");
  return failures();
}
