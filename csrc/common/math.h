// Elementary functions that give the same bits on every processor and vectorise in the loops that call them:
// no branch, no table, no contraction.
#pragma once

#include <cstdint>

#include "half.h"
#include "host_device.h"

namespace yolact {

// e^x, at most 1 unit in the last place off, for every x, subnormal results included; infinities and NaN as
// std::exp gives them. x = n ln2 + r with |r| <= ln2 / 2; e^r by a polynomial; 2^n in two factors, each in range.
YOLACT_HD float exponential(float x) {
  constexpr float kLowest = -104.0f, kHighest = 89.0f;  // beyond: 0 and infinity, as the factors round them
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.69314575f, kLn2Low = 1.4286068e-6f;  // high has 15 bits: n * high is exact
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, in the low bits
  x = x < kLowest ? kLowest : x;
  x = x > kHighest ? kHighest : x;
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  // The minimax polynomial for (e^r - 1 - r) / r^2: relative error of e^r 3.1e-9.
  float p = 0.00138145988f;
  p = p * r + 0.00836871658f;
  p = p * r + 0.041668389f;
  p = p * r + 0.166665211f;
  p = p * r + 0.49999994f;
  const float result = 1.0f + (r + r * r * p);
  const int32_t power = static_cast<int32_t>(bits_of(shifted) - bits_of(kRound));  // nonsense for NaN, which stays NaN
  const int32_t half = power >> 1;
  const auto power_of_two = [](int32_t e) { return float_from_bits((static_cast<uint32_t>(e) + 127u) << 23); };
  return result * power_of_two(half) * power_of_two(power - half);
}

// 1 / (1 + e^-x).
YOLACT_HD float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

}  // namespace yolact
