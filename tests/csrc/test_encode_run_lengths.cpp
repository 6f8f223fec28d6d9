// Encoding and decoding against a loop over the pixels, for every layout and shape.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/common/decode_run_lengths.h"
#include "../../csrc/common/encode_run_lengths.h"
#include "../../csrc/cpu/bit_rows.h"
#include "check.h"

namespace {

using yolact::DecodeRunLengthsArguments;
using yolact::EncodeRunLengthsArguments;
using yolact::RunError;

struct Mask {
  int64_t height, width;
  std::vector<uint8_t> pixels;  // row by row
};

Mask random_mask(std::mt19937& random, int64_t height, int64_t width) {
  Mask mask{height, width, std::vector<uint8_t>(height * width)};
  const int kind = random() % 6;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const bool one = kind == 0   ? random() % 2
                       : kind == 1 ? random() % 50 == 0
                       : kind == 2 ? random() % 50 != 0
                       : kind == 3 ? (x + y) % 2
                       : kind == 4
                           ? (2 * x - width) * (2 * x - width) + (2 * y - height) * (2 * y - height) < width * height
                           : random() % 2 * (height + width) > 0;
      mask.pixels[y * width + x] = one ? 1 + random() % 255 : 0;
    }
  }
  return mask;
}

std::string plain_string(const Mask& mask) {
  std::vector<uint32_t> counts(1, 0);
  bool last = false;
  for (int64_t x = 0; x < mask.width; ++x) {
    for (int64_t y = 0; y < mask.height; ++y) {
      const bool one = mask.pixels[y * mask.width + x] != 0;
      if (one != last) counts.push_back(0);
      ++counts.back();
      last = one;
    }
  }
  std::vector<uint8_t> text(7 * counts.size());
  return {text.begin(), text.begin() + yolact::write_string(counts.data(), counts.size(), text.data(), text.size())};
}

// The string of pixels that lie in memory as the strides say; `pixels` is where (0, 0) is.
std::string encoded(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y, int64_t stride_x,
                    int64_t capacity) {
  std::vector<uint8_t> data(capacity, 77);
  int64_t length = -1, needed = -1, size[2] = {-1, -1};
  EncodeRunLengthsArguments arguments{};
  arguments.masks = pixels;
  arguments.stride[1] = stride_y;
  arguments.stride[2] = stride_x;
  arguments.count = 1;
  arguments.height = height;
  arguments.width = width;
  arguments.data = data.data();
  arguments.capacity = capacity;
  arguments.length = &length;
  arguments.needed = &needed;
  arguments.size = size;
  yolact::cpu::encode_run_lengths(arguments, yolact::serial());
  CHECK(size[0] == height && size[1] == width);
  CHECK(length == (needed <= capacity ? needed : 0));
  CHECK(std::all_of(data.begin() + length, data.end(), [](uint8_t byte) { return byte == 0; }));
  return needed <= capacity ? std::string(data.begin(), data.begin() + length) : std::string(needed, '?');
}

void test_layouts(const Mask& mask) {
  const std::string expected = plain_string(mask);
  const int64_t h = mask.height, w = mask.width, enough = expected.size();
  CHECK(encoded(mask.pixels.data(), h, w, w, 1, enough) == expected);
  if (enough > 1) CHECK(encoded(mask.pixels.data(), h, w, w, 1, enough - 1) == std::string(enough, '?'));
  // {stride_y, stride_x} of column-major, padded, spread and reversed copies.
  const int64_t layouts[][2] = {{1, h},         {1, h + 3}, {w + 5, 1}, {2 * w, 2},
                                {3, 3 * h + 1}, {-w, 1},    {-1, h},    {-2, -2 * h}};
  for (const auto& [stride_y, stride_x] : layouts) {
    const int64_t reach_y = (h - 1) * stride_y, reach_x = (w - 1) * stride_x;
    const int64_t first = -std::min<int64_t>(reach_y, 0) - std::min<int64_t>(reach_x, 0);
    std::vector<uint8_t> memory(first + std::max<int64_t>(reach_y, 0) + std::max<int64_t>(reach_x, 0) + 1, 99);
    for (int64_t y = 0; y < h; ++y)
      for (int64_t x = 0; x < w; ++x) memory[first + y * stride_y + x * stride_x] = mask.pixels[y * w + x];
    CHECK(encoded(&memory[first], h, w, stride_y, stride_x, enough) == expected);
  }
}

void test_decoding(const Mask& mask) {
  const std::string text = plain_string(mask);
  const int64_t length = text.size(), size[2] = {mask.height, mask.width};
  int64_t error = -1;
  std::vector<uint8_t> masks(mask.pixels.size(), 77);
  DecodeRunLengthsArguments arguments{};
  arguments.data = reinterpret_cast<const uint8_t*>(text.data());
  arguments.length = &length;
  arguments.needed = &length;
  arguments.size = size;
  arguments.count = 1;
  arguments.capacity = length;
  arguments.height = mask.height;
  arguments.width = mask.width;
  arguments.masks = masks.data();
  arguments.error = &error;
  yolact::cpu::decode_run_lengths(arguments, yolact::serial());
  CHECK(error == 0);
  for (size_t i = 0; i < masks.size(); ++i) CHECK(masks[i] == (mask.pixels[i] != 0));

  masks.assign(masks.size(), 77);
  for (const int64_t capacity : {length - 1, length}) {  // overflowed; of another size
    const int64_t other[2] = {mask.height, mask.width + 1};
    arguments.capacity = capacity;
    arguments.size = other;
    yolact::cpu::decode_run_lengths(arguments, yolact::serial());
    CHECK(error == static_cast<int64_t>(capacity < length ? RunError::kOverflowed : RunError::kOtherSize));
    CHECK(std::all_of(masks.begin(), masks.end(), [](uint8_t byte) { return byte == 0; }));
  }

  const int64_t taller[2] = {mask.height + 1, mask.width};
  masks.assign(taller[0] * taller[1], 77);
  arguments.size = taller;
  arguments.height = taller[0];
  arguments.masks = masks.data();
  yolact::cpu::decode_run_lengths(arguments, yolact::serial());
  CHECK(error == static_cast<int64_t>(RunError::kTooShort));
  CHECK(std::all_of(masks.begin(), masks.end(), [](uint8_t byte) { return byte == 0; }));
}

void test_bit_rows(const Mask& mask) {
  const int64_t h = mask.height, w = mask.width, words = h * yolact::cpu::words_of(w);
  std::vector<uint64_t> expected(words), bits(words, 77);
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      expected[y * yolact::cpu::words_of(w) + x / 64] |= uint64_t{mask.pixels[y * w + x] != 0} << x % 64;
  std::vector<uint8_t> ones(h * w), pixels(h * w, 77);
  for (int64_t i = 0; i < h * w; ++i) ones[i] = mask.pixels[i] != 0;

  yolact::cpu::pack_rows(mask.pixels.data(), h, w, w, 1, bits.data());
  CHECK(bits == expected);
  yolact::cpu::unpack_rows(bits.data(), h, w, pixels.data());
  CHECK(pixels == ones);
}

void test_no_pixels() {
  CHECK(encoded(nullptr, 0, 5, 5, 1, 3) == "0");
  CHECK(encoded(nullptr, 5, 0, 0, 1, 3) == "0");
  test_decoding({0, 5, {}});
}

}  // namespace

int main() {
  std::mt19937 random(0);
  const int64_t edges[] = {1, 2, 7, 8, 63, 64, 65, 127, 128, 129, 200};
  for (int round = 0; round < 400; ++round) {
    const int64_t height = round % 2 ? edges[random() % 11] : 1 + random() % 150;
    const int64_t width = round % 3 ? edges[random() % 11] : 1 + random() % 600;
    const Mask mask = random_mask(random, height, width);
    test_layouts(mask);
    test_decoding(mask);
    test_bit_rows(mask);
  }
  test_layouts(random_mask(random, 9000, 3));  // columns of more than one chunk
  test_no_pixels();
  return failures() != 0;
}
