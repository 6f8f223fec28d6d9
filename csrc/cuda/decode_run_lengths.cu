// COCO strings [M, capacity] to masks [M, H, W] of one size, in two launches with the flips in between: flip k is the
// flat index, column by column, at which run k ends.
//
// Launch 1 reads the strings: a block a row, a thread a character, 256 at a time. A character without bit 5 ends a
// number; its thread gathers the number from the characters before it. Numbers are differences to the one two before,
// so the counts are sums over the odd and over the even numbers, and the flips are sums of the counts: scans over the
// block. The first error in reading order is kept, and the row's mask is empty then.
// Launch 2 writes the masks: a block 32 rows. A thread a column searches the column's first flip, then walks on, and so
// has the column's 32 pixels as a word; ballots turn the words of 32 columns into bits along the rows, in shared
// memory; from those each thread spreads 16 bits at a time to 16 bytes and stores them at once. Rows follow each other
// without a gap, so only a block's first and last few bytes are stored singly.
//
// Bytes: the strings, four bytes a run written and read (mostly from the caches), the masks once. 100 masks of
// 550 x 550: 30 MB written, about 2 operations a byte: bound by that, and by launch 1's scans before it.
#include "../common/decode_run_lengths.h"
#include "launch.cuh"
#include "scan.cuh"
#include "words.cuh"

namespace yolact::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = kWarp;       // of the masks, a block
constexpr int kMaxColumns = 2048;  // of the masks, a block: 8 KB of shared memory

// The flips of all rows, and how many each has.
struct Flips {
  Flips(const DecodeRunLengthsArguments& a, void* workspace)
      : count(static_cast<int64_t*>(workspace)), position(reinterpret_cast<uint32_t*>(count + a.count)) {}

  int64_t* count;      // [count]
  uint32_t* position;  // [count, capacity]
};

// The number whose last character is text[i], and in `characters` how many it has; one more than a number may have
// where it has too many.
__device__ __forceinline__ int64_t number_before(const uint8_t* text, int64_t i, int* characters) {
  int64_t value = (((text[i] - 48) & 31) ^ 16) - 16;
  int n = 1;
  for (; n <= kMaxCharacters && n <= i && ((text[i - n] - 48) & 32); ++n)
    value = 32 * value + ((text[i - n] - 48) & 31);
  *characters = n;
  return value;
}

__global__ void __launch_bounds__(kThreads) read_strings(DecodeRunLengthsArguments a, Flips flips) {
  const int64_t row = blockIdx.x, pixels = a.height * a.width;
  const uint8_t* text = a.data + row * a.capacity;
  const RunError wrong = check_row(a, row);
  const int64_t length = wrong == RunError::kNone ? a.length[row] : 0;
  int64_t numbers = 0, odd = 0, even = 0, position = 0;  // so far: how many, the sums of both kinds, the last flip
  bool is_broken = false;                                // the same in all threads
  for (int64_t first = 0; first == 0 || (first < length && !is_broken); first += kThreads) {
    const int64_t i = first + threadIdx.x;
    RunError error = wrong;
    bool ends = false;
    int64_t value = 0;
    if (i < length) {
      int characters;
      const int64_t number = number_before(text, i, &characters);
      ends = !((text[i] - 48) & 32);
      if (ends) value = number;
      if (text[i] < 48 || text[i] >= 48 + 64 || characters > kMaxCharacters)
        error = RunError::kCharacter;
      else if (!ends && i == length - 1)
        error = RunError::kUnfinished;
    }

    int all_numbers, all_errors;
    int64_t all_odd, all_even, all_counts;
    const int64_t k = numbers + block_exclusive_sum<kThreads>(static_cast<int>(ends), &all_numbers);
    const bool is_odd = k % 2 != 0, is_even = !is_odd && k > 0;  // no difference is taken to the first
    const int64_t before_odd = odd + block_exclusive_sum<kThreads>(is_odd ? value : 0, &all_odd);
    const int64_t before_even = even + block_exclusive_sum<kThreads>(is_even ? value : 0, &all_even);
    const int64_t count = ends ? value + (is_odd ? before_odd : is_even ? before_even : 0) : 0;
    const int64_t begin = position + block_exclusive_sum<kThreads>(count, &all_counts);
    if (ends) flips.position[row * a.capacity + k] = static_cast<uint32_t>(begin + count);

    // What comes after the first error means nothing, but up to there all is right.
    if (error == RunError::kNone && count < 0) error = RunError::kNegative;
    if (error == RunError::kNone && count > pixels - begin) error = RunError::kTooLong;
    const int errors_before = block_exclusive_sum<kThreads>(static_cast<int>(error != RunError::kNone), &all_errors);
    if (error != RunError::kNone && errors_before == 0) a.error[row] = static_cast<int64_t>(error);
    is_broken = all_errors > 0;
    numbers += all_numbers;
    odd += all_odd;
    even += all_even;
    position += all_counts;
  }
  const bool is_good = !is_broken && position == pixels;
  if (!is_broken && threadIdx.x == 0)
    a.error[row] = static_cast<int64_t>(is_good ? RunError::kNone : RunError::kTooShort);
  if (threadIdx.x == 0) flips.count[row] = is_good ? numbers : 0;
}

// The 32 pixels from flat index `base` on, one column's.
__device__ __forceinline__ uint32_t pixels_from(uint32_t base, const uint32_t* flips, int64_t count) {
  int64_t low = 0;  // flips before it are at or before `base`
  for (int64_t high = count; low < high;) {
    const int64_t middle = (low + high) / 2;
    if (flips[middle] <= base)
      low = middle + 1;
    else
      high = middle;
  }
  uint32_t word = low % 2 ? 0xFFFFFFFFu : 0;
  for (; low < count && flips[low] - base < 32; ++low) word ^= 0xFFFFFFFFu << (flips[low] - base);
  return word;
}

// Bits of a block's pixels, a row after the other.
struct BitRows {
  Shared<uint32_t> words;
  int pitch;  // odd: a warp that writes down a column of words meets every bank of shared memory
  int columns;

  // `count` pixels, at most 16, from (row, column) on, to the lowest bits.
  __device__ __forceinline__ uint32_t get(int row, int column, int count) const {
    const Shared<uint32_t> word = words + (row * pitch + column / 32);
    const uint32_t low = word[0], high = column % 32 + count > 32 ? word[1] : 0;
    return __funnelshift_r(low, high, column % 32) & ((1u << count) - 1);
  }
};

// 16 bits to 16 bytes of 0 and 1.
__device__ __forceinline__ FourWords spread(uint32_t bits) {
  FourWords bytes;
  UNROLL
  for (int i = 0; i < 4; ++i) bytes.word[i] = (bits >> 4 * i & 15) * 0x00204081u & 0x01010101u;
  return bytes;
}

// Stores `size` pixels, row after row from (row, 0) on: a thread the bytes of an aligned 16.
__device__ __forceinline__ void store(uint8_t* output, int size, const BitRows& bits, int row) {
  const int before = static_cast<int>(reinterpret_cast<uintptr_t>(output) % 16);
  for (int first = 16 * static_cast<int>(threadIdx.x) - before; first < size; first += 16 * kThreads) {
    const int begin = first > 0 ? first : 0, end = first + 16 < size ? first + 16 : size;
    uint32_t sixteen = 0;
    for (int i = begin; i < end;) {
      const int column = i % bits.columns, rest = bits.columns - column, count = rest < end - i ? rest : end - i;
      sixteen |= bits.get(row + i / bits.columns, column, count) << (i - first);
      i += count;
    }
    if (end - begin == 16)
      *reinterpret_cast<FourWords*>(output + first) = spread(sixteen);
    else
      for (int i = begin; i < end; ++i) output[i] = sixteen >> (i - first) & 1;
  }
}

__global__ void __launch_bounds__(kThreads)
    write_masks(DecodeRunLengthsArguments a, Flips flips, uint32_t bands, uint32_t parts) {
  const int64_t n = blockIdx.x / (bands * parts);
  const int64_t y = int64_t{kRows} * (blockIdx.x / parts % bands), x = int64_t{kMaxColumns} * (blockIdx.x % parts);
  const int rows = static_cast<int>(a.height - y < kRows ? a.height - y : kRows);
  const int columns = static_cast<int>(a.width - x < kMaxColumns ? a.width - x : kMaxColumns);
  const int lane = threadIdx.x % kWarp;
  const BitRows bits{dynamic_shared<uint32_t>(), blocks_for(columns, kWarp) | 1, columns};
  for (int c = static_cast<int>(threadIdx.x) - lane; c < columns; c += kThreads) {  // whole warps
    uint32_t down = 0, along = 0;
    if (c + lane < columns)
      down = pixels_from(static_cast<uint32_t>((x + c + lane) * a.height + y), flips.position + n * a.capacity,
                         flips.count[n]);
    UNROLL
    for (int r = 0; r < kRows; ++r) {
      const uint32_t of_row = __ballot_sync(kAllLanes, down >> r & 1);
      if (lane == r) along = of_row;
    }
    bits.words[lane * bits.pitch + c / kWarp] = along;
  }
  __syncthreads();
  uint8_t* output = a.masks + (n * a.height + y) * a.width + x;
  if (columns == a.width)
    store(output, rows * columns, bits, 0);
  else
    for (int r = 0; r < rows; ++r) store(output + r * a.width, columns, bits, r);
}

}  // namespace

int64_t decode_run_lengths_workspace(const DecodeRunLengthsArguments& a) {
  return a.count * static_cast<int64_t>(sizeof(int64_t)) +
         a.count * a.capacity * static_cast<int64_t>(sizeof(uint32_t));
}

void decode_run_lengths(const DecodeRunLengthsArguments& a, void* workspace, Stream stream) {
  const Flips flips(a, workspace);
  LAUNCH(read_strings, a.count, kThreads, 0, stream, a, flips);
  if (a.height == 0 || a.width == 0) return;
  const int64_t bands = blocks_for<int64_t>(a.height, kRows), parts = blocks_for<int64_t>(a.width, kMaxColumns);
  const int64_t words = blocks_for<int64_t>(a.width < kMaxColumns ? a.width : kMaxColumns, kWarp) | 1;
  LAUNCH(write_masks, a.count * bands * parts, kThreads, kRows * words * sizeof(uint32_t), stream, a, flips, bands,
         parts);
}

}  // namespace yolact::cuda
