// Prototypes to COCO's run lengths (YOLACT, section 3.3) without a dense mask: one detection a task, one column of
// the result at a time, in the order of the string.
//
// A column of the low-resolution mask is blended once for each column of the result. Between two of its values that
// both lie above the threshold every pixel is one, between two below none is; only where neither holds are the few
// pixels between them computed. So the work is that of the low-resolution mask, and of its outline. Read: the
// prototypes inside the box; written: the string.
#include <algorithm>
#include <limits>
#include <vector>

#include "../common/run_lengths.h"
#include "assemble.h"

namespace yolact::cpu {
namespace {

constexpr int kWordBits = 64;

// What one worker needs to compute one column.
struct Workspace {
  std::vector<float> canvas, column;
  std::vector<uint64_t> above, below;  // a bit a value of the column: surely above, surely below the threshold

  Workspace(int64_t canvas_size, int64_t longest)
      : canvas(canvas_size),
        column(longest + 1 + kLanes),
        above(longest / kWordBits + 2),
        below(longest / kWordBits + 2) {}
};

YOLACT_INLINE bool bit_of(const uint64_t* words, int64_t i) { return words[i / kWordBits] >> i % kWordBits & 1; }

// Blends two columns of the canvas, up to and with `last`, and marks the sides of their values.
YOLACT_INLINE void blend_column(const float* __restrict left, const float* __restrict right, float weight_left,
                                float weight_right, int64_t last, Margin margin, float* __restrict column,
                                uint64_t* above, uint64_t* below) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  for (int64_t word = 0; word <= last / kWordBits; ++word) above[word] = below[word] = 0;
  for (int64_t i = 0; i <= last; i += kLanes) {
    uint32_t sides = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float value = blend(left[i + lane], right[i + lane], weight_left, weight_right);
      column[i + lane] = value;
      sides |= ((value > margin.above) & (value <= kLargest) ? 1u << lane : 0u) |
               (value < margin.below ? 0x10000u << lane : 0u);
    }
    above[i / kWordBits] |= static_cast<uint64_t>(sides & 0xFFFFu) << i % kWordBits;
    below[i / kWordBits] |= static_cast<uint64_t>(sides >> 16) << i % kWordBits;
  }
}

// A bit for each of sixteen pixels between two values of a column: whether it is above the threshold.
YOLACT_INLINE uint32_t pixels_above(float value0, float value1, const float* weight0, const float* weight1,
                                    float threshold) {
  uint32_t ones = 0;
  for (int lane = 0; lane < kLanes; ++lane)
    ones |= blend(value0, value1, weight0[lane], weight1[lane]) > threshold ? 1u << lane : 0u;
  return ones;
}

// Writes the string of one detection, and returns the bytes it needs.
YOLACT_CLONES int64_t write_detection(const Picture& picture, const Cut& cut_x, const Cut& cut_y, const Canvas& canvas,
                                      float threshold, Workspace& workspace, uint8_t* output, int64_t capacity) {
  const Grid &grid_x = picture.x, &grid_y = picture.y;
  const int64_t width = grid_x.axis.output, height = grid_y.axis.output;
  const int64_t top = cut_y.output.begin, bottom = cut_y.output.end;
  const int32_t* first = grid_y.first.data() + cut_y.canvas.begin;
  float* column = workspace.column.data();
  uint64_t *above = workspace.above.data(), *below = workspace.below.data();
  const Margin margin = margin_of(threshold);

  // A segment lies between a value of the column and the next one. Past the region's edge the last value is repeated.
  const int64_t values = cut_y.canvas.end - cut_y.canvas.begin;
  const bool repeats = cut_y.canvas.end == grid_y.axis.extent;
  const int64_t segments = repeats ? values : values - 1;
  if (repeats)
    for (int64_t x = 0; x < cut_x.canvas.end - cut_x.canvas.begin; ++x)
      canvas.values[x * canvas.stride + values] = canvas.values[x * canvas.stride + values - 1];
  const int64_t words = segments / kWordBits + 1;
  above[words] = below[words] = 0;

  RunWriter writer(output, capacity);
  bool on = false;
  for (int64_t x = cut_x.output.begin; x < cut_x.output.end; ++x) {
    blend_column(canvas.values + (grid_x.index0[x] - cut_x.canvas.begin) * canvas.stride,
                 canvas.values + (grid_x.index1[x] - cut_x.canvas.begin) * canvas.stride, grid_x.weight0[x],
                 grid_x.weight1[x], segments, margin, column, above, below);
    const int64_t base = x * height;
    int64_t y = top;  // the next pixel
    for (int64_t word = 0; word < words; ++word) {
      const uint64_t next_above = above[word] >> 1 | above[word + 1] << (kWordBits - 1);
      const uint64_t next_below = below[word] >> 1 | below[word + 1] << (kWordBits - 1);
      uint64_t mixed = ~((above[word] & next_above) | (below[word] & next_below));
      const int64_t here = segments - word * kWordBits;
      if (here < kWordBits) mixed &= (uint64_t{1} << here) - 1;
      for (; mixed; mixed &= mixed - 1) {
        const int64_t segment = word * kWordBits + __builtin_ctzll(mixed);
        const int64_t begin = std::min(std::max<int64_t>(first[segment], y), bottom);
        const int64_t end = std::min(std::max<int64_t>(first[segment + 1], begin), bottom);
        // The segments before this one, if any, lie on one side: that of the value they share with it.
        if (y < begin && bit_of(above, segment) != on) {
          writer.flip(base + y);
          on = !on;
        }
        for (y = begin; y < end; y += kLanes) {
          const uint32_t ones = pixels_above(column[segment], column[segment + 1], grid_y.weight0.data() + y,
                                             grid_y.weight1.data() + y, threshold);
          const int64_t pixels = std::min<int64_t>(kLanes, end - y);
          uint32_t flips = (ones ^ (ones << 1 | on)) & ((1u << pixels) - 1);
          on = ones >> (pixels - 1) & 1;
          for (; flips; flips &= flips - 1) writer.flip(base + y + __builtin_ctz(flips));
        }
        y = end;
      }
    }
    if (y < bottom && bit_of(above, grid_y.index0[bottom - 1] - cut_y.canvas.begin) != on) {
      writer.flip(base + y);
      on = !on;
    }
    // Ones go on into the next column only where the columns fill the height.
    if (on && (top > 0 || bottom < height || x == cut_x.output.end - 1)) {
      writer.flip(base + bottom);
      on = false;
    }
  }
  return writer.finish(width * height);
}

}  // namespace

void assemble_run_lengths(const AssembleRunLengthsArguments& a, const Parallel& parallel) {
  const Assembler assembler(a, Assembler::Inner::kY, parallel);
  const int64_t rows = a.batch * a.detections;
  std::vector<Workspace> workspaces(workers_for(parallel, rows), {assembler.workspace_size(), a.height});
  for_each_on_worker(parallel, rows, [&](int64_t row, int64_t worker) {
    const int64_t b = row / a.detections, d = row % a.detections;
    const Picture& picture = assembler.picture(b);
    Workspace& workspace = workspaces[worker];
    uint8_t* output = a.data + row * a.capacity;
    Cut x, y;
    int64_t needed;
    if (assembler.cut(b, d, &x, &y)) {
      const Canvas canvas = assembler.draw(b, d, x, y, workspace.canvas.data());
      needed = write_detection(picture, x, y, canvas, a.threshold, workspace, output, a.capacity);
    } else {
      needed = RunWriter(output, a.capacity).finish(int64_t{picture.x.axis.output} * picture.y.axis.output);
    }
    a.needed[row] = needed;
    a.length[row] = needed <= a.capacity ? needed : 0;
    std::memset(output + a.length[row], 0, a.capacity - a.length[row]);
    a.size[2 * row] = picture.y.axis.output;
    a.size[2 * row + 1] = picture.x.axis.output;
  });
}

}  // namespace yolact::cpu
