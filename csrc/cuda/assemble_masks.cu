// Prototypes to dense masks (YOLACT, section 3.3), a byte or a bit a pixel.
//
// Launch: a block of 256 threads writes a band of a detection's mask, up to 16 K pixels from a multiple of 16 bytes
// on, in three steps with a barrier between:
//   1. a thread a value: the low-resolution mask (activation(prototypes . coefficients)) where the box and the band's
//      rows meet, into a tile in shared memory;
//   2. a warp 32 columns of the box: walks down eight rows, blends the tile's two rows anew only where their taps
//      change, and sets the pixels' bits, 32 by one vote, in a bitmap of the band in shared memory;
//   3. a thread 16 bytes of the output at a time: bits spread to bytes, or as they are where masks are packed. As the
//      bitmap lies as the output does, rows of any width (550 is no multiple of 16) need no arithmetic, and what is
//      outside the box, 96 % as a rule, is a wide store of zeros in the same step.
// Bytes: the output once (100 masks of 550 x 550: 30 MB; of 1920 x 1080: 207 MB), which is where the time should go.
// The prototypes inside the boxes come from L2: 128 bytes for each of about 280 values in the quarter of the bands that
// a box of 4 % meets, 17 MB for 550 x 550, for which a thread waits twice. Operations: 64 a value, 15 a pixel inside
// the box, 3 a byte written; they hide under the stores, as a multiprocessor holds three blocks, each in a step of its
// own.
#include "assemble.cuh"
#include "scan.cuh"
#include "words.cuh"

namespace yolact::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBand = 16384;     // pixels: enough to pay for a block's first steps, and 2 KB of bits
constexpr int kLeastBand = 512;  // below, tiles would overlap more than they hold
constexpr int kTile = 4096;      // values: 16 KB, of which three blocks fit the smallest multiprocessor (sm_75)
constexpr int kStrip = 8;        // rows that a warp walks: some share a tap, and a band has strips for all warps

struct Layout {
  Size size;
  int64_t pitch, mask;  // bytes a row, and a mask
  int32_t bits;         // pixels of a byte: 1 or 8
  int32_t band;         // bytes, a multiple of 16
  uint32_t bands;       // of a mask
};

// Four bits to four bytes, the lowest first.
__device__ __forceinline__ uint32_t spread(uint32_t bits) { return (bits & 15) * 0x00204081u & 0x01010101u; }

// kDirect: without a tile, each value is computed where it is needed. Right, if slow, for maps too wide for a tile.
template <bool kDirect>
__global__ void __launch_bounds__(kThreads, kDirect ? 1 : 3)
    assemble_masks_kernel(AssembleMasksArguments a, bool shared, Layout layout) {
  SHARED(float, tile, kDirect ? 1 : kTile);
  SHARED(uint32_t, bitmap, kBand / 32);
  const int32_t thread = static_cast<int32_t>(threadIdx.x), lane = thread % kWarp;
  const uint32_t i = blockIdx.x / layout.bands, detections = static_cast<uint32_t>(a.detections);

  // Bytes are counted from the band's begin, of which the first few may be the mask's before: this mask has those of
  // [begin, end), and its own first byte is at -skipped.
  const int64_t mask_begin = i * layout.mask;
  const int64_t band_begin = mask_begin / 16 * 16 + int64_t{blockIdx.x % layout.bands} * layout.band;
  const int64_t skipped = band_begin - mask_begin;
  const int32_t begin = skipped < 0 ? static_cast<int32_t>(-skipped) : 0;
  const int32_t end = layout.mask - skipped < layout.band ? static_cast<int32_t>(layout.mask - skipped) : layout.band;

  for (int word = thread; word < kBand / 32; word += kThreads) bitmap[word] = 0;
  const Detection detection = Detection::of(a, shared, i / detections, i % detections, [&] { return layout.size; });
  const Cut cut_x = detection.cuts[0], cut_y = detection.cuts[1];
  const Span columns = cut_x.output;

  // The rows of the box that have pixels in the band, or begin at its end. (A mask has fewer than 2^32 bytes.)
  const uint32_t pitch = static_cast<uint32_t>(layout.pitch);
  const Span rows =
      intersection(cut_y.output, {static_cast<int32_t>(static_cast<uint32_t>(skipped + begin) / pitch),
                                  static_cast<int32_t>(static_cast<uint32_t>(skipped + end) / pitch) + 1});
  if (begin < end && !rows.empty() && !columns.empty()) {
    const Axis axis_x = detection.axes[0], axis_y = detection.axes[1];
    const int32_t origin = tap(rows.begin, axis_y).index0, stride = cut_x.canvas.size();
    if (!kDirect) {
      const int32_t values = (tap(rows.end - 1, axis_y).index1 + 1 - origin) * stride;
      for (int32_t v = thread; v - lane < values; v += kThreads) {  // whole warps
        const float value = detection.value(origin + v / stride, cut_x.canvas.begin + v % stride);
        if (v < values) tile[v] = value;
      }
      __syncthreads();
    }
    const auto value = [&](int32_t row, int32_t column) -> float {
      if (kDirect) return detection.value(row, column);
      return tile[(row - origin) * stride + column - cut_x.canvas.begin];
    };

    const int32_t groups = blocks_for(columns.size(), kWarp), strips = blocks_for(rows.size(), kStrip);
    for (int32_t unit = thread / kWarp; unit < groups * strips; unit += kThreads / kWarp) {
      const int32_t x = columns.begin + unit % groups * kWarp + lane;
      const bool is_inside = x < columns.end;
      const Tap u = tap(is_inside ? x : columns.begin, axis_x);
      const int32_t first = rows.begin + unit / groups * kStrip;
      const int32_t last = first + kStrip < rows.end ? first + kStrip : rows.end;
      int32_t held = -1;  // the low-resolution row that `top` was blended of
      float top = 0.0f, bottom = 0.0f;
      for (int32_t y = first; y < last; ++y) {
        const Tap v = tap(y, axis_y);
        if (v.index0 != held) {
          top = blend(value(v.index0, u.index0), value(v.index0, u.index1), u.weight0, u.weight1);
          bottom = blend(value(v.index1, u.index0), value(v.index1, u.index1), u.weight0, u.weight1);
          held = v.index0;
        }
        // The band may begin and end amid a row.
        const int32_t bit = static_cast<int32_t>((y * layout.pitch - skipped) * layout.bits) + x;
        const bool is_one = is_inside && bit >= 0 && bit < layout.band * layout.bits &&
                            blend(top, bottom, v.weight0, v.weight1) > a.threshold;
        const uint32_t ones = __ballot_sync(kAllLanes, is_one);
        // The warp's bits fall into two words, of which other warps have bits too: a lane adds to each.
        const int32_t start = bit - lane;
        const uint32_t part = lane == 0 ? ones << (start & 31) : ones >> 1 >> (31 - (start & 31));
        if (lane < 2 && part != 0) atomicOr(&bitmap[(start >> 5) + lane], part);
      }
    }
  }
  __syncthreads();

  uint8_t* output = a.masks + band_begin;
  for (int32_t at = 16 * thread; at < end; at += 16 * kThreads) {
    const int32_t piece = at / 16;
    FourWords bytes;
    if (layout.bits == 8) {
      UNROLL
      for (int word = 0; word < 4; ++word) bytes.word[word] = bitmap[4 * piece + word];
    } else {
      const uint32_t pixels = bitmap[piece / 2] >> 16 * (piece % 2);
      UNROLL
      for (int word = 0; word < 4; ++word) bytes.word[word] = spread(pixels >> 4 * word);
    }
    if (at >= begin && at + 16 <= end) {
      *reinterpret_cast<FourWords*>(output + at) = bytes;
    } else {  // shared with the mask before or after
      UNROLL
      for (int byte = 0; byte < 16; ++byte)
        if (at + byte >= begin && at + byte < end)
          output[at + byte] = static_cast<uint8_t>(bytes.word[byte / 4] >> 8 * (byte % 4));
    }
  }
}

// The most low-resolution values that the rows of `pixels` pixels lie between.
int64_t values_of_band(const AssembleMasksArguments& a, int64_t pixels, int64_t height, int64_t row_pixels) {
  const int64_t rows = pixels / row_pixels + 2;  // two of them in part
  // A tap has two values; one more row for how the first of them falls, and one for rounding.
  return ((rows - 1) * a.height / height + 4) * a.width;
}

}  // namespace

void assemble_masks(const AssembleMasksArguments& a, Stream stream) {
  Layout layout{};
  layout.size.height = static_cast<int32_t>(a.sizes[0]);
  layout.size.width = static_cast<int32_t>(a.sizes[1]);
  layout.bits = a.packed ? 8 : 1;
  layout.pitch = blocks_for<int64_t>(layout.size.width, layout.bits);
  layout.mask = layout.size.height * layout.pitch;
  int32_t band = kBand;
  const auto fits = [&] { return values_of_band(a, band, layout.size.height, layout.pitch * layout.bits) <= kTile; };
  while (!fits() && band > kLeastBand) band /= 2;
  const bool direct = !fits();
  layout.band = (direct ? kBand : band) / layout.bits;
  layout.bands = static_cast<uint32_t>(blocks_for<int64_t>(layout.mask + 15, layout.band));
  const int64_t blocks = a.batch * a.detections * layout.bands;
  if (direct) {
    LAUNCH(assemble_masks_kernel<true>, blocks, kThreads, 0, stream, a, is_shared(a), layout);
  } else {
    LAUNCH(assemble_masks_kernel<false>, blocks, kThreads, 0, stream, a, is_shared(a), layout);
  }
}

}  // namespace yolact::cuda
