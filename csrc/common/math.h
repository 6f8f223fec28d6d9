// Elementary functions that give the same bits on every processor and vectorise in the loops that call them:
// no branch, no table, no contraction.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

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

YOLACT_HD double double_from_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

YOLACT_HD uint64_t bits_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// The same of doubles, less than 1.1 units off. Libraries' exponentials differ in their last bits, this one nowhere.
// e^r is its Taylor series; the first term that is left out is below 2^-57.
YOLACT_HD double exponential(double x) {
  constexpr double kLowest = -746.0, kHighest = 710.0;
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;  // high has 32 bits
  constexpr double kRound = 0x1.8p52;
  x = x < kLowest ? kLowest : x;
  x = x > kHighest ? kHighest : x;
  const double shifted = x * kLog2E + kRound;
  const double n = shifted - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double p = 1.0 / 6227020800.0;  // 1 / 13!
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  const double result = 1.0 + (r + r * r * p);
  const int32_t power = static_cast<int32_t>(bits_of(shifted) - bits_of(kRound));
  const int32_t half = power >> 1;
  const auto power_of_two = [](int32_t e) { return double_from_bits(static_cast<uint64_t>(e + 1023) << 52); };
  return result * power_of_two(half) * power_of_two(power - half);
}

// log(1 + t) for 0 <= t <= 1, less than 1.5 units in the last place off; NaN stays NaN. By the area tangent of
// s = t / (2 + t), at most a third: 2 artanh(s) = 2 s + 2 s^3 Q(s^2), and 2 s = t - s t, which rounds less.
YOLACT_HD float log1p_of_fraction(float t) {
  const float s = t / (2.0f + t), u = s * s;
  // The minimax polynomial for (artanh(s) / s - 1) / s^2: relative error of the logarithm 1.2e-10.
  float q = 0.121504582f;
  q = q * u + 0.107138313f;
  q = q * u + 0.143084422f;
  q = q * u + 0.199994385f;
  q = q * u + 0.333333373f;
  return t - s * (t - 2.0f * u * q);
}

// 1 / (1 + e^-x).
YOLACT_HD float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// The largest margin by which the best foreground logit f may exceed the background's, f - b, without its softmax
// probability, as `score` computes it, being above the threshold t: such priors need no exponential.
//
// The true probability is at most s(f - b) with s(d) = 1 / (1 + e^-d), whose logarithm has a falling slope 1 - s(d).
// So at d <= ln(t / (1 - t)) - m it is at most t e^(-m (1 - t)), and m = e / (1 - t) makes up for a relative error e.
// The computed probability is off by one unit of 2^-23 for the exponential above, one for those in the sum, a half
// for the sum, whose additions in double weigh nothing, and a half for the division: 3 of them, for which 4 are
// allowed. The difference f - b and this function's result are rounded, too, which is relative to the margin itself.
inline float safe_margin(float threshold) {
  const double t = threshold;
  if (!(t >= std::numeric_limits<float>::min()))     // at subnormal scores errors are no longer relative:
    return std::numeric_limits<float>::quiet_NaN();  // no margin is safe, and nothing is at most NaN
  if (t >= 1.0) return std::numeric_limits<float>::infinity();
  const double unit = 1.0 / (1 << 23);
  const double error = 4.0 * unit;
  const double margin = std::log(t / (1.0 - t));
  return static_cast<float>(margin - error / (1.0 - t) - 2.0 * unit * std::fabs(margin));
}

}  // namespace yolact
