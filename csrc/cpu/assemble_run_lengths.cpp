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
  std::vector<int64_t> flips;          // the pixels of the column that differ from the one before

  Workspace(int64_t canvas_size, int64_t values, int64_t height)
      : canvas(canvas_size),
        column(values + kWordBits),
        above(values / kWordBits + 2),
        below(values / kWordBits + 2),
        flips(height + 2) {}
};

YOLACT_INLINE bool bit_of(const uint64_t* words, int64_t i) { return words[i / kWordBits] >> i % kWordBits & 1; }

// Blends two columns of the canvas, up to and with value `last`, and marks the sides of the values.
YOLACT_INLINE void blend_column(const float* __restrict left, const float* __restrict right, float weight_left,
                                float weight_right, int64_t last, Margin margin, float* __restrict column,
                                uint64_t* __restrict above, uint64_t* __restrict below) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  for (int64_t word = 0; word <= last / kWordBits; ++word) {
    uint64_t word_above = 0, word_below = 0;
    const int64_t begin = word * kWordBits, end = std::min<int64_t>(begin + kWordBits, last + 1);
    for (int64_t i = begin; i < end; i += kLanes) {
      uint32_t sides = 0;
      for (int lane = 0; lane < kLanes; ++lane) {
        const float value = blend(left[i + lane], right[i + lane], weight_left, weight_right);
        column[i + lane] = value;
        sides |= ((value > margin.above) & (value <= kLargest) ? 1u << lane : 0u) |
                 (value < margin.below ? 0x10000u << lane : 0u);
      }
      word_above |= static_cast<uint64_t>(sides & 0xFFFFu) << (i - begin);
      word_below |= static_cast<uint64_t>(sides >> 16) << (i - begin);
    }
    above[word] = word_above;
    below[word] = word_below;
  }
}

typedef int32_t FewBits __attribute__((vector_size(kFew * sizeof(int32_t))));

// A bit for each of a few pixels between two values of a column: whether it is above the threshold.
YOLACT_INLINE uint32_t pixels_above(float value0, float value1, const float* weight0, const float* weight1,
                                    float threshold) {
  const FewBits holds = blend(value0, value1, load_lanes<Few>(weight0), load_lanes<Few>(weight1)) > threshold;
  FewBits bits = holds & FewBits{1, 2, 4, 8, 16, 32, 64, 128};
  bits |= __builtin_shuffle(bits, FewBits{4, 5, 6, 7, 0, 1, 2, 3});
  bits |= __builtin_shuffle(bits, FewBits{2, 3, 0, 1, 6, 7, 4, 5});
  bits |= __builtin_shuffle(bits, FewBits{1, 0, 3, 2, 5, 4, 7, 6});
  return static_cast<uint32_t>(bits[0]);
}

// Finds the pixels of a blended column, from `top` to `bottom`, that differ from the one before; returns how many.
// `on` is the pixel before, then the last one.
YOLACT_INLINE int64_t find_flips(const Grid& grid, const Cut& cut, int64_t segments, float threshold,
                                 const Workspace& workspace, bool* on, int64_t* flips) {
  const float *column = workspace.column.data(), *weight0 = grid.weight0.data(), *weight1 = grid.weight1.data();
  const uint64_t *above = workspace.above.data(), *below = workspace.below.data();
  const int32_t* first = grid.first.data() + cut.canvas.begin;
  const int64_t bottom = cut.output.end;
  int64_t y = cut.output.begin;  // the next pixel
  int64_t count = 0;
  bool last = *on;
  for (int64_t word = 0; word <= segments / kWordBits; ++word) {
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
      if (y < begin && bit_of(above, segment) != last) {
        flips[count++] = y;
        last = !last;
      }
      for (y = begin; y < end; y += kFew) {
        const uint32_t ones = pixels_above(column[segment], column[segment + 1], weight0 + y, weight1 + y, threshold);
        const int64_t pixels = std::min<int64_t>(kFew, end - y);
        uint32_t changed = (ones ^ (ones << 1 | last)) & ((1u << pixels) - 1);
        last = ones >> (pixels - 1) & 1;
        for (; changed; changed &= changed - 1) flips[count++] = y + __builtin_ctz(changed);
      }
      y = end;
    }
  }
  if (y < bottom && bit_of(above, grid.index0[bottom - 1] - cut.canvas.begin) != last) {
    flips[count++] = y;
    last = !last;
  }
  *on = last;
  return count;
}

// Writes the string of one detection, and returns the bytes it needs.
YOLACT_INLINE int64_t write_detection(const Picture& picture, const Cut& cut_x, const Cut& cut_y, const Canvas& canvas,
                                      float threshold, Workspace& workspace, uint8_t* output, int64_t capacity) {
  const Grid &grid_x = picture.x, &grid_y = picture.y;
  const int64_t width = grid_x.axis.output, height = grid_y.axis.output;
  const bool fills_height = cut_y.output.begin == 0 && cut_y.output.end == height;
  const Margin margin = margin_of(threshold);

  // A segment lies between a value of the column and the next one. Past the region's edge the last value is repeated.
  const int64_t values = cut_y.canvas.end - cut_y.canvas.begin;
  const bool repeats = cut_y.canvas.end == grid_y.axis.extent;
  const int64_t segments = repeats ? values : values - 1;
  if (repeats)
    for (int64_t x = 0; x < cut_x.canvas.end - cut_x.canvas.begin; ++x)
      canvas.values[x * canvas.stride + values] = canvas.values[x * canvas.stride + values - 1];
  workspace.above[segments / kWordBits + 1] = workspace.below[segments / kWordBits + 1] = 0;

  RunWriter writer(output, capacity);
  int64_t* flips = workspace.flips.data();
  bool on = false;
  for (int64_t x = cut_x.output.begin; x < cut_x.output.end; ++x) {
    blend_column(canvas.values + (grid_x.index0[x] - cut_x.canvas.begin) * canvas.stride,
                 canvas.values + (grid_x.index1[x] - cut_x.canvas.begin) * canvas.stride, grid_x.weight0[x],
                 grid_x.weight1[x], segments, margin, workspace.column.data(), workspace.above.data(),
                 workspace.below.data());
    int64_t count = find_flips(grid_y, cut_y, segments, threshold, workspace, &on, flips);
    // Ones go on into the next column only where the columns fill the height.
    if (on && (!fills_height || x == cut_x.output.end - 1)) {
      flips[count++] = cut_y.output.end;
      on = false;
    }
    for (int64_t i = 0; i < count; ++i) writer.flip(x * height + flips[i]);
  }
  return writer.finish(width * height);
}

}  // namespace

void assemble_run_lengths(const AssembleRunLengthsArguments& a, const Parallel& parallel) {
  const Assembler assembler(a, Assembler::Inner::kY, parallel);
  const int64_t rows = a.batch * a.detections;
  std::vector<Workspace> workspaces(workers_for(parallel, rows),
                                    {assembler.workspace_size(), a.height, assembler.tallest()});
  for_each_on_worker(parallel, rows, [&](int64_t row, int64_t worker) {
    const int64_t b = row / a.detections, d = row % a.detections;
    const Picture& picture = assembler.picture(b);
    Workspace& workspace = workspaces[worker];
    uint8_t* output = a.data + row * a.capacity;
    Cut x, y;
    Canvas canvas;
    int64_t needed;
    if (assembler.cut(b, d, &x, &y) && assembler.draw(b, d, &x, &y, workspace.canvas.data(), &canvas)) {
      needed = at_level<write_detection>(picture, x, y, canvas, a.threshold, workspace, output, a.capacity);
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
