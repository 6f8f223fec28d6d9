// Masks as rows of bits: pixel x of a row is bit x % 64 of word x / 64, and bits past the width are 0. An eighth
// of the bytes, so that a mask stays in a core's own cache between the pixels and the string.
#pragma once

#include <cstdint>

namespace yolact::cpu {

constexpr int64_t words_of(int64_t width) { return (width + 63) / 64; }

// The bits of `height` rows of pixels that are zero or not; strides in bytes. Fast where stride_x is 1.
void pack_rows(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y, int64_t stride_x,
               uint64_t* bits);

// The reverse: bytes of 0 and 1.
void unpack_rows(const uint64_t* bits, int64_t height, int64_t width, uint8_t* pixels);

}  // namespace yolact::cpu
