// COCO's run lengths and their string form, to the byte as pycocotools writes them.
//
// A mask is read column by column: pixel (y, x) of a picture of height H has the flat index x * H + y. The counts
// are the lengths of alternating runs, zeros first: a leading 0 where the first pixel is set, no trailing 0. In
// the string each count but the first three is told by its difference to the count two before it, in groups of
// five bits from the lowest, sign-extended; bit 5 of a character says that more follow, and 48 makes it printable.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace yolact {

// A difference of two 32-bit counts has 33 bits and a sign bit: at most seven groups of five.
constexpr int kMaxCharacters = 7;

// Masks of more pixels than this have counts that COCO's 32 bits cannot hold.
constexpr int64_t kMaxPixels = 0xFFFFFFFF;

YOLACT_HD int leading_zeros(uint64_t value) {  // of a value that is not 0
#ifdef __CUDA_ARCH__
  return __clzll(static_cast<long long>(value));
#else
  return __builtin_clzll(value);
#endif
}

// How many characters `value` takes: its bits and a sign bit, five to a character.
YOLACT_HD int characters_of(int64_t value) {
  const uint64_t magnitude = static_cast<uint64_t>(value >= 0 ? value : ~value);
  return (65 - leading_zeros(magnitude | 1) + 4) / 5;
}

// The characters of `value`, the first in the lowest byte; bytes past characters_of(value) mean nothing.
// Spreads the groups of five bits to bytes by halves, without a branch or a loop.
YOLACT_HD uint64_t spell(int64_t value, int characters) {
  uint64_t groups = static_cast<uint64_t>(value);
  groups = (groups & 0x00000000000FFFFFu) | (groups & 0x000000FFFFF00000u) << 12;
  groups = (groups & 0x000003FF000003FFu) | (groups & 0x000FFC00000FFC00u) << 6;
  groups = (groups & 0x001F001F001F001Fu) | (groups & 0x03E003E003E003E0u) << 3;
  const uint64_t more = 0x2020202020202020u & ((uint64_t{1} << 8 * (characters - 1)) - 1);
  return (groups | more) + 0x3030303030303030u;
}

// Writes a mask's string from the flat indices at which its pixels change, in one pass and without a list of counts.
// Never writes past `capacity`; goes on counting, so that `finish` tells how many bytes the whole string needs.
class RunWriter {
 public:
  YOLACT_INLINE RunWriter(uint8_t* output, int64_t capacity) : output_(output), capacity_(capacity) {}

  // The pixel at flat index `position` differs from the one before it (the first one: from zero). Ascending.
  YOLACT_INLINE void flip(int64_t position) {
    append(position - position_);
    position_ = position;
  }

  // The same for many.
  template <class Position>
  YOLACT_INLINE void flips(const Position* positions, int64_t count) {
    int64_t i = 0;
    for (; i + kBlock <= count; i += kBlock)
      if (!append_short(positions + i))
        for (int j = 0; j < kBlock; ++j) flip(positions[i + j]);
    for (; i < count; ++i) flip(positions[i]);
  }

  // Ends a mask of `pixels` pixels and returns the bytes its string needs; beyond the capacity, what was written
  // means nothing. A flip at `pixels` itself is allowed and changes nothing.
  YOLACT_INLINE int64_t finish(int64_t pixels) {
    if (position_ < pixels || needed_ == 0) flip(pixels);
    return needed_;
  }

 private:
  static constexpr int kBlock = 16;

  // Appends a block of flips where all take a single character, as they do where runs are short or hardly change from
  // one column to the next. A loop without a branch, so that it vectorises.
  template <class Position>
  YOLACT_INLINE bool append_short(const Position* positions) {
    if (is_history_ == 0 || needed_ + kBlock > capacity_) return false;
    int64_t counts[2 + kBlock] = {before_, previous_, static_cast<int64_t>(positions[0]) - position_};
    for (int i = 1; i < kBlock; ++i)
      counts[2 + i] = static_cast<int64_t>(positions[i]) - static_cast<int64_t>(positions[i - 1]);
    uint8_t text[kBlock];
    uint64_t beyond = 0;  // -16 to 15
    for (int i = 0; i < kBlock; ++i) {
      const uint64_t value = static_cast<uint64_t>(counts[2 + i] - counts[i]);
      beyond |= (value + 16) >> 5;
      text[i] = static_cast<uint8_t>((value & 31) + 48);
    }
    if (beyond) return false;
    std::memcpy(output_ + needed_, text, kBlock);
    needed_ += kBlock;
    position_ = positions[kBlock - 1];
    before_ = counts[kBlock];
    previous_ = counts[kBlock + 1];
    return true;
  }

  YOLACT_INLINE void append(int64_t count) {
    const int64_t value = count - before_;
    before_ = previous_;
    previous_ = count & is_history_;
    is_history_ = -1;

    const int characters = characters_of(value);
    const uint64_t text = spell(value, characters);
    if (needed_ + 8 <= capacity_) {
      std::memcpy(output_ + needed_, &text, 8);  // what is too much, the next one overwrites
    } else {
      for (int i = 0; i < characters; ++i)
        if (needed_ + i < capacity_) output_[needed_ + i] = static_cast<uint8_t>(text >> 8 * i);
    }
    needed_ += characters;
  }

  uint8_t* output_;
  int64_t capacity_;
  int64_t needed_ = 0;
  int64_t position_ = 0;
  int64_t previous_ = 0, before_ = 0;  // the last count and the one before it
  int64_t is_history_ = 0;             // all bits set from the second count on: no difference is taken to the first
};

// Writes the string of `size` counts and returns the bytes it needs.
inline int64_t write_string(const uint32_t* counts, int64_t size, uint8_t* output, int64_t capacity) {
  RunWriter writer(output, capacity);
  int64_t position = 0;
  for (int64_t i = 0; i < size; ++i) writer.flip(position += counts[i]);
  return size == 0 ? 0 : writer.finish(position);
}

enum class RunError { kNone, kCharacter, kUnfinished, kNegative, kTooLong, kTooShort, kOverflowed, kOtherSize };

inline const char* message_of(RunError error) {
  switch (error) {
    case RunError::kNone:
      return "";
    case RunError::kCharacter:
      return "holds a character that no run length has";
    case RunError::kUnfinished:
      return "breaks off inside a number";
    case RunError::kNegative:
      return "holds a negative run length";
    case RunError::kTooLong:
      return "covers more pixels than its size has";
    case RunError::kTooShort:
      return "covers fewer pixels than its size has";
    case RunError::kOverflowed:
      return "overflowed";
    case RunError::kOtherSize:
      return "is of another size";
  }
  return "";
}

// Reads the counts of a string one by one. What is wrong with a string is a value, `error`, and ends the reading;
// the counts that were read before it never cover more than `pixels`.
class RunReader {
 public:
  YOLACT_HD RunReader(const uint8_t* text, int64_t length, int64_t pixels)
      : text_(text), end_(text + length), left_(pixels) {}

  // False at the end of the string, whether it is good or not.
  YOLACT_HD bool next(int64_t* count) {
    if (text_ == end_) return stop(left_ > 0 ? RunError::kTooShort : RunError::kNone);
    int64_t value = *text_ - 48;
    if (value >= 0 && value < 32) {  // one character, as nearly all numbers are
      ++text_;
      value = (value ^ 16) - 16;
    } else if (!longer(&value)) {
      return false;
    }
    value += before_;
    if (value < 0) return stop(RunError::kNegative);
    if (value > left_) return stop(RunError::kTooLong);
    left_ -= value;
    before_ = previous_;
    previous_ = value & is_history_;
    is_history_ = -1;
    *count = value;
    return true;
  }

  RunError error = RunError::kNone;

 private:
  YOLACT_HD bool stop(RunError why) {
    error = why;
    return false;
  }

  // A number of any length.
  YOLACT_HD bool longer(int64_t* value) {
    *value = 0;
    for (int shift = 0; text_ != end_; shift += 5) {
      const int group = *text_++ - 48;
      if (group < 0 || group > 63 || shift >= 5 * kMaxCharacters) return stop(RunError::kCharacter);
      *value |= static_cast<int64_t>(group & 31) << shift;
      if (group & 32) continue;
      if (group & 16) *value |= -(int64_t{32} << shift);
      return true;
    }
    return stop(RunError::kUnfinished);
  }

  const uint8_t* text_;
  const uint8_t* end_;
  int64_t left_;  // pixels that no run covers yet
  int64_t previous_ = 0, before_ = 0, is_history_ = 0;
};

}  // namespace yolact
