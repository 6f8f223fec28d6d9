#include "bit_rows.h"

#include <cstring>

#include "level.h"

#ifdef YOLACT_X86_LEVELS
#include <immintrin.h>
#endif

namespace yolact::cpu {
namespace {

// Eight bytes of a word to eight bits: 0x80 where a byte is not zero, then gathered by one multiplication.
YOLACT_INLINE uint64_t pack_eight(uint64_t bytes) {
  constexpr uint64_t kLow = 0x7F7F7F7F7F7F7F7Fu;
  const uint64_t set = (((bytes & kLow) + kLow) | bytes) & ~kLow;
  return (set >> 7) * 0x0102040810204080u >> 56;
}

// Eight bits to eight bytes of 0 and 1: each byte keeps its own bit, and becomes 1 where that is set.
YOLACT_INLINE uint64_t unpack_eight(uint64_t bits) {
  const uint64_t own = bits * 0x0101010101010101u & 0x8040201008040201u;
  return (own + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
}

// Any stride.
void pack_apart(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y, int64_t stride_x,
                uint64_t* bits) {
  for (int64_t y = 0; y < height; ++y, pixels += stride_y) {
    for (int64_t x = 0; x < width; x += 64) {
      const int64_t count = width - x < 64 ? width - x : 64;
      uint64_t word = 0;
      for (int64_t i = 0; i < count; ++i) word |= uint64_t{pixels[(x + i) * stride_x] != 0} << i;
      *bits++ = word;
    }
  }
}

// One version of the packing a level, because each has its own way from a comparison to bits.
#ifdef YOLACT_X86_LEVELS
// Bytes ahead. The packing waits for memory; the hardware's own prefetching stops at the end of a page.
constexpr int64_t kPrefetch = 2048;

YOLACT_FOR_AVX512 void pack_avx512(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride,
                                   uint64_t* bits) {
  const int64_t last = words_of(width) - 1;
  const __mmask64 tail = ~uint64_t{0} >> (64 * (last + 1) - width);
  for (int64_t y = 0; y < height; ++y, pixels += stride, bits += last + 1) {
    for (int64_t j = 0; j < last; ++j) {
      _mm_prefetch(pixels + 64 * j + kPrefetch, _MM_HINT_T0);
      const __m512i v = _mm512_loadu_si512(pixels + 64 * j);
      bits[j] = _mm512_test_epi8_mask(v, v);
    }
    const __m512i v = _mm512_maskz_loadu_epi8(tail, pixels + 64 * last);
    bits[last] = _mm512_test_epi8_mask(v, v);
  }
}

YOLACT_FOR_AVX2 void pack_avx2(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride, uint64_t* bits) {
  const __m256i zero = _mm256_setzero_si256();
  alignas(32) uint8_t padded[64] = {};
  for (int64_t y = 0; y < height; ++y, pixels += stride) {
    for (int64_t x = 0; x < width; x += 64) {
      const uint8_t* from = pixels + x;
      _mm_prefetch(from + kPrefetch, _MM_HINT_T0);
      if (width - x < 64) from = static_cast<uint8_t*>(std::memcpy(padded, from, width - x));
      const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
      const uint32_t low_zeros = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, zero));
      const uint32_t high_zeros = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, zero));
      *bits++ = ~(uint64_t{high_zeros} << 32 | low_zeros);
    }
  }
}

YOLACT_FOR_AVX512 void unpack_avx512(const uint64_t* bits, int64_t height, int64_t width, uint8_t* pixels) {
  const __m512i one = _mm512_set1_epi8(1);
  const int64_t last = words_of(width) - 1;
  const __mmask64 tail = ~uint64_t{0} >> (64 * (last + 1) - width);
  for (int64_t y = 0; y < height; ++y, pixels += width, bits += last + 1) {
    for (int64_t j = 0; j < last; ++j) _mm512_storeu_si512(pixels + 64 * j, _mm512_maskz_mov_epi8(bits[j], one));
    _mm512_mask_storeu_epi8(pixels + 64 * last, tail, _mm512_maskz_mov_epi8(bits[last], one));
  }
}
#endif

void pack_plain(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride, uint64_t* bits) {
  for (int64_t y = 0; y < height; ++y, pixels += stride) {
    for (int64_t x = 0; x < width; x += 64) {
      const int64_t count = width - x < 64 ? width - x : 64;
      uint64_t word = 0;
      for (int64_t i = 0; i < count; i += 8) {
        uint64_t bytes = 0;
        std::memcpy(&bytes, pixels + x + i, count - i < 8 ? count - i : 8);
        word |= pack_eight(bytes) << i;
      }
      *bits++ = word;
    }
  }
}

void unpack_plain(const uint64_t* bits, int64_t height, int64_t width, uint8_t* pixels) {
  for (int64_t y = 0; y < height; ++y, pixels += width, bits += words_of(width)) {
    for (int64_t x = 0; x < width; x += 8) {
      const uint64_t eight = unpack_eight(bits[x / 64] >> x % 64 & 255);
      std::memcpy(pixels + x, &eight, width - x < 8 ? width - x : 8);
    }
  }
}

}  // namespace

void pack_rows(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y, int64_t stride_x,
               uint64_t* bits) {
  if (stride_x != 1) return pack_apart(pixels, height, width, stride_y, stride_x, bits);
#ifdef YOLACT_X86_LEVELS
  if (level() == Level::kAvx512) return pack_avx512(pixels, height, width, stride_y, bits);
  if (level() == Level::kAvx2) return pack_avx2(pixels, height, width, stride_y, bits);
#endif
  pack_plain(pixels, height, width, stride_y, bits);
}

void unpack_rows(const uint64_t* bits, int64_t height, int64_t width, uint8_t* pixels) {
#ifdef YOLACT_X86_LEVELS
  if (level() == Level::kAvx512) return unpack_avx512(bits, height, width, pixels);
#endif
  unpack_plain(bits, height, width, pixels);
}

}  // namespace yolact::cpu
