// Sixteen floats at once, in GCC's vector extensions: the same sixteen on every processor, in as many registers as
// it takes, so that sums have one order and results one set of bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "level.h"

namespace yolact::cpu {

constexpr int kLanes = 16;

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t LaneIndex __attribute__((vector_size(kLanes * sizeof(int32_t))));

YOLACT_INLINE Lanes load_lanes(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

// The first `count` lanes, zero in the others.
YOLACT_INLINE Lanes load_lanes(const float* from, int64_t count) {
  Lanes lanes{};
  std::memcpy(&lanes, from, count * sizeof(float));
  return lanes;
}

YOLACT_INLINE void store_lanes(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

// In each block of 2 * kWidth lanes: the low and the high half of a's, added, then those of b's.
template <int kWidth>
YOLACT_INLINE Lanes fold(Lanes a, Lanes b) {
  LaneIndex low, high;
  for (int i = 0; i < kLanes; ++i) {
    low[i] = i & kWidth ? i - kWidth + kLanes : i;  // lanes from kLanes on are b's
    high[i] = low[i] + kWidth;
  }
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

// Lane i of the result is the sum of all lanes of terms[i]: lanes 8 apart first, then 4, 2 and 1.
YOLACT_INLINE Lanes sum_each(const Lanes (&terms)[kLanes]) {
  Lanes a[8], b[4], c[2];
  for (int i = 0; i < 8; ++i) a[i] = fold<8>(terms[i], terms[i + 8]);
  for (int i = 0; i < 4; ++i) b[i] = fold<4>(a[i], a[i + 4]);
  for (int i = 0; i < 2; ++i) c[i] = fold<2>(b[i], b[i + 2]);
  return fold<1>(c[0], c[1]);
}

// The sum of all terms, lane by lane, in the order of sum_each.
YOLACT_INLINE Lanes sum_across(Lanes (&terms)[kLanes]) {
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) terms[i] = terms[i] + terms[i + width];
  return terms[0];
}

// Lane by lane. NaN in `a` stays and NaN in `b` is passed over.
YOLACT_INLINE Lanes larger(Lanes a, Lanes b) { return b > a ? b : a; }

// The largest of all lanes: NaN may hide it.
YOLACT_INLINE float largest(Lanes lanes) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    LaneIndex other;
    for (int i = 0; i < kLanes; ++i) other[i] = i ^ width;
    lanes = larger(lanes, __builtin_shuffle(lanes, other));
  }
  return lanes[0];
}

// Whether any bit of a comparison is set.
YOLACT_INLINE bool any(LaneIndex comparison) {
  uint64_t words[sizeof comparison / sizeof(uint64_t)], found = 0;
  std::memcpy(words, &comparison, sizeof comparison);
  for (const uint64_t word : words) found |= word;
  return found != 0;
}

}  // namespace yolact::cpu
