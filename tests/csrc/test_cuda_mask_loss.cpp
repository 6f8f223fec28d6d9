// csrc/cuda/mask_loss.cu under simt gives the CPU kernels' bits, in every order of threads and blocks.
#include <cstdio>

#include "check.h"
#include "mask_loss_case.h"
#include "schedules.h"

namespace yolact {
namespace {

void compare(uint32_t seed, const MaskLossShape* shape = nullptr) {
  MaskLossCase c(seed, shape);
  const auto expected = c.results([](const auto& a) { cpu::mask_loss(a, serial()); },
                                  [](const auto& a) { cpu::mask_loss_backward(a, serial()); });
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    const bool same = expected == c.results(
                                      [](const auto& a) {
                                        if (a.positives > 0) cuda::mask_loss(a, nullptr);
                                      },
                                      [](const auto& a) { cuda::mask_loss_backward(a, nullptr); });
    if (!same) std::fprintf(stderr, "seed %u, order %d %d:\n", seed, order.order, order.switch_at_atomics);
    CHECK(same);
  }
}

}  // namespace
}  // namespace yolact

int main() {
  for (uint32_t seed = 0; seed < 30; ++seed) yolact::compare(seed);
  const yolact::MaskLossShape shapes[] = {
      {2, 300, 3, 17, 18, 2},  // more positives than a block has threads
      {1, 3, 2, 36, 50, 3},    // boxes of several bands and tiles
      {1, 1, 1, 20, 20, 68},   // channels for several blocks
  };
  for (const yolact::MaskLossShape& shape : shapes)
    for (uint32_t seed = 100; seed < 102; ++seed) yolact::compare(seed, &shape);
  return failures() != 0;
}
