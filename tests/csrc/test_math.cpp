// Elementary functions within the errors they state, the half types against their definitions, and the parallel loop.
#include <cmath>
#include <stdexcept>
#include <vector>

#include "../../csrc/common/half.h"
#include "../../csrc/common/math.h"
#include "../../csrc/common/parallel.h"
#include "check.h"

using namespace yolact;

static void exponential_is_within_one_unit() {
  double worst = 0;
  bool same_specials = true;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 1021) {
    const float x = float_from_bits(static_cast<uint32_t>(bits));
    const double exact = std::exp(static_cast<double>(x));
    const float rounded = static_cast<float>(exact), value = exponential(x);
    if (std::isnan(x) || std::isinf(rounded)) {
      same_specials = same_specials && std::isnan(value) == std::isnan(rounded) && (value == rounded || std::isnan(x));
      continue;
    }
    const double unit = static_cast<double>(std::nextafter(rounded, INFINITY)) - static_cast<double>(rounded);
    worst = std::fmax(worst, std::fabs(value - exact) / unit);
  }
  CHECK(worst > 0 && worst < 1.0);
  CHECK(same_specials);
  CHECK(exponential(0.0f) == 1.0f);
  CHECK(exponential(-INFINITY) == 0.0f);
  CHECK(std::isinf(exponential(INFINITY)));
  CHECK(sigmoid(0.0f) == 0.5f && sigmoid(-200.0f) == 0.0f && sigmoid(200.0f) == 1.0f);
}

// Of doubles, beside a library's of more digits; and rounded to float as every library's would be.
static void exponential_of_doubles_is_within_its_error() {
  double worst = 0;
  for (int i = 0; i <= 1000000; ++i) {
    const double x = -708.0 + 1417.7e-6 * i;
    const long double exact = std::exp(static_cast<long double>(x));
    const double rounded = static_cast<double>(exact);
    const double unit = std::nextafter(rounded, INFINITY) - rounded;
    worst = std::fmax(worst, static_cast<double>(std::fabs(exponential(x) - exact)) / unit);
  }
  CHECK(worst > 0 && worst < 1.1);
  bool same = true;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 1021) {
    const double x = float_from_bits(static_cast<uint32_t>(bits));
    const float rounded = static_cast<float>(std::exp(x)), value = static_cast<float>(exponential(x));
    same = same && (value == rounded || (std::isnan(x) && std::isnan(value)));
  }
  CHECK(same);
  CHECK(exponential(0.0) == 1.0 && exponential(-0.0) == 1.0);
  CHECK(exponential(-745.0) == std::exp(-745.0) && exponential(-INFINITY) == 0.0 && exponential(-1e300) == 0.0);
  CHECK(std::isinf(exponential(709.8)) && std::isinf(exponential(INFINITY)) && std::isnan(exponential(-double{NAN})));
}

static void logarithm_is_within_one_unit_and_a_half() {
  double worst = 0;
  for (uint32_t bits = 0; bits <= bits_of(1.0f); bits += 509) {
    const float t = float_from_bits(bits);
    const double exact = std::log1p(static_cast<double>(t));
    const float rounded = static_cast<float>(exact);
    const double unit = static_cast<double>(std::nextafter(rounded, INFINITY)) - static_cast<double>(rounded);
    worst = std::fmax(worst, std::fabs(log1p_of_fraction(t) - exact) / unit);
  }
  CHECK(worst > 0 && worst < 1.5);
  CHECK(std::isnan(log1p_of_fraction(NAN)));
}

static void half_types_are_what_their_bits_say() {
  bool half = true, bfloat16 = true;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                             : exponent == 0 ? std::ldexp(mantissa, -24)
                                             : std::ldexp(1024 + mantissa, exponent - 25);
    const double expected = bits & 0x8000 ? -magnitude : magnitude;
    const float value = half_to_float(static_cast<uint16_t>(bits));
    half = half && (std::isnan(expected) ? std::isnan(value)
                                         : value == expected && std::signbit(value) == std::signbit(expected));
    bfloat16 = bfloat16 && bits_of(bfloat16_to_float(static_cast<uint16_t>(bits))) == bits << 16;
  }
  CHECK(half);
  CHECK(bfloat16);
}

// Whether no neighbour of the half value is nearer, or as near and even.
static bool is_rounded(float value, uint16_t bits, float (*widen)(uint16_t)) {
  const double exact = value, found = widen(bits);
  for (const int step : {-1, 1}) {
    if ((bits & 0x7fff) == 0 && step < 0) continue;
    const double other = widen(static_cast<uint16_t>(bits + step));
    const double here = std::fabs(exact - found), there = std::fabs(exact - other);
    if (!std::isnan(other) && (there < here || (there == here && bits % 2 == 1))) return false;
  }
  return std::signbit(found) == std::signbit(exact);
}

static void half_types_round_to_the_nearest() {
  bool half = true, bfloat16 = true;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4093) {
    const float value = float_from_bits(static_cast<uint32_t>(bits));
    if (std::isnan(value)) {
      half = half && std::isnan(half_to_float(float_to_half(value)));
      bfloat16 = bfloat16 && std::isnan(bfloat16_to_float(float_to_bfloat16(value)));
    } else if (std::fabs(value) < 65504.0f) {
      half = half && is_rounded(value, float_to_half(value), half_to_float);
    } else {
      const float nearest = std::fabs(value) < 65520.0f ? 65504.0f : INFINITY;
      half = half && half_to_float(float_to_half(value)) == std::copysign(nearest, value);
    }
    if (std::fabs(value) < 3.3e38f)
      bfloat16 = bfloat16 && is_rounded(value, float_to_bfloat16(value), bfloat16_to_float);
  }
  for (uint32_t bits = 0; bits < 65536; ++bits) {  // and ties between every two values
    const uint16_t low = static_cast<uint16_t>(bits), even = static_cast<uint16_t>(bits + bits % 2);
    if ((bits & 0x7fff) < 0x7bff) {
      const float middle = (half_to_float(low) + half_to_float(static_cast<uint16_t>(low + 1))) / 2.0f;
      half = half && float_to_half(middle) == even && float_to_half(half_to_float(low)) == low;
    }
    if ((bits & 0x7fff) < 0x7f7f)
      bfloat16 = bfloat16 && float_to_bfloat16(float_from_bits(bits << 16 | 0x8000)) == even &&
                 float_to_bfloat16(bfloat16_to_float(low)) == low;
  }
  CHECK(half && float_to_half(65520.0f) == 0x7c00 && float_to_half(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
  CHECK(bfloat16 && float_to_bfloat16(INFINITY) == 0x7f80 && float_to_bfloat16(3.4e38f) == 0x7f80);
}

// Workers one after another: what counts here is that the first leaves the others nothing, or an exception.
static Parallel workers(int count) {
  return {count, [](int64_t items, int64_t, const Range& body) {
            for (int64_t i = 0; i < items; ++i) body(i, i + 1);
          }};
}

static void for_each_runs_each_item_once_and_carries_exceptions() {
  std::vector<int> runs(1000);
  for_each(workers(3), 1000, [&](int64_t i) { ++runs[i]; });
  bool once = true;
  for (const int count : runs) once = once && count == 1;
  CHECK(once);
  bool caught = false;
  try {
    for_each(workers(3), 1000, [&](int64_t i) {
      if (i >= 10) throw std::runtime_error("out of memory, say");
    });
  } catch (const std::runtime_error&) {
    caught = true;
  }
  CHECK(caught);
}

int main() {
  exponential_is_within_one_unit();
  exponential_of_doubles_is_within_its_error();
  logarithm_is_within_one_unit_and_a_half();
  half_types_are_what_their_bits_say();
  half_types_round_to_the_nearest();
  for_each_runs_each_item_once_and_carries_exceptions();
  return failures();
}
