// The half types as raw bits, widened and rounded without a branch, so that loops over them vectorise; on a GPU, whose
// one instruction for float16 gives the same numbers, by that.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace yolact {

YOLACT_HD float float_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

YOLACT_HD uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

YOLACT_HD float bfloat16_to_float(uint16_t bits) { return float_from_bits(static_cast<uint32_t>(bits) << 16); }

// Subnormal, infinite and NaN values included.
YOLACT_HD float half_to_float(uint16_t bits) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t rest = static_cast<uint32_t>(bits & 0x7fffu) << 13;  // exponent and mantissa, in a float's places
  const uint32_t exponent = rest & (0x1fu << 23);
  const uint32_t rebias = (127u - 15u) << 23;
  const uint32_t normal = rest + rebias;
  const uint32_t special = normal + rebias;  // infinity and NaN have the exponent of all ones
  // A subnormal has no leading one: give it that of 2^-14 and subtract it again, which is exact.
  const uint32_t leading = (127u - 14u) << 23;
  const uint32_t subnormal = bits_of(float_from_bits(rest + leading) - float_from_bits(leading));
  return float_from_bits(sign | (exponent == 0 ? subnormal : exponent == (0x1fu << 23) ? special : normal));
#endif
}

// Rounded to the nearest, ties to even, as torch does it; NaN stays NaN.
YOLACT_HD uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  return static_cast<uint16_t>(value != value ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

YOLACT_HD uint16_t float_to_half(float value) {
#if defined(__CUDA_ARCH__)
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
  return half;
#else
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
  const uint32_t rebias = (127u - 15u) << 23;
  const uint32_t normal = (magnitude - rebias + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  // Below 2^-14 a unit is 2^-24, which is that of a float at a half: adding one rounds to it.
  const uint32_t subnormal = bits_of(float_from_bits(magnitude) + 0.5f) - bits_of(0.5f);
  const uint32_t infinite = 0x7c00u, nan = 0x7e00u;
  const uint32_t rounded = magnitude < (rebias + (1u << 23)) ? subnormal  // below 2^-14
                           : magnitude < 0x477ff000u         ? normal     // below 65520, half a unit past the largest
                           : value != value                  ? nan
                                                             : infinite;
  return static_cast<uint16_t>((bits >> 16 & 0x8000u) | rounded);
#endif
}

enum class FloatType : int32_t { kFloat32, kFloat16, kBFloat16 };

YOLACT_HD float load_float(const void* data, int64_t index, FloatType type) {
  if (type == FloatType::kFloat32) return static_cast<const float*>(data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(data)[index];
  return type == FloatType::kFloat16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

YOLACT_HD void store_float(void* data, int64_t index, FloatType type, float value) {
  if (type == FloatType::kFloat32) {
    static_cast<float*>(data)[index] = value;
  } else {
    static_cast<uint16_t*>(data)[index] = type == FloatType::kFloat16 ? float_to_half(value) : float_to_bfloat16(value);
  }
}

}  // namespace yolact
