#include "bit_rows.h"

#include <memory>
#include <vector>

#include "../common/clones.h"

#ifdef YOLACT_X86_VERSIONS
#include <immintrin.h>
#endif

namespace yolact::cpu {
namespace {

using Words = uint64_t __attribute__((vector_size(64), aligned(8), may_alias));  // eight, at any address

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

// The rows of a 64 x 64 block swap, for one J, the blocks of J x J bits that lie across the diagonal; six such steps
// transpose. From J = 8 on the partner of a row lies in another vector of eight.
template <int J>
YOLACT_INLINE void swap_between(Words* block, uint64_t mask) {
  for (int i = 0; i < 8; ++i) {
    if (i & J / 8) continue;
    const Words swapped = ((block[i] >> J) ^ block[i + J / 8]) & mask;
    block[i] ^= swapped << J;
    block[i + J / 8] ^= swapped;
  }
}

// Below 8 it lies in the same vector, J lanes away: rows without bit J take its low columns, the others its high ones.
template <int J>
YOLACT_INLINE void swap_within(Words* block, uint64_t mask) {
  Words from, low_rows;
  for (int i = 0; i < 8; ++i) {
    from[i] = i ^ J;
    low_rows[i] = i & J ? 0 : ~uint64_t{0};
  }
  const Words keep = (low_rows & mask) | (~low_rows & ~mask), rise = low_rows & ~mask, fall = ~low_rows & mask;
  for (int i = 0; i < 8; ++i) {
    const Words partner = __builtin_shuffle(block[i], from);
    block[i] = (block[i] & keep) | (partner << J & rise) | (partner >> J & fall);
  }
}

YOLACT_INLINE void transpose(uint64_t* rows) {
  Words block[8];
  std::memcpy(block, rows, sizeof block);
  swap_between<32>(block, 0x00000000FFFFFFFFu);
  swap_between<16>(block, 0x0000FFFF0000FFFFu);
  swap_between<8>(block, 0x00FF00FF00FF00FFu);
  swap_within<4>(block, 0x0F0F0F0F0F0F0F0Fu);
  swap_within<2>(block, 0x3333333333333333u);
  swap_within<1>(block, 0x5555555555555555u);
  std::memcpy(rows, block, sizeof block);
}

// Turns up to 64 rows of pixels into the places where a pixel differs from the one above it, in place, and tells
// which columns have any. `above` holds the row above, then the last one.
template <class T>
YOLACT_INLINE void differ(uint64_t* bits, int64_t rows, int64_t words, uint64_t* above, uint64_t* changed) {
  T previous = *reinterpret_cast<T*>(above), any{};
  for (int64_t r = 0; r < rows; ++r, bits += words) {
    T* row = reinterpret_cast<T*>(bits);
    const T pixels = *row;
    *row = pixels ^ previous;
    any |= pixels ^ previous;
    previous = pixels;
  }
  *reinterpret_cast<T*>(above) = previous;
  *reinterpret_cast<T*>(changed) = any;
}

// Finding flips and writing them are loops of their own: together they want more registers than there are.
class FlipQueue {
 public:
  YOLACT_INLINE FlipQueue(uint8_t* output, int64_t capacity) : writer_(output, capacity) {}

  // The set bits of `changes`, the lowest of which is at flat index `first`.
  YOLACT_INLINE void push(int64_t first, uint64_t changes) {
    for (; changes; changes &= changes - 1) positions_[count_++] = first + __builtin_ctzll(changes);
    if (count_ > kSize - 64) write();
  }

  YOLACT_INLINE int64_t finish(int64_t pixels) {
    write();
    return writer_.finish(pixels);
  }

 private:
  YOLACT_INLINE void write() {
    RunWriter writer = writer_;
    for (int i = 0; i < count_; ++i) writer.flip(positions_[i]);
    writer_ = writer;
    count_ = 0;
  }

  static constexpr int kSize = 1024;  // a few kB of stack
  RunWriter writer_;
  int count_ = 0;
  int64_t positions_[kSize];
};

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

}  // namespace

// One version of the packing a level, because each has its own way from a comparison to bits.
namespace versions {
#ifdef YOLACT_X86_VERSIONS
// Bytes ahead. The packing waits for memory; the hardware's own prefetching stops at the end of a page.
constexpr int64_t kPrefetch = 2048;

bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512bw");
  return has;
}

bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}

__attribute__((target("avx512bw"))) void pack_avx512(const uint8_t* pixels, int64_t height, int64_t width,
                                                     int64_t stride, uint64_t* bits) {
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

__attribute__((target("avx2"))) void pack_avx2(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride,
                                               uint64_t* bits) {
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

__attribute__((target("avx512bw"))) void unpack_avx512(const uint64_t* bits, int64_t height, int64_t width,
                                                       uint8_t* pixels) {
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

}  // namespace versions

void pack_rows(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y, int64_t stride_x,
               uint64_t* bits) {
  if (stride_x != 1) return pack_apart(pixels, height, width, stride_y, stride_x, bits);
#ifdef YOLACT_X86_VERSIONS
  if (versions::has_avx512()) return versions::pack_avx512(pixels, height, width, stride_y, bits);
  if (versions::has_avx2()) return versions::pack_avx2(pixels, height, width, stride_y, bits);
#endif
  versions::pack_plain(pixels, height, width, stride_y, bits);
}

void unpack_rows(const uint64_t* bits, int64_t height, int64_t width, uint8_t* pixels) {
#ifdef YOLACT_X86_VERSIONS
  if (versions::has_avx512()) return versions::unpack_avx512(bits, height, width, pixels);
#endif
  versions::unpack_plain(bits, height, width, pixels);
}

YOLACT_CLONES int64_t write_bit_rows(uint64_t* bits, const BitWindow& window, uint8_t* output, int64_t capacity) {
  const int64_t pixels = window.picture_height * window.picture_width;
  FlipQueue flips(output, capacity);
  if (window.width <= 0 || window.height <= 0) return flips.finish(pixels);

  // A row of changes more than the window has: below it everything is 0. Where the window reaches from top to
  // bottom there is no such row; the pixel before a column's first one is the last one of the column before it.
  const int64_t words = words_of(window.width), height = window.height;
  const bool full = height == window.picture_height;
  const int64_t blocks = (height + !full + 63) / 64;
  std::vector<uint64_t> above(words), below(bits + (height - 1) * words, bits + height * words);
  const bool wraps = full && below[(window.width - 1) / 64] >> ((window.width - 1) % 64) & 1;
  if (full) {
    for (int64_t j = 0; j < words; ++j) above[j] = below[j] << 1 | (j > 0 ? below[j - 1] >> 63 : 0);
    if (window.width % 64) above[words - 1] &= ~(~uint64_t{0} << window.width % 64);
  }

  std::vector<uint64_t> changed(blocks * words);  // which columns of a block have changes
  for (int64_t b = 0; b * 64 < height; ++b) {
    uint64_t* rows = bits + b * 64 * words;
    const int64_t count = height - b * 64 < 64 ? height - b * 64 : 64;
    int64_t j = 0;
    for (; j + 8 <= words; j += 8) differ<Words>(rows + j, count, words, &above[j], &changed[b * words + j]);
    for (; j < words; ++j) differ<uint64_t>(rows + j, count, words, &above[j], &changed[b * words + j]);
  }
  if (!full)
    for (int64_t j = 0; j < words; ++j) changed[(blocks - 1) * words + j] |= below[j];

  // Column by column, 64 at a time: the blocks with changes are transposed, the others never looked at.
  std::unique_ptr<uint64_t[]> columns(new uint64_t[blocks * 64]);
  std::vector<int64_t> block_top(blocks);
  for (int64_t j = 0; j < words; ++j) {
    int64_t used = 0;
    uint64_t any = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      if (changed[b * words + j] == 0) continue;
      any |= changed[b * words + j];
      uint64_t* block = &columns[64 * used];
      const uint64_t* rows = bits + b * 64 * words + j;
      const int64_t count = height - b * 64 < 64 ? height - b * 64 : 64;
      for (int64_t r = 0; r < count; ++r) block[r] = rows[r * words];
      for (int64_t r = count; r < 64; ++r) block[r] = 0;
      if (!full && count < 64) block[count] = below[j];
      transpose(block);
      block_top[used++] = b * 64;
    }
    for (; any; any &= any - 1) {
      const int x = __builtin_ctzll(any);
      const int64_t top = (window.x + 64 * j + x) * window.picture_height + window.y;
      for (int64_t b = 0; b < used; ++b) flips.push(top + block_top[b], columns[64 * b + x]);
    }
  }
  if (wraps) flips.push((window.x + window.width) * window.picture_height, 1);
  return flips.finish(pixels);
}

YOLACT_CLONES int64_t write_bit_columns(const uint64_t* bits, int64_t width, int64_t height, uint8_t* output,
                                        int64_t capacity) {
  FlipQueue flips(output, capacity);
  const int64_t words = words_of(height);
  const uint64_t unused = height % 64 ? ~uint64_t{0} << height % 64 : 0;
  std::unique_ptr<uint64_t[]> changes(new uint64_t[words]);
  uint64_t before = 0;  // the pixel before the column
  for (int64_t x = 0; x < width; ++x, bits += words) {
    changes[0] = bits[0] ^ (bits[0] << 1 | before);
    for (int64_t j = 1; j < words; ++j) changes[j] = bits[j] ^ (bits[j] << 1 | bits[j - 1] >> 63);
    changes[words - 1] &= ~unused;
    before = bits[words - 1] >> (height - 1) % 64;
    int64_t j = 0;
    for (; j + 8 <= words; j += 8) {
      const uint64_t* eight = &changes[j];
      if (!(eight[0] | eight[1] | eight[2] | eight[3] | eight[4] | eight[5] | eight[6] | eight[7])) continue;
      for (int64_t k = 0; k < 8; ++k) flips.push(x * height + 64 * (j + k), eight[k]);
    }
    for (; j < words; ++j) flips.push(x * height + 64 * j, changes[j]);
  }
  return flips.finish(width * height);
}

}  // namespace yolact::cpu
