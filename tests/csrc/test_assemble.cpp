// assemble_masks and assemble_run_lengths against one plain loop over pixels, on buffers of exactly their size: the
// bits must agree.
#include <cmath>
#include <vector>

#include "../../csrc/common/math.h"
#include "../../csrc/common/run_lengths.h"
#include "assemble_case.h"
#include "check.h"

namespace yolact {
namespace {

bool within(int64_t i, Span span) { return span.begin <= i && i < span.end; }

// One pixel of low resolution, of the whole map.
float low(const AssembleArguments& a, int64_t b, int64_t d, int64_t y, int64_t x, Span box_y, Span box_x) {
  if (a.crop == Crop::kBefore && !(within(y, box_y) && within(x, box_x))) return 0.0f;
  const int64_t *s = a.prototype_stride, *t = a.coefficient_stride;
  float sum[16] = {};  // added up by halves
  for (int64_t k = 0; k < a.channels; ++k)
    sum[k % 16] += load_float(a.prototypes, b * s[0] + y * s[1] + x * s[2] + k * s[3], a.prototype_type) *
                   load_float(a.coefficients, b * t[0] + d * t[1] + k * t[2], a.coefficient_type);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
  return a.sigmoid ? sigmoid(sum[0]) : sum[0];
}

std::vector<uint8_t> naive(const AssembleArguments& a, int64_t b, int64_t d) {
  const Axis axis_x = axis_of(a, b, false, a.sizes[2 * b + 1]), axis_y = axis_of(a, b, true, a.sizes[2 * b]);
  const float* box = a.boxes + (b * a.detections + d) * 4;
  std::vector<uint8_t> mask(static_cast<size_t>(axis_y.output) * axis_x.output);
  bool valid = (!a.count || d < a.count[b]) && axis_x.extent > 0 && axis_y.extent > 0;
  for (int i = 0; i < 4; ++i) valid = valid && !std::isnan(box[i]);
  if (!valid) return mask;

  const Span before_x = box_before(box[0], box[2], axis_x, a.box_unit, a.padding);
  const Span before_y = box_before(box[1], box[3], axis_y, a.box_unit, a.padding);
  const Span after_x = box_after(box[0], box[2], axis_x, a.box_unit, a.padding);
  const Span after_y = box_after(box[1], box[3], axis_y, a.box_unit, a.padding);
  for (int64_t y = 0; y < axis_y.output; ++y) {
    const Tap v = tap(y, axis_y);
    for (int64_t x = 0; x < axis_x.output; ++x) {
      const Tap u = tap(x, axis_x);
      const auto at = [&](int32_t row, int32_t column) {
        return low(a, b, d, axis_y.begin + row, axis_x.begin + column, before_y, before_x);
      };
      const float top = blend(at(v.index0, u.index0), at(v.index0, u.index1), u.weight0, u.weight1);
      const float bottom = blend(at(v.index1, u.index0), at(v.index1, u.index1), u.weight0, u.weight1);
      const bool inside = a.crop != Crop::kAfter || (within(x, after_x) && within(y, after_y));
      mask[y * axis_x.output + x] = inside && blend(top, bottom, v.weight0, v.weight1) > a.threshold;
    }
  }
  return mask;
}

// Two workers, one after the other: every workspace is used, and by more than one item.
Parallel two_workers() {
  return {2, [](int64_t count, int64_t, const Range& body) {
            for (int64_t i = 0; i < count; ++i) body(i, i + 1);
          }};
}

void test_masks(uint32_t seed, bool packed) {
  Random random(seed);
  const Case c(random, random_shape(random), false);
  AssembleMasksArguments a{c.arguments, packed, nullptr};
  const int64_t height = a.sizes[0], width = a.sizes[1], pitch = packed ? (width + 7) / 8 : width;
  std::vector<uint8_t> masks(a.batch * a.detections * height * pitch, 0xAA);
  a.masks = masks.data();
  cpu::assemble_masks(a, seed % 2 ? serial() : two_workers());
  bool same = true;
  for (int64_t i = 0; i < a.batch * a.detections; ++i) {
    const std::vector<uint8_t> expected = naive(a, i / a.detections, i % a.detections);
    for (int64_t y = 0; y < height; ++y) {
      const uint8_t* row = masks.data() + (i * height + y) * pitch;
      for (int64_t x = 0; x < width; ++x)
        same = same && (packed ? row[x / 8] >> x % 8 & 1 : row[x]) == expected[y * width + x];
    }
  }
  if (!same) std::fprintf(stderr, "seed %u:\n", seed);
  CHECK(same);
}

void test_run_lengths(uint32_t seed, int64_t capacity) {
  Random random(seed);
  const Case c(random, random_shape(random), true);
  const int64_t rows = c.arguments.batch * c.arguments.detections;
  std::vector<uint8_t> data(rows * capacity);
  std::vector<int64_t> length(rows), needed(rows), size(2 * rows);
  AssembleRunLengthsArguments a{c.arguments, false, capacity, data.data(), length.data(), needed.data(), size.data()};
  cpu::assemble_run_lengths(a, seed % 2 ? serial() : two_workers());
  bool same = true;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t b = i / a.detections, height = a.sizes[2 * b], width = a.sizes[2 * b + 1];
    same = same && size[2 * i] == height && size[2 * i + 1] == width;
    same = same && length[i] == (needed[i] <= capacity ? needed[i] : 0);
    if (needed[i] > capacity) continue;
    const std::vector<uint8_t> expected = naive(a, b, i % a.detections);
    RunReader reader(data.data() + i * capacity, length[i], height * width);
    int64_t position = 0;
    uint8_t value = 0;
    for (int64_t count; reader.next(&count); value ^= 1)
      for (const int64_t end = position + count; position < end; ++position)
        same = same && expected[position % height * width + position / height] == value;
    same = same && reader.error == RunError::kNone && position == height * width;
  }
  if (!same) std::fprintf(stderr, "seed %u:\n", seed);
  CHECK(same);
}

// The pixel before has a tap that begins earlier, and it has not.
void check_first_output(int32_t extent, int32_t output, int32_t index) {
  const Axis axis{extent, 0, extent, output, static_cast<float>(extent) / static_cast<float>(output)};
  const int32_t first = first_output(axis, index);
  CHECK(first >= 0 && first <= output);
  CHECK(first == 0 || tap(first - 1, axis).index0 < index);
  CHECK(first == output || tap(first, axis).index0 >= index);
}

void test_first_output() {
  for (const int32_t extent : {1, 2, 3, 7, 69, 138, 200})
    for (const int32_t output : {1, 2, 5, 68, 138, 139, 275, 276, 550, 1080, 100003})
      for (int32_t index = -1; index <= extent; ++index) check_first_output(extent, output, index);
  Random random(1);
  for (int i = 0; i < 100000; ++i) {
    const int32_t extent = 1 + random.below(1 << (1 + random.below(29)));
    const int32_t output = 1 + random.below(1 << (1 + random.below(29)));
    check_first_output(extent, output, random.below(extent + 1));
  }
}

}  // namespace
}  // namespace yolact

int main() {
  yolact::test_first_output();
  for (uint32_t seed = 0; seed < 400; ++seed) {
    yolact::test_masks(seed, seed % 3 == 0);
    yolact::test_run_lengths(seed, seed % 5 == 0 ? 9 : 20000);
  }
  return failures() != 0;
}
