// csrc/cuda/encode_run_lengths.cu under simt gives the CPU kernel's strings, in every order of threads and blocks.
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "../../csrc/common/encode_run_lengths.h"
#include "check.h"
#include "guarded.h"
#include "schedules.h"

namespace yolact {
namespace {

enum Kind { kNoise, kSparse, kAlternating, kEllipse, kZeros, kOnes, kLastPixel };

uint8_t pixel(Kind kind, std::mt19937& random, int64_t y, int64_t x, int64_t height, int64_t width) {
  const int64_t dy = 2 * y - height, dx = 2 * x - width;
  const uint8_t one = static_cast<uint8_t>(1 + random() % 255);
  switch (kind) {
    case kNoise:
      return random() % 2 ? one : 0;
    case kSparse:
      return random() % 50 ? 0 : one;
    case kAlternating:
      return (x * height + y) % 2 ? one : 0;
    case kEllipse:
      return dy * dy * width * width + dx * dx * height * height < height * height * width * width ? one : 0;
    case kZeros:
      return 0;
    case kOnes:
      return one;
    default:
      return y == height - 1 && x % 2 == 0 ? one : 0;
  }
}

// The masks' memory is exactly from the first pixel to the last; strides may be negative.
void compare(Kind kind, int64_t count, int64_t height, int64_t width, const int64_t (&stride)[3], int64_t capacity) {
  std::mt19937 random(static_cast<unsigned>(height * 1000 + width));
  const int64_t extent[3] = {count, height, width};
  int64_t first = 0, last = 0;  // the lowest and the highest element, from that of mask 0, row 0, column 0
  for (int i = 0; i < 3; ++i) (stride[i] < 0 ? first : last) += (extent[i] - 1) * stride[i];
  const Guarded masks(last - first + 1);
  EncodeRunLengthsArguments a{};
  a.masks = masks.data() - first;
  for (int64_t n = 0; n < count; ++n)
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x)
        masks.data()[n * stride[0] + y * stride[1] + x * stride[2] - first] = pixel(kind, random, y, x, height, width);
  for (int i = 0; i < 3; ++i) a.stride[i] = stride[i];
  a.count = count;
  a.height = height;
  a.width = width;
  a.capacity = capacity;

  std::vector<uint8_t> data(count * capacity);
  std::vector<int64_t> length(count), needed(count), size(2 * count);
  a.data = data.data();
  a.length = length.data();
  a.needed = needed.data();
  a.size = size.data();
  cpu::encode_run_lengths(a, serial());

  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    const Guarded own_data(count * capacity), own_length(8 * count), own_needed(8 * count), own_size(16 * count),
        workspace(cuda::encode_run_lengths_workspace(a));
    a.data = own_data.data();
    a.length = own_length.data<int64_t>();
    a.needed = own_needed.data<int64_t>();
    a.size = own_size.data<int64_t>();
    cuda::encode_run_lengths(a, workspace.data(), nullptr);
    const bool same =
        std::equal(data.begin(), data.end(), a.data) && std::equal(length.begin(), length.end(), a.length) &&
        std::equal(needed.begin(), needed.end(), a.needed) && std::equal(size.begin(), size.end(), a.size);
    if (!same)
      std::fprintf(stderr, "kind %d, %ld x %ld x %ld, strides %ld %ld %ld, capacity %ld\n", kind, count, height, width,
                   stride[0], stride[1], stride[2], capacity);
    CHECK(same);
    CHECK(own_data.intact() && own_length.intact() && own_needed.intact() && own_size.intact() && workspace.intact());
  }
}

void test_layouts() {
  const int64_t edges[] = {1, 2, 5, 7, 8, 9, 31, 32, 33, 64, 65, 70};
  std::mt19937 random(0);
  for (int round = 0; round < 48; ++round) {
    const int64_t h = edges[random() % 12], w = edges[round % 12], n = 1 + random() % 3;
    const int64_t layouts[][3] = {
        {h * w, w, 1},         {h * w, 1, h},  {1, w * n, n},   {h * (w + 3), w + 3, 1}, {(h + 5) * w, 1, h + 5},
        {6 * h * w, 3 * w, 3}, {h * w, -w, 1}, {-h * w, 1, -h}, {h * w, -1, h},          {0, w, 1},
        {-h * w, w, 1},        {h * w, w, -1}};
    compare(static_cast<Kind>(round % 7), n, h, w, layouts[round / 4], 1 + random() % 60);
  }
}

// More columns than launch 2 has threads, more flips than its window holds, several blocks of launch 1.
void test_sizes() {
  compare(kNoise, 1, 3, 641, {0, 641, 1}, 3000);
  compare(kEllipse, 2, 45, 1300, {45 * 1300, 1300, 1}, 4000);
  compare(kAlternating, 1, 64, 64, {0, 64, 1}, 5000);      // 4095 flips
  compare(kAlternating, 2, 241, 17, {4097, 17, 1}, 4097);  // 4096, 4097 bytes, which just fit
  compare(kAlternating, 1, 17, 241, {0, 1, 17}, 4096);     // and just do not
  compare(kAlternating, 1, 130, 66, {0, 66, 1}, 9000);
  compare(kNoise, 2, 129, 640, {129 * 640, 640, 1}, 60000);
  compare(kSparse, 3, 200, 300, {60000, 300, 1}, 2000);
  compare(kSparse, 3, 200, 300, {60000, 1, 200}, 2000);
}

// One mask many times: the last byte of all masks is that of each.
void test_repeated() { compare(kNoise, 20, 40, 16, {0, 16, 1}, 600); }

// More rows than a thread asks for together, and flips in the last ones alone.
void test_high() {
  compare(kNoise, 1, 24 * 32 + 1, 9, {0, 9, 1}, 9000);
  compare(kSparse, 2, 2000, 5, {10000, 5, 1}, 2000);
  compare(kLastPixel, 1, 24 * 32, 7, {0, 7, 1}, 100);
}

void test_no_pixels() {
  compare(kZeros, 2, 0, 5, {0, 5, 1}, 3);
  compare(kZeros, 2, 5, 0, {0, 1, 1}, 1);
}

}  // namespace
}  // namespace yolact

int main() {
  yolact::test_layouts();
  yolact::test_sizes();
  yolact::test_repeated();
  yolact::test_high();
  yolact::test_no_pixels();
  return failures() != 0;
}
