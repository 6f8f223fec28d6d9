// csrc/cpu/deform_conv2d.cpp gives what plain loops in double do, and the same bits with any number of threads.
#include <cstdio>
#include <thread>

#include "check.h"
#include "deform_conv2d_case.h"

namespace yolact {
namespace {

std::vector<double> results(const DeformConv2dCase& c, int asked, const Parallel& parallel) {
  return c.results(
      asked,
      [&](const auto& a, int64_t first, int64_t count, void* columns) {
        cpu::deform_conv2d_columns(a, first, count, columns, parallel);
      },
      [&](const auto& a, int64_t first, int64_t count, const void* column_gradient) {
        cpu::deform_conv2d_columns_backward(a, first, count, column_gradient, parallel);
      });
}

Parallel threads() {
  return {3, [](int64_t count, int64_t, const Range& body) {
            std::vector<std::thread> running;
            for (int64_t i = 0; i < count; ++i) running.emplace_back(body, i, i + 1);
            for (std::thread& each : running) each.join();
          }};
}

void compare(uint32_t seed, const DeformConv2dShape* shape = nullptr) {
  const int asked = static_cast<int>(seed % 8);
  const DeformConv2dCase exact(seed, shape, true, false), real(seed, shape, false, false);
  const bool same = results(exact, asked, seed % 2 ? serial() : threads()) == exact.expected(asked);
  const bool steady = results(real, asked, serial()) == results(real, asked, threads());
  if (!same || !steady) std::fprintf(stderr, "seed %u:\n", seed);
  CHECK(same);
  CHECK(steady);
}

}  // namespace
}  // namespace yolact

int main() {
  for (uint32_t seed = 0; seed < 120; ++seed) yolact::compare(seed);
  // Channels of an offset group in several slices, of a slice in several groups of the weights, and single ones.
  const yolact::DeformConv2dShape wide{1, 6, 5, 2, 1, 160, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
  const yolact::DeformConv2dShape crossing{2, 5, 4, 2, 3, 90, {2, 1}, {1, 2}, {0, 1}, {2, 1}};
  const yolact::DeformConv2dShape depthwise{2, 5, 4, 70, 2, 70, {3, 3}, {2, 1}, {1, 1}, {1, 1}};
  for (const auto& shape : {wide, crossing, depthwise})
    for (uint32_t seed = 0; seed < 8; ++seed) yolact::compare(seed, &shape);
  return failures() != 0;
}
