// Prototypes to COCO's run lengths (YOLACT, section 3.3) without a dense mask.
//
// Launch: a block of 512 threads a detection.
//   1. A thread a value: the low-resolution mask inside the box, onto a canvas in shared memory, of as many of its
//      columns as fit. (All of them for a box of 4 %; half of a whole map of 138 x 138. Of a map higher than any
//      network's, two columns at a time, in pieces.)
//   2. A thread a part of a column of the result: it walks down the canvas, blending its two columns as it goes. Where
//      two values on top of each other lie surely on one side of the threshold, so do the pixels between, and none is
//      computed; elsewhere the few there are. The first walk counts where pixels change, a scan gives each thread its
//      place, and the second writes the changes (flips) into a window in shared memory; a mask of noise has more than
//      it holds, and is walked once more a window.
//   3. The block writes each window's part of the string (run_string.cuh).
// A box of 4 % at 138 x 138 has 800 values, two a thread; its 110 columns (of 550) are cut into four parts, so that no
// thread walks more than seven segments.
// Bytes: the prototypes inside the boxes, 10 MB for 100 boxes of 4 %, nearly all from L2; the strings. Operations: 64
// a value, 12 a segment and walk, 20 a pixel of an outline: little beside what a GPU does in a microsecond. The time
// should be that of one block from end to end: its size, box, prototypes and coefficients wait for memory one after
// another, and then come about ten barriers.
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
constexpr int kWindow = 1024;    // flips
constexpr int kPictures = 64;    // whose sizes one launch passes by value, in half a KB of a kernel's parameters

// Sizes that lie on the host travel with the launch: a copy from pageable memory would wait, and break a graph.
struct HostSizes {
  int32_t height[kPictures], width[kPictures];
};

// The result's size; 0 x 0 where memory of the device, which no host has checked, holds what is no size.
struct Size {
  int64_t height, width;
};

__device__ __forceinline__ Size checked(int64_t height, int64_t width) {
  constexpr int64_t kEnd = int64_t{1} << 30;
  const bool is_size = height >= 1 && width >= 1 && height < kEnd && width < kEnd && height * width <= kMaxPixels;
  return is_size ? Size{height, width} : Size{0, 0};
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

// Walks down a part of a column of the result, from segment `begin` to `end`, and calls flip(y) for each pixel that
// differs from the one before; `last` is the pixel before, and then the last.
template <class Flip>
__device__ __forceinline__ void walk(const Canvas& canvas, const Axis& axis_y, const Tap& x, int32_t begin, int32_t end,
                                     float threshold, bool& last, Flip&& flip) {
  const Margin margin = margin_of(threshold);
  float value = canvas.across(x, begin);
  for (int32_t segment = begin; segment < end; ++segment) {
    const float next = canvas.across(x, segment + 1);
    const int32_t first = canvas.first_of(segment), after = canvas.first_of(segment + 1);
    const Side side = side_of(value, margin);
    if (side != Side::kUnknown && side == side_of(next, margin)) {
      const bool is_above = side == Side::kAbove;
      if (is_above != last && first < after) {
        flip(first);
        last = is_above;
      }
    } else {
      for (int32_t y = first; y < after; ++y) {
        const Tap v = tap(y, axis_y);
        const bool is_one = blend(value, next, v.weight0, v.weight1) > threshold;
        if (is_one != last) flip(y);
        last = is_one;
      }
    }
    value = next;
  }
}

__global__ void __launch_bounds__(kThreads)
    assemble_run_lengths_kernel(AssembleRunLengthsArguments a, Wide wide, HostSizes sizes, int32_t first_picture) {
  SHARED(float, values, kValues);
  SHARED(int32_t, first_pixel, kSegments + 1);
  SHARED(uint32_t, flips, kWindow);
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const uint32_t detections = static_cast<uint32_t>(a.detections), picture = blockIdx.x / detections;
  const int64_t b = first_picture + int64_t{picture}, d = blockIdx.x % detections, i = b * a.detections + d;
  const Size size = a.sizes_on_device ? checked(a.sizes[b * a.size_stride], a.sizes[b * a.size_stride + 1])
                                      : Size{sizes.height[picture], sizes.width[picture]};
  RunStringWriter<kThreads> writer(a.data + i * a.capacity, a.capacity);

  const Detection detection = Detection::of(a, wide, b, d, size.height, size.width);
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
  bool on = false;  // the pixel before those of the canvas
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
      for (int32_t segment = top + thread; segment <= canvas.segments.end; segment += kThreads)
        first_pixel[segment - top] = segment == 0          ? rows.begin
                                     : segment == segments ? rows.end
                                                           : first_output(axis_y, first_value + segment);
      const int32_t high = canvas.segments.size() + 1;  // past the region's edge: zero, and never looked at
      for (int32_t v = thread; v < high * canvas.columns.size(); v += kThreads) {
        const int32_t column = v % canvas.columns.size(), row = v / canvas.columns.size();
        values[column * canvas.stride + row] = detection.value(first_value + top + row, canvas.columns.begin + column);
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

      // Columns are cut into parts of so many segments that every thread has one; parts lie in the string's order.
      const int32_t wanted = kThreads / band.size() > 1 ? kThreads / band.size() : 1;
      const int32_t length = blocks_for(canvas.segments.size(), wanted);
      const int32_t parts = blocks_for(canvas.segments.size(), length);
      for (int32_t first = 0; first < band.size() * parts; first += kThreads) {
        const int32_t x = band.begin + (first + thread) / parts;
        const int32_t begin = top + (first + thread) % parts * length;
        const int32_t end = begin + length < canvas.segments.end ? begin + length : canvas.segments.end;
        const bool is_part = x < band.end;
        bool before = false;  // the pixel before the part
        if (is_part) {
          const int32_t y = canvas.first_of(begin);
          if (y > first_row) {
            before = is_one(x, y - 1);
          } else if (x == band.begin) {
            before = on;
          } else {
            before = fills_height && is_one(x - 1, rows.end - 1);
          }
        }

        // The first walk is that of the window before the first flip: it counts.
        uint32_t place = 0, all = 0;
        for (int64_t window = -kWindow; window < all; window += kWindow) {
          uint32_t count = 0;
          if (is_part) {
            const auto flip = [&](int32_t y) {
              const int64_t in_window = place + count - window;
              if (in_window >= 0 && in_window < kWindow) flips[in_window] = static_cast<uint32_t>(x * size.height + y);
              ++count;
            };
            bool last = before;
            walk(canvas, axis_y, tap(x, axis_x), begin, end, a.threshold, last, flip);
            if (last && end == segments && (!fills_height || x == columns.end - 1)) flip(rows.end);
          }
          if (window < 0) {
            place = block_exclusive_sum<kThreads>(count, &all);
          } else {
            __syncthreads();
            writer.append(flips, static_cast<int>(all - window < kWindow ? all - window : kWindow));
          }
        }
      }
      on = on_after;
    }
  }
  const int64_t needed = writer.finish(static_cast<uint32_t>(size.height * size.width));
  if (thread == 0) {
    a.needed[i] = needed;
    a.length[i] = needed <= a.capacity ? needed : 0;
    a.size[2 * i] = size.height;
    a.size[2 * i + 1] = size.width;
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
    LAUNCH(assemble_run_lengths_kernel, here * a.detections, kThreads, 0, stream, a, wide_of(a), sizes, first);
  }
}

}  // namespace yolact::cuda
