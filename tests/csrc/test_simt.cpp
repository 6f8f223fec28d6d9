// Right kernels give right results in every order of their threads and blocks, and intrinsics are CUDA's to the bit.
#include <cmath>
#include <limits>

#include "../../csrc/simt/simt.h"
#include "check.h"
#include "right_kernels.h"
#include "schedules.h"

namespace {

// What needs no other thread.
void bits_and_rounding() {
  CHECK(__popc(0xf000000fu) == 8 && __popcll(0xf00000000000000full) == 8);
  CHECK(__clz(0) == 32 && __clz(1) == 31 && __clz(-1) == 0 && __clzll(0) == 64 && __clzll(1) == 63);
  CHECK(__ffs(0) == 0 && __ffs(1) == 1 && __ffs(8) == 4 && __ffsll(1ll << 40) == 41);
  CHECK(__funnelshift_r(0x44332211u, 0x88776655u, 8) == 0x55443322u && __funnelshift_r(1, 2, 32) == 1);
  CHECK(__float_as_uint(1.0f) == 0x3f800000u && __uint_as_float(0x40000000u) == 2.0f);
  CHECK(__fmul_rn(1.0f / 3.0f, 3.0f) == 1.0f && __fdiv_rn(1.0f, 3.0f) == 1.0f / 3.0f);
  CHECK(__fadd_rn(1.0f, 0x1p-30f) == 1.0f && __fsub_rn(1.0f, 0.5f) == 0.5f);
}

// Reads and writes a counter in two steps.
__global__ void lost_update(int* counter, int* tickets) {
  const int seen = *counter;
  atomicAdd(tickets, 1);
  *counter = seen + 1;
}

// What is no race on shared memory shows as a difference between the orders.
void update_in_two_steps() {
  int counts[2];
  for (const bool switching : {false, true}) {
    simt::schedule() = {simt::Schedule::kForward, 0, switching};
    int counter = 0, tickets = 0;
    LAUNCH(lost_update, 1, 64, 0, nullptr, &counter, &tickets);
    CHECK(tickets == 64);
    counts[switching] = counter;
  }
  CHECK(counts[0] == 64 && counts[1] < 64);
}

// Rounding down shows where the nearest number is above the product, and where that is infinite or subnormal.
void multiply_downwards() {
  const float above_one = std::nextafter(1.0f, 2.0f), largest = std::numeric_limits<float>::max();
  const float least = std::numeric_limits<float>::denorm_min(), infinity = std::numeric_limits<float>::infinity();
  CHECK(__fmul_rd(0.5f, 3.0f) == 1.5f);
  CHECK(__fmul_rd(above_one, above_one) == 1.0f + 0x1p-22f);                    // (1 + e)^2, a little more
  CHECK(__fmul_rd(above_one, 1.5f) == std::nextafter(above_one * 1.5f, 0.0f));  // halfway: to even would be up
  CHECK(__fmul_rd(largest, 2.0f) == largest && __fmul_rd(infinity, 2.0f) == infinity);
  CHECK(__fmul_rd(least, 0.75f) == 0.0f && __fmul_rd(-least, 0.25f) == -least);
}

}  // namespace

int main() {
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    right_kernels();
  }
  update_in_two_steps();
  bits_and_rounding();
  multiply_downwards();
  return failures();
}
