// Strings to flips. Most numbers have one character and many two, in no order that a processor could foresee. So of 64
// characters at a time, each is read as the end of a number, without a branch, and the characters that do end one are
// found as bits. Whether all is well is seen at the end: then flips never fall, and the last one is the number of
// pixels. If not, the string is read once more, one number after the other, which tells what is wrong.
#include "run_string.h"

#include <cstring>

#include "level.h"

namespace yolact::cpu {
namespace {

constexpr int64_t kBlock = 64;
constexpr uint8_t kMore = 48 + 32;  // a character that ends no number
constexpr int kMost = 6;            // characters of a number; with more, a flip could pass 2**32 unseen

struct Reading {
  uint32_t* flips;
  int64_t position = 0;              // pixels that runs cover so far
  int64_t previous = 0, before = 0;  // the last run and the one before it, but not the first
};

// Which of the characters end a number, as bits.
YOLACT_INLINE uint64_t find_ends(const uint8_t* text) {
  constexpr uint64_t kEach = 0x0101010101010101u;
  uint64_t ends = 0;
  for (int i = 0; i < 8; ++i) {
    uint64_t eight;
    std::memcpy(&eight, text + 8 * i, 8);
    const uint64_t more = (eight + (128 - kMore) * kEach) >> 7 & kEach;
    ends |= ((more ^ kEach) * 0x0102040810204080u >> 56) << 8 * i;
  }
  return ends;
}

// Reads the numbers of at most three characters that end within a block, up to the first one that is longer, and
// returns how many characters they take; -1: there is one that no number has.
YOLACT_INLINE int64_t read_block(const uint8_t* text, int64_t left, Reading* reading) {
  uint8_t padded[kBlock];
  if (left < kBlock) {
    std::memset(padded, kMore, kBlock);
    std::memcpy(padded, text, static_cast<size_t>(left));
    text = padded;
  }
  int16_t groups[2 + kBlock] = {};  // what comes before the block ends a number
  int16_t values[kBlock];           // of the number that ends here, if any does
  int16_t wrong = 0;
  for (int i = 0; i < kBlock; ++i) {
    const int16_t group = static_cast<int16_t>(text[i] - 48);
    groups[2 + i] = group;
    wrong |= group & ~63;
  }
  if (wrong) return -1;
  for (int i = 0; i < kBlock; ++i) {
    const int16_t last = groups[2 + i], middle = groups[1 + i], first = groups[i];
    const int16_t one = static_cast<int16_t>(((last & 31) ^ 16) - 16);
    const int16_t two = static_cast<int16_t>(one * 32 | (middle & 31));
    const int16_t three = static_cast<int16_t>(two * 32 | (first & 31));
    const int16_t most = first & 32 ? three : two;
    values[i] = middle & 32 ? most : one;
  }
  const uint64_t all = find_ends(text);
  const uint64_t longer = ~all & ~all >> 1 & ~all >> 2;  // where the first three characters of four or more are
  const uint64_t ends = longer == 0 ? all : all & ((longer & -longer) - 1);
  if (ends == 0) return 0;

  Reading r = *reading;
  for (uint64_t left_ends = ends; left_ends; left_ends &= left_ends - 1) {
    const int64_t run = values[__builtin_ctzll(left_ends)] + r.before;
    r.position += run;
    *r.flips++ = static_cast<uint32_t>(r.position);
    r.before = r.previous;
    r.previous = run;
  }
  *reading = r;
  return kBlock - __builtin_clzll(ends);
}

// Reads a number of up to kMost characters, and returns how many; 0: there is none.
int64_t read_one(const uint8_t* text, int64_t left, int64_t* value) {
  *value = 0;
  for (int i = 0; i < kMost && i < left; ++i) {
    const int group = text[i] - 48;
    if (group < 0 || group > 63) return 0;
    *value |= static_cast<int64_t>(group & 31) << 5 * i;
    if (group & 32) continue;
    if (group & 16) *value -= int64_t{32} << 5 * i;
    return i + 1;
  }
  return 0;
}

// Whether the string is a good one; then all of it is read.
YOLACT_INLINE bool read_fast(const uint8_t* text, int64_t length, int64_t pixels, uint32_t* flips, int64_t* count) {
  int64_t first;
  int64_t i = read_one(text, length, &first);
  if (i == 0) return false;
  *flips = static_cast<uint32_t>(first);
  Reading reading{flips + 1, first};
  while (i < length) {
    int64_t taken = read_block(text + i, length - i, &reading);
    if (taken == 0) {
      int64_t value;
      taken = read_one(text + i, length - i, &value);
      if (taken == 0) return false;
      const int64_t run = value + reading.before;
      reading = {reading.flips + 1, reading.position + run, run, reading.previous};
      reading.flips[-1] = static_cast<uint32_t>(reading.position);
    }
    if (taken < 0) return false;
    i += taken;
  }
  *count = reading.flips - flips;
  bool falls = false;
  for (int64_t k = 1; k < *count; ++k) falls |= flips[k] < flips[k - 1];
  return !falls && reading.position == pixels;
}

YOLACT_INLINE int64_t write(const uint32_t* flips, int64_t count, int64_t pixels, uint8_t* output, int64_t capacity) {
  RunWriter writer(output, capacity);
  writer.flips(flips, count);
  return writer.finish(pixels);
}

}  // namespace

int64_t write_flips(const uint32_t* flips, int64_t count, int64_t pixels, uint8_t* output, int64_t capacity) {
  return at_level<write>(flips, count, pixels, output, capacity);
}

RunError read_flips(const uint8_t* text, int64_t length, int64_t pixels, uint32_t* flips, int64_t* count) {
  if (at_level<read_fast>(text, length, pixels, flips, count)) return RunError::kNone;
  RunReader reader(text, length, pixels);
  int64_t position = 0;
  *count = 0;
  for (int64_t run; reader.next(&run);) flips[(*count)++] = static_cast<uint32_t>(position += run);
  return reader.error;
}

}  // namespace yolact::cpu
