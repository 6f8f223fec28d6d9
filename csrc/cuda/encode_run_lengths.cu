// Masks [N, H, W] to COCO strings, in two launches with the masks, a bit a pixel, in between.
//
// Launch 1 reads the masks. 32 rows of a column are a word, in the last of which the last row is repeated, and the
// words lie as [mask][32 rows][column], so that warps write side by side.
// - Rows that lie side by side: a thread eight columns and 32 rows, 64 threads to a block, so that one mask spreads
//   over many multiprocessors. It loads aligned words and funnels them into place, for rows begin at any byte (W is
//   rarely a multiple of four), and has the loads of eight rows on their way at once.
// - Columns that lie side by side: a warp 32 columns and 32 rows, a lane a row; a ballot makes the word.
//
// Launch 2 writes the strings: a block a mask, a thread a column. A flip is a pixel that differs from the one before
// it, column by column: a word's are one exclusive or, with the last bit of the word before. The thread counts the
// column's flips, a scan over the columns gives their places, and the flips go through a window of shared memory to
// RunStringWriter (run_string.cuh).
//
// Bytes: the masks once, an eighth of them written and read again (from the second-level cache, mostly), the strings
// and the zeros behind them. 100 masks of 550 x 550: 30 MB, and 4 MB twice. Operations: about 3 a pixel in launch 1,
// whose time is that of reading the masks: a thread waits for memory four times, and 2000 blocks of such a call are all
// there at once. Launch 2 is latency: a thread has 18 words there, most of them all zeros or all ones, which it reads
// twice: all together for their count, then one by one from the first-level cache from its first flip to its last;
// between and after, a scan and one or two chunks of RunStringWriter.
#include "../common/encode_run_lengths.h"
#include "launch.cuh"
#include "run_string.cuh"
#include "scan.cuh"
#include "words.cuh"

namespace yolact::cuda {
namespace {

constexpr int kPackThreads = 64;
constexpr int kPackBlocks = 16;      // on a multiprocessor: 64 registers, which ptxas else will not give to loads
constexpr int kColumns = 8;          // a thread's, where rows lie side by side
constexpr int kStringThreads = 640;  // pictures are 550, 640, 1280 or 1920 wide
constexpr int kWordsAtOnce = 24;     // of a column, asked for together: 550 rows have 18 words
constexpr int kWindow = 4096;        // flips: 16 KB

// The words of pixels of one mask.
struct Words {
  explicit Words(const EncodeRunLengthsArguments& a)
      : rows(static_cast<uint32_t>(blocks_for<int64_t>(a.height, 32))),
        pitch(static_cast<uint32_t>(kColumns * blocks_for<int64_t>(a.width, kColumns))) {}

  YOLACT_HD int64_t size() const { return int64_t{rows} * pitch; }

  uint32_t rows, pitch;  // words along a column; along a row, where the last ones may mean nothing
};

// The pixels of a word that differ from the one before, the first from the last of the word `before`.
__device__ __forceinline__ uint32_t flips_of(uint32_t word, uint32_t before) {
  return word ^ (word << 1 | before >> 31);
}

// Bit 7 of each byte that is not zero.
__device__ __forceinline__ uint32_t nonzero(uint32_t bytes) {
  return (((bytes & 0x7F7F7F7Fu) + 0x7F7F7F7Fu) | bytes) & 0x80808080u;
}

// Eight pixels side by side, a byte each.
struct EightPixels {
  uint32_t half[2];
};

// The columns' words of 32 rows, each of which `load` gives. Eight rows at a time, and no more: of 32 in a row ptxas
// would ask for one after it has waited for the one before.
template <class Load>
__device__ __forceinline__ void pack(Load load, FourWords (&words)[2]) {
  words[0] = words[1] = {};
  UNROLL_BY(1)
  for (int first = 0; first < 32; first += 8) {
    EightPixels pixels[8];
    UNROLL
    for (int row = 0; row < 8; ++row) pixels[row] = load(first + row);
    UNROLL
    for (int half = 0; half < 2; ++half) {
      uint32_t eight = 0;  // rows of each column, a byte a column
      UNROLL
      for (int row = 0; row < 8; ++row) eight = eight >> 1 | nonzero(pixels[row].half[half]);
      UNROLL
      for (int c = 0; c < 4; ++c) words[half].word[c] |= (eight >> 8 * c & 255) << first;
    }
  }
}

// Rows side by side, or strides of any kind. `end` is the end of the masks where aligned words may be loaded up to it,
// and null where not. (A word that holds a mask's first pixel may begin up to three bytes before it; those belong to
// the same allocation, which is aligned.)
__global__ void __launch_bounds__(kPackThreads, kPackBlocks)
    pack_by_rows(EncodeRunLengthsArguments a, Words shape, uint32_t blocks, const uint8_t* end, uint32_t* pixels) {
  const uint32_t i = blockIdx.x % blocks * kPackThreads + threadIdx.x, groups = shape.pitch / kColumns;
  const int64_t n = blockIdx.x / blocks, y = int64_t{32} * (i / groups), x = int64_t{kColumns} * (i % groups);
  if (y >= a.height) return;
  const uint8_t* mask = a.masks + n * a.stride[0] + y * a.stride[1] + x * a.stride[2];
  const int rows = static_cast<int>(a.height - y < 32 ? a.height - y : 32);
  const int columns = static_cast<int>(a.width - x < kColumns ? a.width - x : kColumns);

  const auto row_at = [&](int row) { return mask + (row < rows ? row : rows - 1) * a.stride[1]; };
  const auto aligned = [](const uint8_t* p) { return p - (reinterpret_cast<uintptr_t>(p) & 3); };
  FourWords words[2];
  if (aligned(row_at(31)) + 12 <= end) {
    const auto load = [&](int row) {
      const uint8_t* p = row_at(row);
      const uint32_t* word = reinterpret_cast<const uint32_t*>(aligned(p));
      const uint32_t low = word[0], middle = word[1], high = word[2];
      const uint32_t shift = 8 * static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p));  // counts modulo 32
      return EightPixels{{__funnelshift_r(low, middle, shift), __funnelshift_r(middle, high, shift)}};
    };
    pack(load, words);
  } else {
    const auto load = [&](int row) {
      const uint8_t* p = row_at(row);
      uint64_t eight = 0;
      for (int c = 0; c < columns; ++c) eight |= uint64_t{p[c * a.stride[2]]} << 8 * c;
      return EightPixels{{static_cast<uint32_t>(eight), static_cast<uint32_t>(eight >> 32)}};
    };
    pack(load, words);
  }
  FourWords* output = reinterpret_cast<FourWords*>(pixels + n * shape.size() + kColumns * int64_t{i});
  output[0] = words[0];
  output[1] = words[1];
}

// Columns side by side.
__global__ void __launch_bounds__(kPackThreads)
    pack_by_columns(EncodeRunLengthsArguments a, Words shape, uint32_t blocks, uint32_t* pixels) {
  const uint32_t i = (blockIdx.x % blocks * kPackThreads + threadIdx.x) / kWarp;
  const uint32_t groups = static_cast<uint32_t>(blocks_for<int64_t>(a.width, kWarp));
  const int lane = threadIdx.x % kWarp;
  const int64_t n = blockIdx.x / blocks, y = int64_t{32} * (i / groups), x = int64_t{kWarp} * (i % groups);
  if (y >= a.height) return;  // all lanes or none
  const int rows = static_cast<int>(a.height - y < 32 ? a.height - y : 32);
  const int columns = static_cast<int>(a.width - x < kWarp ? a.width - x : kWarp);
  const uint8_t* mask =
      a.masks + n * a.stride[0] + (y + (lane < rows ? lane : rows - 1)) * a.stride[1] + x * a.stride[2];
  uint32_t word = 0;
  UNROLL
  for (int c = 0; c < kWarp; ++c) {
    const uint32_t of_column = __ballot_sync(kAllLanes, mask[(c < columns ? c : columns - 1) * a.stride[2]] != 0);
    if (lane == c) word = of_column;
  }
  if (lane < columns) pixels[n * shape.size() + y / 32 * shape.pitch + x + lane] = word;
}

__global__ void __launch_bounds__(kStringThreads, 1)
    write_strings(EncodeRunLengthsArguments a, Words shape, const uint32_t* pixels) {
  SHARED(uint32_t, window, kWindow);
  const int64_t n = blockIdx.x;
  const uint32_t height = static_cast<uint32_t>(a.height), width = static_cast<uint32_t>(a.width);
  RunStringWriter<kStringThreads> writer(a.data + n * a.capacity, a.capacity);
  for (uint32_t first_column = 0; first_column < width; first_column += kStringThreads) {
    const uint32_t x = first_column + threadIdx.x;
    const uint32_t* column = pixels + n * shape.size() + x;
    // The word before the first one, the one before that of the first flip, and which this is.
    uint32_t count = 0, previous = 0, before = 0, start = 0;
    if (x < width) {
      if (x > 0 && shape.rows > 0) previous = column[int64_t{shape.rows - 1} * shape.pitch - 1];
      for (uint32_t first = 0; first < shape.rows; first += kWordsAtOnce) {
        uint32_t words[kWordsAtOnce];
        UNROLL
        for (uint32_t k = 0; k < kWordsAtOnce; ++k)
          words[k] = column[int64_t{first + k < shape.rows ? first + k : first} * shape.pitch];
        UNROLL
        for (uint32_t k = 0; k < kWordsAtOnce; ++k) {
          if (count == 0) {
            start = first + k;
            before = previous;
          }
          if (first + k < shape.rows) count += __popc(flips_of(words[k], previous));
          previous = words[k];
        }
      }
    }
    uint32_t total;
    int64_t next = block_exclusive_sum<kStringThreads>(count, &total);  // place of the column's next flip
    const int64_t last = next + count;
    column += int64_t{start} * shape.pitch;
    uint32_t flips = 0, top = x * height + 32 * start - 32;  // those still to go of the word that begins at index `top`
    for (int64_t begin = 0; begin < total; begin += kWindow) {
      const int64_t end = begin + kWindow < total ? begin + kWindow : total;
      for (; next < last && next < end; ++next) {
        while (flips == 0) {
          const uint32_t word = *column;
          flips = flips_of(word, before);
          before = word;
          column += shape.pitch;
          top += 32;
        }
        window[next - begin] = top + __ffs(flips) - 1;
        flips &= flips - 1;
      }
      __syncthreads();
      writer.append(window, static_cast<int>(end - begin));
    }
  }
  const int64_t needed = writer.finish(height * width);
  if (threadIdx.x == 0) {
    a.needed[n] = needed;
    a.length[n] = needed <= a.capacity ? needed : 0;
    a.size[2 * n] = a.height;
    a.size[2 * n + 1] = a.width;
  }
}

}  // namespace

int64_t encode_run_lengths_workspace(const EncodeRunLengthsArguments& a) {
  return a.count * Words(a).size() * static_cast<int64_t>(sizeof(uint32_t));
}

void encode_run_lengths(const EncodeRunLengthsArguments& a, void* workspace, Stream stream) {
  const Words shape(a);
  uint32_t* pixels = static_cast<uint32_t*>(workspace);
  const auto distance = [](int64_t stride) { return stride < 0 ? -stride : stride; };
  if (a.height == 0 || a.width == 0) {
    // no pixels, no flips
  } else if (distance(a.stride[1]) < distance(a.stride[2])) {
    const int64_t warps = shape.rows * blocks_for<int64_t>(a.width, kWarp);
    const int64_t blocks = blocks_for<int64_t>(warps * kWarp, kPackThreads);
    LAUNCH(pack_by_columns, a.count * blocks, kPackThreads, 0, stream, a, shape, blocks, pixels);
  } else {
    const int64_t blocks = blocks_for<int64_t>(shape.size() / kColumns, kPackThreads);
    const uint8_t* last = a.masks + (a.count - 1) * a.stride[0] + (a.height - 1) * a.stride[1] + a.width - 1;
    const bool ascending = a.stride[0] >= 0 && a.stride[1] >= 0 && a.stride[2] == 1;
    LAUNCH(pack_by_rows, a.count * blocks, kPackThreads, 0, stream, a, shape, blocks, ascending ? last + 1 : nullptr,
           pixels);
  }
  LAUNCH(write_strings, a.count, kStringThreads, 0, stream, a, shape, pixels);
}

}  // namespace yolact::cuda
