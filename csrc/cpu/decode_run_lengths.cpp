// COCO strings to dense masks. A string names the pixels that differ from the one before them in their column, so
// each run sets two bits, and a row of the mask is the row above with those pixels changed. Bytes moved: the masks
// once, written in order.
#include "../common/decode_run_lengths.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "bit_rows.h"

namespace yolact::cpu {
namespace {

void set_bits(uint64_t* bits, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end;) {
    const int64_t stop = (i / 64 + 1) * 64 < end ? (i / 64 + 1) * 64 : end;
    bits[i / 64] |= ~uint64_t{0} >> (64 - (stop - i)) << i % 64;
    i = stop;
  }
}

RunError decode(const uint8_t* text, int64_t length, int64_t height, int64_t width, uint64_t* bits, uint8_t* pixels) {
  const int64_t words = words_of(width);
  std::memset(bits, 0, static_cast<size_t>(height * words) * sizeof(uint64_t));
  RunReader reader(text, length, height * width);
  int64_t x = 0, y = 0;
  bool ones = false;
  for (int64_t count; reader.next(&count); ones = !ones) {
    if (count == 0) continue;
    int64_t next_x = x, next_y = y + count;
    if (next_y >= height) {
      next_x += next_y / height;
      next_y %= height;
    }
    if (ones) {
      if (y > 0) bits[y * words + x / 64] ^= uint64_t{1} << x % 64;
      if (next_y > 0) bits[next_y * words + next_x / 64] ^= uint64_t{1} << next_x % 64;
      set_bits(bits, y == 0 ? x : x + 1, next_y == 0 ? next_x : next_x + 1);  // columns that begin inside the run
    }
    x = next_x;
    y = next_y;
  }
  if (reader.error != RunError::kNone || height * width == 0) return reader.error;
  for (int64_t i = words; i < height * words; ++i) bits[i] ^= bits[i - words];
  unpack_rows(bits, height, width, pixels);
  return RunError::kNone;
}

}  // namespace

void decode_run_lengths(const DecodeRunLengthsArguments& a, const Parallel& parallel) {
  const int64_t pixels = a.height * a.width;
  for_each(parallel, a.count, [&](int64_t i) {
    std::unique_ptr<uint64_t[]> bits(new uint64_t[a.height * words_of(a.width)]);
    uint8_t* mask = a.masks + i * pixels;
    RunError error = check_row(a, i);
    if (error == RunError::kNone)
      error = decode(a.data + i * a.capacity, a.length[i], a.height, a.width, bits.get(), mask);
    if (error != RunError::kNone) std::fill_n(mask, pixels, uint8_t{0});
    a.error[i] = static_cast<int64_t>(error);
  });
}

}  // namespace yolact::cpu
