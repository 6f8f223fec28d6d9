// Prototypes to dense masks (YOLACT, section 3.3): one detection a task, one row of the result at a time. A row of
// the low-resolution mask is stretched to the result's columns once and then blended with the next for all rows
// between them; outside the box zeros are written. Bytes moved: the prototypes inside the boxes, the masks once.
#include <algorithm>
#include <utility>
#include <vector>

#include "assemble.h"
#include "bit_rows.h"

namespace yolact::cpu {
namespace {

struct Workspace {
  std::vector<float> canvas, row0, row1;
  std::vector<uint8_t> pixels;  // of one row, a byte each, before they are packed
  std::vector<uint64_t> bits;

  Workspace(int64_t canvas_size, int64_t width)
      : canvas(canvas_size),
        row0(width + kFew),
        row1(width + kFew),
        pixels((width + 7) / 8 * 8),
        bits(words_of(width)) {}
};

// Writes up to kFew - 1 numbers past the row.
YOLACT_INLINE void stretch(const float* __restrict values, const Grid& grid, Span output, int32_t origin,
                           float* __restrict row) {
  const int32_t *index0 = grid.index0.data(), *index1 = grid.index1.data();
  const float *weight0 = grid.weight0.data(), *weight1 = grid.weight1.data();
  if (grid.axis.output < 2 * grid.axis.extent) {
    for (int32_t x = output.begin; x < output.end; ++x)
      row[x - output.begin] = blend(values[index0[x] - origin], values[index1[x] - origin], weight0[x], weight1[x]);
    return;
  }
  // All pixels between two values at once: no gather.
  for (int32_t i = index0[output.begin]; i <= index0[output.end - 1]; ++i) {
    const float value0 = values[i - origin], value1 = values[std::min(i + 1, grid.axis.extent - 1) - origin];
    const int32_t end = std::min(grid.first[i + 1], output.end);
    for (int32_t x = std::max(grid.first[i], output.begin); x < end; x += kFew) {
      const Few few = blend(value0, value1, load_lanes<Few>(weight0 + x), load_lanes<Few>(weight1 + x));
      store_lanes(row + x - output.begin, few);
    }
  }
}

YOLACT_INLINE void blend_rows(const float* __restrict row0, const float* __restrict row1, float weight0, float weight1,
                              float threshold, int64_t count, uint8_t* __restrict pixels) {
  for (int64_t x = 0; x < count; ++x) pixels[x] = blend(row0[x], row1[x], weight0, weight1) > threshold;
}

}  // namespace

void assemble_masks(const AssembleMasksArguments& a, const Parallel& parallel) {
  const Assembler assembler(a, Assembler::Inner::kX, parallel);
  const int64_t height = a.sizes[0], width = a.sizes[1];
  const int64_t pitch = a.packed ? (width + 7) / 8 : width;
  const int64_t detections = a.batch * a.detections;
  std::vector<Workspace> workspaces(workers_for(parallel, detections), {assembler.workspace_size(), width});
  for_each_on_worker(parallel, detections, [&](int64_t i, int64_t worker) {
    const int64_t b = i / a.detections, d = i % a.detections;
    uint8_t* mask = a.masks + i * height * pitch;
    Workspace& workspace = workspaces[worker];
    Cut x, y;
    Canvas canvas;
    if (!assembler.cut(b, d, &x, &y) || !assembler.draw(b, d, &x, &y, workspace.canvas.data(), &canvas)) {
      std::memset(mask, 0, height * pitch);
      return;
    }
    const Picture& picture = assembler.picture(b);
    const int64_t columns = x.output.end - x.output.begin;
    float *row0 = workspace.row0.data(), *row1 = workspace.row1.data();
    int64_t line0 = -1, line1 = -1;  // which lines of the canvas they hold
    const auto stretch_line = [&](int64_t line, float* row) {
      at_level<stretch>(canvas.values + (line - y.canvas.begin) * canvas.stride, picture.x, x.output, x.canvas.begin,
                        row);
    };

    const int64_t begin = a.packed ? x.output.begin / 8 : x.output.begin;  // what is written of a row
    const int64_t end = a.packed ? (x.output.end + 7) / 8 : x.output.end;
    std::memset(mask, 0, y.output.begin * pitch + begin);
    if (a.packed) std::fill(workspace.pixels.begin(), workspace.pixels.end(), 0);
    for (int64_t row = y.output.begin; row < y.output.end; ++row) {
      const int64_t index0 = picture.y.index0[row], index1 = picture.y.index1[row];
      if (index0 == line1) {
        std::swap(row0, row1);
        std::swap(line0, line1);
      }
      if (index0 != line0) stretch_line(line0 = index0, row0);
      if (index1 != line1) stretch_line(line1 = index1, row1);
      uint8_t* pixels = a.packed ? workspace.pixels.data() : mask + row * pitch;
      at_level<blend_rows>(row0, row1, picture.y.weight0[row], picture.y.weight1[row], a.threshold, columns,
                           pixels + x.output.begin);
      if (a.packed) {
        pack_rows(pixels + 8 * begin, 1, 8 * (end - begin), 0, 1, workspace.bits.data());
        std::memcpy(mask + row * pitch + begin, workspace.bits.data(), end - begin);
      }
      // From the end of this row's pixels to the begin of the next one's.
      const bool is_last = row == y.output.end - 1;
      std::memset(mask + row * pitch + end, 0, pitch - end + (is_last ? (height - row - 1) * pitch : begin));
    }
  });
}

}  // namespace yolact::cpu
