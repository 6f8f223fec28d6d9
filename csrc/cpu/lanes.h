// Sixteen numbers at once, in GCC's vector extensions: the same sixteen on every processor, in as many registers as it
// takes, so that sums have one order and results one set of bits.
//
// kBytes is what a register holds at a level: 16, 32 or 64. Wider vectors than that are halves of halves, because the
// compiler would take them apart number by number where it compares, selects or shuffles.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "level.h"

namespace yolact::cpu {

constexpr int kLanes = 16;

// The versions of f for at_level, the narrowest first.
#define YOLACT_WIDTHS(f) f<16>, f<32>, f<64>

template <class Half>
struct Halves {
  Half low, high;
};

template <class T, int kBytes, int kCount = kLanes, bool kFits = kCount * sizeof(T) <= kBytes>
struct LanesType {
  typedef T type __attribute__((vector_size(kCount * sizeof(T))));
};
template <class T, int kBytes, int kCount>
struct LanesType<T, kBytes, kCount, false> {
  using type = Halves<typename LanesType<T, kBytes, kCount / 2>::type>;
};

template <int kBytes, class T = float>
using Lanes = typename LanesType<T, kBytes>::type;

#define YOLACT_BY_HALVES(symbol)                                                    \
  template <class Half>                                                             \
  YOLACT_INLINE auto operator symbol(Halves<Half> a, Halves<Half> b) {              \
    const auto low = a.low symbol b.low, high = a.high symbol b.high;               \
    return Halves<std::remove_const_t<decltype(low)>>{low, high};                   \
  }                                                                                 \
  template <class Half, class T, class = std::enable_if_t<std::is_arithmetic_v<T>>> \
  YOLACT_INLINE auto operator symbol(Halves<Half> a, T b) {                         \
    const auto low = a.low symbol b, high = a.high symbol b;                        \
    return Halves<std::remove_const_t<decltype(low)>>{low, high};                   \
  }
YOLACT_BY_HALVES(+)
YOLACT_BY_HALVES(-)
YOLACT_BY_HALVES(*)
YOLACT_BY_HALVES(/)
YOLACT_BY_HALVES(&)
YOLACT_BY_HALVES(|)
YOLACT_BY_HALVES(^)
YOLACT_BY_HALVES(>>)
YOLACT_BY_HALVES(>)
YOLACT_BY_HALVES(>=)
YOLACT_BY_HALVES(<=)
#undef YOLACT_BY_HALVES

template <class Half>
YOLACT_INLINE auto operator~(Halves<Half> a) {
  return Halves<Half>{~a.low, ~a.high};
}

// Lane by lane a where the comparison holds, else b.
template <class Mask, class Vector>
YOLACT_INLINE Vector choose(Mask holds, Vector a, Vector b) {
  return holds ? a : b;
}
template <class Mask, class Half>
YOLACT_INLINE Halves<Half> choose(Halves<Mask> holds, Halves<Half> a, Halves<Half> b) {
  return {choose(holds.low, a.low, b.low), choose(holds.high, a.high, b.high)};
}

template <class Lanes>
struct IsHalves : std::false_type {};
template <class Half>
struct IsHalves<Halves<Half>> : std::true_type {};

template <class Lanes, class T>
YOLACT_INLINE Lanes load_lanes(const T* from) {
  if constexpr (IsHalves<Lanes>::value) {
    using Half = decltype(Lanes::low);
    return {load_lanes<Half>(from), load_lanes<Half>(from + sizeof(Half) / sizeof(T))};
  } else {
    Lanes lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
  }
}

// The first `count` lanes, zero in the others.
template <class Lanes, class T>
YOLACT_INLINE Lanes load_lanes(const T* from, int64_t count) {
  T lanes[kLanes] = {};
  std::memcpy(lanes, from, count * sizeof(T));
  return load_lanes<Lanes>(lanes);
}

template <class Lanes, class T>
YOLACT_INLINE void store_lanes(T* to, Lanes lanes) {
  if constexpr (IsHalves<Lanes>::value) {
    store_lanes(to, lanes.low);
    store_lanes(to + sizeof lanes.low / sizeof(T), lanes.high);
  } else {
    std::memcpy(to, &lanes, sizeof lanes);
  }
}

template <class Vector>
constexpr int kLanesOf = sizeof(Vector) / sizeof(std::declval<Vector>()[0]);
template <class Half>
constexpr int kLanesOf<Halves<Half>> = 2 * kLanesOf<Half>;

// In each block of 2 * kWidth lanes: the low and the high half of a's, added, then those of b's.
template <int kWidth, class Vector, int... kIndex>
YOLACT_INLINE Vector fold(Vector a, Vector b, std::integer_sequence<int, kIndex...>) {
  constexpr int kCount = sizeof...(kIndex);  // lanes from there on are b's
  return __builtin_shufflevector(a, b, (kIndex & kWidth ? kIndex - kWidth + kCount : kIndex)...) +
         __builtin_shufflevector(a, b, (kIndex & kWidth ? kIndex + kCount : kIndex + kWidth)...);
}
template <int kWidth, class Vector>
YOLACT_INLINE Vector fold(Vector a, Vector b) {
  return fold<kWidth>(a, b, std::make_integer_sequence<int, kLanesOf<Vector>>());
}
template <int kWidth, class Half>
YOLACT_INLINE Halves<Half> fold(Halves<Half> a, Halves<Half> b) {
  if constexpr (kLanesOf<Half> == kWidth) {
    return {a.low + a.high, b.low + b.high};
  } else {
    return {fold<kWidth>(a.low, b.low), fold<kWidth>(a.high, b.high)};
  }
}

// Lane i of the result is the sum of all lanes of terms[i]: lanes 8 apart first, then 4, 2 and 1.
template <class Lanes>
YOLACT_INLINE Lanes sum_each(const Lanes (&terms)[kLanes]) {
  Lanes a[8], b[4], c[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) a[i] = fold<8>(terms[i], terms[i + 8]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) b[i] = fold<4>(a[i], a[i + 4]);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) c[i] = fold<2>(b[i], b[i + 2]);
  return fold<1>(c[0], c[1]);
}

// The sum of all terms, lane by lane, in the order of sum_each.
template <class Lanes>
YOLACT_INLINE Lanes sum_across(Lanes (&terms)[kLanes]) {
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) terms[i] = terms[i] + terms[i + width];
  return terms[0];
}

// Lane by lane. NaN in `a` stays and NaN in `b` is passed over.
template <class Lanes>
YOLACT_INLINE Lanes larger(Lanes a, Lanes b) {
  return choose(b > a, b, a);
}

// The largest of all lanes: NaN may hide it.
template <class Vector>
YOLACT_INLINE float largest(Vector lanes) {
  float most[sizeof lanes / sizeof(float)];
  std::memcpy(most, &lanes, sizeof lanes);
  for (int width = sizeof lanes / sizeof(float) / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) most[i] = most[i + width] > most[i] ? most[i + width] : most[i];
  return most[0];
}
template <class Half>
YOLACT_INLINE float largest(Halves<Half> lanes) {
  return largest(larger(lanes.low, lanes.high));
}

// Whether any bit of a comparison is set.
template <class Vector>
YOLACT_INLINE bool any(Vector comparison) {
  uint64_t words[sizeof comparison / sizeof(uint64_t)], found = 0;
  std::memcpy(words, &comparison, sizeof comparison);
  for (const uint64_t word : words) found |= word;
  return found != 0;
}
template <class Half>
YOLACT_INLINE bool any(Halves<Half> comparison) {
  return any(comparison.low | comparison.high);
}

}  // namespace yolact::cpu
