// csrc/cuda/deform_conv2d.cu under simt gives what plain loops in double do, in every order of threads and blocks.
#include <cstdio>

#include "check.h"
#include "deform_conv2d_case.h"
#include "schedules.h"

namespace yolact {
namespace {

void compare(uint32_t seed, const DeformConv2dShape* shape = nullptr) {
  const DeformConv2dCase c(seed, shape);
  const auto expected = c.expected(0);
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    const bool same = expected == c.results(
                                      0,
                                      [](const auto& a, int64_t first, int64_t count, void* columns) {
                                        cuda::deform_conv2d_columns(a, first, count, columns, nullptr);
                                      },
                                      [](auto&&...) {});
    if (!same) std::fprintf(stderr, "seed %u, order %d %d:\n", seed, order.order, order.switch_at_atomics);
    CHECK(same);
  }
}

}  // namespace
}  // namespace yolact

int main() {
  for (uint32_t seed = 0; seed < 40; ++seed) yolact::compare(seed);
  // More channels than a block has; in an offset group of which the second half is of another group of the weights.
  const yolact::DeformConv2dShape shape{1, 4, 3, 2, 1, 528, {2, 3}, {1, 1}, {0, 1}, {1, 1}};
  for (uint32_t seed = 100; seed < 106; ++seed) yolact::compare(seed, &shape);
  return failures() != 0;
}
