// Prototypes to COCO's run lengths (YOLACT, section 3.3) without a dense mask.
//
// Launch: a block of 512 threads a detection.
//   1. A thread a value: the low-resolution mask inside the box, onto a canvas in shared memory, of as many of its
//      columns as fit. (All of them for a box of 4 %; half of a whole map of 138 x 138. Of a map higher than any
//      network's, two columns at a time, in pieces.)
//   2. A thread 32 rows of a column of the result: it walks down the canvas, blending its two columns as it goes, and
//      has the rows' pixels as a word. Where two values on top of each other lie surely on one side of the threshold,
//      so do the pixels between, and none is computed; elsewhere the few there are. The pixels that differ from the one
//      before (flips) are an exclusive or; a scan of their counts gives their places in a window in shared memory.
//   3. The block writes the string (run_string.cuh) once a window is full, and at the end. A mask of 4 % has a few
//      hundred flips, and so one; a mask of noise has more than the window holds.
// A box of 4 % at 138 x 138 has 900 values, two a thread; its 110 columns (of 550) have four words each, so that one
// step of 512 threads has them all, and no thread walks more than nine segments.
// Bytes: the prototypes inside the boxes, 11 MB for 100 boxes of 4 %, nearly all from L2; the strings. Operations: 64
// a value and 70 for its sigmoid and its place, 25 a segment, 20 a pixel of an outline: little beside what a GPU does
// in a microsecond. The time should be that of one block from end to end: it waits for memory for its size and box,
// then for the channels of its first values, then for those of its second, and then come about ten barriers.
#include <cfloat>

#include "../common/run_lengths.h"
#include "assemble.cuh"
#include "run_string.cuh"
#include "scan.cuh"

namespace yolact::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kValues = 8192;    // of a canvas, in 32 of the 48 KB of shared memory that every GPU gives
constexpr int kSegments = 2047;  // of a column: two columns with a value more, and an odd stride, fit
constexpr int kPart = 32;        // rows of the result
constexpr int kWindow = 1024;    // flips
constexpr int kPictures = 64;    // whose sizes one launch passes by value, in half a KB of a kernel's parameters

// Sizes that lie on the host travel with the launch: a copy from pageable memory would wait, and break a graph.
struct HostSizes {
  int32_t height[kPictures], width[kPictures];
};

// The result's size; 0 x 0 where memory of the device, which no host has checked, holds what is no size.
__device__ __forceinline__ Size checked(int64_t height, int64_t width) {
  constexpr int64_t kEnd = int64_t{1} << 30;
  const bool is_size = height >= 1 && width >= 1 && height < kEnd && width < kEnd && height * width <= kMaxPixels;
  return is_size ? Size{static_cast<int32_t>(height), static_cast<int32_t>(width)} : Size{};
}

enum class Side { kAbove, kBelow, kUnknown };

// On which side of the threshold a value surely is. An infinite one may blend to NaN.
__device__ __forceinline__ Side side_of(float value, Margin margin) {
  if (value < margin.below) return Side::kBelow;
  return value > margin.above && value <= FLT_MAX ? Side::kAbove : Side::kUnknown;
}

// Some columns of a detection's low-resolution mask, or rows of two of them. A column of the result is cut into
// segments, each between two values on top of each other; past the region's edge the last value is repeated.
struct Canvas {
  Shared<float> values;         // [columns, stride], odd: columns side by side lie in other banks
  Shared<int32_t> first_pixel;  // [segments + 1] the first row of the result in a segment
  Span columns, segments;
  int32_t stride, last;  // value of a column

  __device__ __forceinline__ int32_t first_of(int32_t segment) const { return first_pixel[segment - segments.begin]; }

  // Between two values side by side.
  __device__ __forceinline__ float across(const Tap& x, int32_t value) const {
    const int32_t row = (value < last ? value : last) - segments.begin;
    return blend<float>(values[(x.index0 - columns.begin) * stride + row],
                        values[(x.index1 - columns.begin) * stride + row], x.weight0, x.weight1);
  }
};

// The lowest `count` bits, of at most 32 and one more.
__device__ __forceinline__ uint32_t low_bits(int32_t count) { return count < 32 ? (1u << count) - 1 : 0xFFFFFFFFu; }

// The pixels [begin, end) of a column of the result, at most 32, the first in the lowest bit.
__device__ __forceinline__ uint32_t pixels_of(const Canvas& canvas, const Axis& axis_y, const Tap& x,
                                              int32_t first_value, int32_t begin, int32_t end, float threshold) {
  if (begin >= end) return 0;
  const Margin margin = margin_of(threshold);
  int32_t segment = tap(begin, axis_y).index0 - first_value;
  float value = canvas.across(x, segment);
  uint32_t pixels = 0;
  for (int32_t y = begin; y < end; ++segment) {
    const float next = canvas.across(x, segment + 1);
    const int32_t following = canvas.first_of(segment + 1), after = following < end ? following : end;
    const Side side = side_of(value, margin);
    if (side == Side::kUnknown || side != side_of(next, margin)) {
      for (; y < after; ++y) {
        const Tap v = tap(y, axis_y);
        const bool is_one = blend(value, next, v.weight0, v.weight1) > threshold;
        pixels |= static_cast<uint32_t>(is_one) << (y - begin);
      }
    } else if (side == Side::kAbove) {
      pixels |= low_bits(after - begin) & ~low_bits(y - begin);
    }
    y = after;
    value = next;
  }
  return pixels;
}

__global__ void __launch_bounds__(kThreads)
    assemble_run_lengths_kernel(AssembleRunLengthsArguments a, bool shared, HostSizes sizes, int32_t first_picture) {
  SHARED(float, values, kValues);
  SHARED(int32_t, first_pixel, kSegments + 1);
  SHARED(uint32_t, flips, kWindow);
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const uint32_t detections = static_cast<uint32_t>(a.detections), picture = blockIdx.x / detections;
  const int64_t b = first_picture + int64_t{picture}, d = blockIdx.x % detections, i = b * a.detections + d;
  RunStringWriter<kThreads> writer(a.data + i * a.capacity, a.capacity);

  const Detection detection = Detection::of(a, shared, b, d, [&] {
    return a.sizes_on_device ? checked(a.sizes[b * a.size_stride], a.sizes[b * a.size_stride + 1])
                             : Size{sizes.height[picture], sizes.width[picture]};
  });
  const Axis axis_x = detection.axes[0], axis_y = detection.axes[1];
  const Cut cut_x = detection.cuts[0], cut_y = detection.cuts[1];
  const Span columns = cut_x.output, rows = cut_y.output;
  const bool fills_height = rows.size() == axis_y.output;
  const int32_t first_value = cut_y.canvas.begin;
  const int32_t segments = rows.empty() ? 0 : tap(rows.end - 1, axis_y).index0 + 1 - first_value;

  Canvas canvas;
  canvas.values = values;
  canvas.first_pixel = first_pixel;
  canvas.last = cut_y.canvas.size() - 1;
  const bool is_whole = segments <= kSegments;  // else one column of the result at a time, and that in pieces
  canvas.stride = (is_whole ? segments + 1 : kSegments + 1) | 1;
  bool on = false;       // the pixel before those of the canvas
  uint32_t waiting = 0;  // flips in the window
  for (Span band{columns.begin, columns.begin}; band.begin < columns.end && segments > 0; band.begin = band.end) {
    // The columns of the canvas, and those of the result that lie between them.
    const int32_t most = kValues / canvas.stride;
    canvas.columns = {tap(band.begin, axis_x).index0, cut_x.canvas.end};
    band.end = is_whole ? columns.end : band.begin + 1;
    if (canvas.columns.size() > most) {
      canvas.columns.end = canvas.columns.begin + most;
      if (is_whole) band.end = first_output(axis_x, canvas.columns.end - 1);
    }
    for (canvas.segments = {0, 0}; canvas.segments.begin < segments; canvas.segments.begin = canvas.segments.end) {
      const int32_t top = canvas.segments.begin;
      canvas.segments.end = segments - top < kSegments ? segments : top + kSegments;
      // By the last threads, as the first ones have more values.
      for (int32_t segment = top + kThreads - 1 - thread; segment <= canvas.segments.end; segment += kThreads)
        first_pixel[segment - top] = segment == 0          ? rows.begin
                                     : segment == segments ? rows.end
                                                           : first_output(axis_y, first_value + segment);
      const int32_t high = canvas.segments.size() + 1;  // past the region's edge: zero, and never looked at
      const int32_t wide = canvas.columns.size(), lane = thread % kWarp;
      for (int32_t v = thread; v - lane < high * wide; v += kThreads) {  // whole warps
        const int32_t column = v % wide, row = v / wide;
        const float value = detection.value(first_value + top + row, canvas.columns.begin + column);
        if (row < high) values[column * canvas.stride + row] = value;
      }
      __syncthreads();
      const auto is_one = [&](int32_t x, int32_t y) {
        const Tap u = tap(x, axis_x), v = tap(y, axis_y);
        return blend(canvas.across(u, v.index0 - first_value), canvas.across(u, v.index1 - first_value), v.weight0,
                     v.weight1) > a.threshold;
      };
      const int32_t first_row = canvas.first_of(top), end_row = canvas.first_of(canvas.segments.end);
      // Ones go on into the next column only where the columns fill the height.
      const bool ends_columns = canvas.segments.end == segments, goes_on = !ends_columns || fills_height;
      const bool on_after = goes_on && (first_row < end_row ? is_one(band.end - 1, end_row - 1) : on);

      // One row more, for where ones end with the columns, it has their last flip.
      const int32_t parts = blocks_for(end_row - first_row + 1, kPart);
      for (int32_t first = 0; first < band.size() * parts; first += kThreads) {
        const int32_t x = band.begin + (first + thread) / parts;
        const int32_t begin = first_row + (first + thread) % parts * kPart;
        uint32_t word = 0;
        if (x < band.end) {
          const bool has_end = ends_columns && (!fills_height || x == columns.end - 1);
          const int32_t end = begin + kPart < end_row ? begin + kPart : end_row;
          const uint32_t pixels = pixels_of(canvas, axis_y, tap(x, axis_x), first_value, begin, end, a.threshold);
          bool before;  // the pixel before the part
          if (begin > first_row) {
            before = is_one(x, begin - 1);
          } else if (x == band.begin) {
            before = on;
          } else {
            before = fills_height && is_one(x - 1, rows.end - 1);
          }
          word = (pixels ^ (pixels << 1 | static_cast<uint32_t>(before))) & low_bits(end - begin + has_end);
        }
        uint32_t all;
        uint32_t next = waiting + block_exclusive_sum<kThreads>(static_cast<uint32_t>(__popc(word)), &all);
        const uint32_t flat =
            static_cast<uint32_t>(x) * static_cast<uint32_t>(axis_y.output) + static_cast<uint32_t>(begin);
        all += waiting;
        for (uint32_t window = 0;; window += kWindow) {
          for (; word != 0 && next - window < kWindow; ++next, word &= word - 1)
            flips[next - window] = flat + __ffs(word) - 1;
          waiting = all - window;
          if (waiting < kWindow) break;
          __syncthreads();
          writer.append(flips, kWindow);
        }
      }
      on = on_after;
    }
  }
  __syncthreads();
  if (waiting > 0) writer.append(flips, static_cast<int>(waiting));
  const int64_t needed = writer.finish(static_cast<uint32_t>(axis_y.output) * static_cast<uint32_t>(axis_x.output));
  if (thread == 0) {
    a.needed[i] = needed;
    a.length[i] = needed <= a.capacity ? needed : 0;
    a.size[2 * i] = axis_y.output;
    a.size[2 * i + 1] = axis_x.output;
  }
}

}  // namespace

void assemble_run_lengths(const AssembleRunLengthsArguments& a, Stream stream) {
  const int64_t pictures = a.sizes_on_device ? a.batch : kPictures;
  for (int64_t first = 0; first < a.batch; first += pictures) {
    const int64_t here = first + pictures < a.batch ? pictures : a.batch - first;
    HostSizes sizes{};
    for (int64_t picture = 0; !a.sizes_on_device && picture < here; ++picture) {
      const int64_t* size = a.sizes + (first + picture) * a.size_stride;
      sizes.height[picture] = static_cast<int32_t>(size[0]);
      sizes.width[picture] = static_cast<int32_t>(size[1]);
    }
    LAUNCH(assemble_run_lengths_kernel, here * a.detections, kThreads, 0, stream, a, is_shared(a), sizes, first);
  }
}

}  // namespace yolact::cuda
