// csrc/cuda/assemble_masks.cu under simt gives the CPU kernel's bits, in every order of threads and blocks.
#include <cstdio>
#include <vector>

#include "../../csrc/cuda/assemble.cuh"
#include "assemble_case.h"
#include "check.h"
#include "schedules.h"

namespace yolact {
namespace {

constexpr int64_t kGuard = 64;
constexpr uint8_t kPattern = 0xA5;

// `masks` must be what the CPU writes, and what is before and after them as it was.
void compare(uint32_t seed, const Shape* shape, bool packed, bool is_noise = false) {
  Random random(seed);
  const Case c(random, shape ? *shape : random_shape(random), false, is_noise);
  AssembleMasksArguments a{c.arguments, packed, nullptr};
  const int64_t height = a.sizes[0], width = a.sizes[1], pitch = packed ? (width + 7) / 8 : width;
  const int64_t bytes = a.batch * a.detections * height * pitch;
  std::vector<uint8_t> expected(bytes + 2 * kGuard, kPattern), output;
  a.masks = expected.data() + kGuard;
  cpu::assemble_masks(a, serial());
  bool same = true;
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    output.assign(expected.size(), kPattern);
    a.masks = output.data() + kGuard;
    cuda::assemble_masks(a, nullptr);
    same = same && output == expected;
  }
  if (!same) std::fprintf(stderr, "seed %u, masks of %ld x %ld:\n", seed, long(height), long(width));
  CHECK(same);
}

// Channels side by side, and every step a multiple of sixteen bytes, and the first element on one.
void test_is_wide() {
  alignas(16) const float data[8] = {};
  const auto is_wide = [&](int offset, FloatType type, std::initializer_list<int64_t> stride) {
    return cuda::is_wide(data + offset, type, stride.begin(), static_cast<int>(stride.size()));
  };
  CHECK(is_wide(0, FloatType::kFloat32, {16, 8, 4, 1}));
  CHECK(is_wide(4, FloatType::kFloat32, {16, 8, 4, 1}));
  CHECK(is_wide(0, FloatType::kBFloat16, {8, 1}));
  CHECK(!is_wide(1, FloatType::kFloat32, {16, 8, 4, 1}));
  CHECK(!is_wide(0, FloatType::kFloat16, {16, 8, 4, 1}));
  CHECK(!is_wide(0, FloatType::kFloat32, {16, 8, 4, 2}));
  CHECK(!is_wide(0, FloatType::kFloat32, {16, 8, 5, 1}));
  CHECK(!is_wide(0, FloatType::kFloat32, {16, 9, 4, 1}));
  CHECK(!is_wide(0, FloatType::kFloat32, {17, 8, 4, 1}));
}

}  // namespace
}  // namespace yolact

int main() {
  yolact::test_is_wide();
  using yolact::compare;
  using yolact::Shape;
  for (uint32_t seed = 0; seed < 60; ++seed) compare(seed, nullptr, seed % 3 == 0);
  const Shape shapes[] = {
      {1, 2, 40, 33, 16, 150, 250},  // several bands a mask, rows of no multiple of 16
      {2, 1, 9, 70, 3, 33, 1030},    // rows of many groups of columns
      {1, 3, 70, 65, 1, 40, 30},     // a tile that holds no whole band
      {1, 1, 400, 40, 1, 10, 300},   // nor many rows of the result
      {1, 1, 40, 400, 1, 40, 400},   // nor many of its own
      {1, 2, 3, 1400, 1, 4, 40},     // nor as much as the least band
      {2, 2, 5, 5, 32, 300, 1},      // rows of one pixel
      {1, 1, 100, 60, 1, 45, 17},    // a tile that the band just fills
  };
  for (const Shape& shape : shapes) {
    compare(100, &shape, false, true);
    for (uint32_t seed = 101; seed < 105; ++seed) compare(seed, &shape, seed % 2 == 0);
  }
  for (const int64_t channels : {24, 32, 48}) {            // 24 do not fill the lanes: no threads share
    const Shape rows_of_16{1, 2, 3, 16, channels, 9, 20};  // rows are aligned, whether pixels are or not
    for (uint32_t seed = 200; seed < 250; ++seed) compare(seed, &rows_of_16, false);
  }
  return failures() != 0;
}
