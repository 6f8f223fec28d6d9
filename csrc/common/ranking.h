// The order of candidates, as numbers. A candidate is a (class, box) pair with a score.
#pragma once

#include <cstdint>
#include <limits>

#include "half.h"
#include "host_device.h"

namespace yolact {

// Score and slot of a candidate in one number, never 0: larger is better; equal scores, the lower slot.
// slot = class * boxes + box, so ties go to the lower class, then to the lower box.
using Key = uint64_t;

YOLACT_HD Key key_of(float score, uint32_t slot) {
  const uint32_t bits = bits_of(score == 0.0f ? 0.0f : score);  // -0 ties with 0
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<Key>(ordered) << 32 | static_cast<uint32_t>(~slot);
}

YOLACT_HD float score_of(Key key) {
  const uint32_t ordered = static_cast<uint32_t>(key >> 32);
  return float_from_bits(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

YOLACT_HD uint32_t slot_of(Key key) { return ~static_cast<uint32_t>(key); }

// The largest key of score `score`: what is above it has a higher score.
inline Key above(float score) { return key_of(score, 0); }

// Every key is above it: scores from -infinity on, slots below 2^32 - 1.
inline Key lowest_key() { return key_of(-std::numeric_limits<float>::infinity(), 0xffffffffu); }

}  // namespace yolact
