// csrc/cuda/assemble_run_lengths.cu under simt gives the CPU kernel's strings, in every order of threads and blocks.
#include <cstdio>
#include <vector>

#include "assemble_case.h"
#include "check.h"
#include "schedules.h"

namespace yolact {
namespace {

constexpr int64_t kGuard = 16;
constexpr uint8_t kPattern = 0xA5;

// What an operator writes, between guards.
struct Output {
  std::vector<uint8_t> data;
  std::vector<int64_t> length, needed, size;

  Output(int64_t rows, int64_t capacity)
      : data(rows * capacity + 2 * kGuard, kPattern),
        length(rows + 2, -7),
        needed(rows + 2, -7),
        size(2 * rows + 2, -7) {}
  void place(AssembleRunLengthsArguments& a) {
    a.data = data.data() + kGuard;
    a.length = length.data() + 1;
    a.needed = needed.data() + 1;
    a.size = size.data() + 1;
  }
  bool operator==(const Output& other) const {
    return data == other.data && length == other.length && needed == other.needed && size == other.size;
  }
};

void compare(uint32_t seed, const Shape* shape, int64_t capacity, bool is_noise = false) {
  Random random(seed);
  const Case c(random, shape ? *shape : random_shape(random), shape == nullptr, is_noise);
  AssembleRunLengthsArguments a{c.arguments, false, capacity, nullptr, nullptr, nullptr, nullptr};
  const int64_t rows = a.batch * a.detections;
  Output expected(rows, capacity);
  expected.place(a);
  cpu::assemble_run_lengths(a, serial());
  bool same = true;
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    a.sizes_on_device = random.below(2);
    Output output(rows, capacity);
    output.place(a);
    cuda::assemble_run_lengths(a, nullptr);
    same = same && output == expected;
  }
  if (!same) std::fprintf(stderr, "seed %u, capacity %ld:\n", seed, long(capacity));
  CHECK(same);
}

// Sizes on the device that are none give empty masks of no pixels.
void test_no_sizes() {
  Random random(5);
  const Case c(random, {6, 1, 9, 9, 16, 20, 20}, false);
  constexpr int64_t kSide = int64_t{1} << 30;
  const std::vector<int64_t> sizes = {0, 5, 5, -1, kSide, 1, 1, kSide, 1 << 16, 1 << 16, 20, 20};
  AssembleRunLengthsArguments a{c.arguments, true, 100, nullptr, nullptr, nullptr, nullptr};
  a.sizes = sizes.data();
  a.count = nullptr;
  Output output(6, 100);
  output.place(a);
  cuda::assemble_run_lengths(a, nullptr);
  for (int i = 0; i < 6; ++i) {
    const bool is_size = i == 5;
    CHECK((a.size[2 * i] == 20) == is_size && (a.size[2 * i + 1] == 20) == is_size);
    if (!is_size) CHECK(a.size[2 * i] == 0 && a.size[2 * i + 1] == 0 && a.length[i] == 1 && a.needed[i] == 1);
    if (!is_size) CHECK(a.data[100 * i] == '0' && a.data[100 * i + 1] == 0);
  }
}

}  // namespace
}  // namespace yolact

int main() {
  using yolact::compare;
  using yolact::Shape;
  for (uint32_t seed = 0; seed < 24; ++seed) compare(seed, nullptr, seed % 5 == 0 ? 9 : 6000);
  const Shape shapes[] = {
      {1, 2, 150, 130, 1, 90, 100},  // a canvas of two bands of columns
      {1, 1, 60, 70, 1, 64, 600},    // more columns than threads
      {1, 1, 80, 90, 1, 80, 90},     // more flips than a window holds
      {1, 1, 2047, 5, 1, 40, 9},     // the highest map that is not cut into pieces
      {1, 1, 2048, 3, 1, 70, 7},     // two pieces
      {1, 1, 4100, 2, 1, 5000, 3},   // three
      {1, 1, 13000, 2, 1, 2, 3},     // four, of which two hold no pixel
  };
  for (const Shape& shape : shapes) {
    compare(100, &shape, 9000, true);
    compare(102, &shape, 9000);
  }
  for (const int64_t channels : {16, 32, 48}) {  // which threads share, where they lie side by side
    const Shape shape{1, 2, 12, 20, channels, 30, 40};
    for (uint32_t seed = 110; seed < 126; ++seed) compare(seed, &shape, 400);
  }
  const Shape many{65, 1, 2, 3, 1, 4, 5};  // pictures: more sizes than a launch passes
  compare(200, &many, 10, true);
  yolact::test_no_sizes();
  return failures() != 0;
}
