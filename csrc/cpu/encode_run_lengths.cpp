// Dense masks to COCO strings. The pixels are read once, in the order in which they lie, and become bits, so that a
// mask stays in a core's own cache from there on. Column-major bits hold the flips in their order. Of row-major ones
// each row is compared with the row above; the 64 x 64 blocks of which any bit differs, few of them in a mask that
// shows an object, are transposed, and the flips read off them column by column. Bytes moved: the masks once.
#include "../common/encode_run_lengths.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "../common/run_lengths.h"
#include "bit_rows.h"
#include "level.h"

namespace yolact::cpu {
namespace {

using Words = uint64_t __attribute__((vector_size(64), aligned(8), may_alias));  // eight, at any address

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
    writer.flips(positions_, count_);
    writer_ = writer;
    count_ = 0;
  }

  static constexpr int kSize = 1024;  // a few kB of stack
  RunWriter writer_;
  int count_ = 0;
  int64_t positions_[kSize];
};

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
  Words low_rows;
  for (int i = 0; i < 8; ++i) low_rows[i] = i & J ? 0 : ~uint64_t{0};
  const Words keep = (low_rows & mask) | (~low_rows & ~mask), rise = low_rows & ~mask, fall = ~low_rows & mask;
  for (int i = 0; i < 8; ++i) {
    const Words& b = block[i];
    const Words partner = {b[0 ^ J], b[1 ^ J], b[2 ^ J], b[3 ^ J], b[4 ^ J], b[5 ^ J], b[6 ^ J], b[7 ^ J]};
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

// The string of a mask whose pixels lie side by side along a row.
YOLACT_INLINE int64_t encode_rows(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y,
                                  int64_t stride_x, uint8_t* output, int64_t capacity) {
  const int64_t words = words_of(width), blocks = words_of(height);
  std::unique_ptr<uint64_t[]> bits(new uint64_t[height * words]);
  pack_rows(pixels, height, width, stride_y, stride_x, bits.get());

  // The pixel before a column's first one is the last one of the column before it.
  std::vector<uint64_t> above(words);
  const uint64_t* bottom = &bits[(height - 1) * words];
  for (int64_t j = 0; j < words; ++j) above[j] = bottom[j] << 1 | (j > 0 ? bottom[j - 1] >> 63 : 0);
  if (width % 64) above[words - 1] &= ~(~uint64_t{0} << width % 64);

  std::vector<uint64_t> changed(blocks * words);  // which columns of 64 rows have changes
  for (int64_t b = 0; b < blocks; ++b) {
    uint64_t* rows = &bits[b * 64 * words];
    const int64_t count = std::min<int64_t>(64, height - b * 64);
    int64_t j = 0;
    for (; j + 8 <= words; j += 8) differ<Words>(rows + j, count, words, &above[j], &changed[b * words + j]);
    for (; j < words; ++j) differ<uint64_t>(rows + j, count, words, &above[j], &changed[b * words + j]);
  }

  FlipQueue flips(output, capacity);
  std::unique_ptr<uint64_t[]> columns(new uint64_t[blocks * 64]);  // 64 columns: their transposed blocks
  std::vector<int64_t> block_top(blocks);
  for (int64_t j = 0; j < words; ++j) {
    int64_t used = 0;
    uint64_t any = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      if (changed[b * words + j] == 0) continue;
      any |= changed[b * words + j];
      uint64_t* block = &columns[64 * used];
      const uint64_t* rows = &bits[b * 64 * words + j];
      const int64_t count = std::min<int64_t>(64, height - b * 64);
      for (int64_t r = 0; r < count; ++r) block[r] = rows[r * words];
      for (int64_t r = count; r < 64; ++r) block[r] = 0;
      transpose(block);
      block_top[used++] = b * 64;
    }
    for (; any; any &= any - 1) {
      const int x = __builtin_ctzll(any);
      const int64_t top = (64 * j + x) * height;
      for (int64_t b = 0; b < used; ++b) flips.push(top + block_top[b], columns[64 * b + x]);
    }
  }
  return flips.finish(height * width);
}

// The string of a mask whose pixels lie side by side along a column.
YOLACT_INLINE int64_t encode_columns(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y,
                                     int64_t stride_x, uint8_t* output, int64_t capacity) {
  constexpr int64_t kChunk = 4096;  // pixels at a time: a page
  uint64_t bits[kChunk / 64], changes[kChunk / 64];
  uint64_t before = 0;  // the pixel before the chunk
  FlipQueue flips(output, capacity);
  for (int64_t x = 0; x < width; ++x) {
    for (int64_t y = 0; y < height; y += kChunk) {
      const int64_t count = std::min(kChunk, height - y), words = words_of(count), first = x * height + y;
      pack_rows(pixels + x * stride_x + y * stride_y, 1, count, 0, stride_y, bits);
      changes[0] = bits[0] ^ (bits[0] << 1 | before);
      for (int64_t j = 1; j < words; ++j) changes[j] = bits[j] ^ (bits[j] << 1 | bits[j - 1] >> 63);
      if (count % 64) changes[words - 1] &= ~(~uint64_t{0} << count % 64);
      before = bits[words - 1] >> (count - 1) % 64;
      int64_t j = 0;
      for (; j + 8 <= words; j += 8) {
        const uint64_t* eight = changes + j;
        if (!(eight[0] | eight[1] | eight[2] | eight[3] | eight[4] | eight[5] | eight[6] | eight[7])) continue;
        for (int64_t k = j; k < j + 8; ++k) flips.push(first + 64 * k, changes[k]);
      }
      for (; j < words; ++j) flips.push(first + 64 * j, changes[j]);
    }
  }
  return flips.finish(height * width);
}

}  // namespace

int64_t encode_mask(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y, int64_t stride_x,
                    uint8_t* output, int64_t capacity) {
  if (height == 0 || width == 0) return RunWriter(output, capacity).finish(0);
  if (stride_y == 1 && stride_x == height)  // one long column
    return at_level<encode_columns>(pixels, height * width, 1, 1, 0, output, capacity);
  const auto distance = [](int64_t stride) { return stride < 0 ? -stride : stride; };
  const bool along_rows = stride_x == 1 || (stride_y != 1 && distance(stride_x) < distance(stride_y));
  return along_rows ? at_level<encode_rows>(pixels, height, width, stride_y, stride_x, output, capacity)
                    : at_level<encode_columns>(pixels, height, width, stride_y, stride_x, output, capacity);
}

void encode_run_lengths(const EncodeRunLengthsArguments& a, const Parallel& parallel) {
  for_each(parallel, a.count, [&](int64_t i) {
    uint8_t* output = a.data + i * a.capacity;
    const int64_t needed =
        encode_mask(a.masks + i * a.stride[0], a.height, a.width, a.stride[1], a.stride[2], output, a.capacity);
    a.needed[i] = needed;
    a.length[i] = needed <= a.capacity ? needed : 0;
    std::memset(output + a.length[i], 0, static_cast<size_t>(a.capacity - a.length[i]));
    a.size[2 * i] = a.height;
    a.size[2 * i + 1] = a.width;
  });
}

}  // namespace yolact::cpu
