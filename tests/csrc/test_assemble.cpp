// assemble_masks and assemble_run_lengths against one plain loop over pixels, on buffers of exactly their size. The
// prototypes and coefficients are small fractions, so that a sum is the same in any order, and the bits must agree.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/common/assemble.h"
#include "../../csrc/common/interpolation.h"
#include "../../csrc/common/math.h"
#include "../../csrc/common/run_lengths.h"
#include "check.h"

namespace yolact {
namespace {

// What a caller hands over, and what the arguments point into.
struct Case {
  AssembleArguments arguments{};
  std::vector<float> prototypes, coefficients, boxes, source_region;
  std::vector<int64_t> count, sizes;
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int below(int limit) { return static_cast<int>(engine_() % static_cast<uint32_t>(limit)); }
  int among(std::initializer_list<int> choices) { return choices.begin()[below(static_cast<int>(choices.size()))]; }
  float number() { return static_cast<float>(engine_() % 4096) / 4096.0f; }

 private:
  std::mt19937 engine_;
};

void fill(Case& c, Random& random, bool one_size) {
  AssembleArguments& a = c.arguments;
  a.batch = 1 + random.below(2);
  a.detections = 1 + random.below(4);
  a.height = random.among({1, 2, 5, 17, 40, 70});
  a.width = random.among({1, 3, 15, 16, 17, 33});
  a.channels = random.among({1, 3, 16, 32, 33});
  for (int64_t i = 0; i < a.batch * a.height * a.width * a.channels; ++i)
    c.prototypes.push_back(static_cast<float>(random.below(9) - 4));
  for (int64_t i = 0; i < a.batch * a.detections * a.channels; ++i)
    c.coefficients.push_back(static_cast<float>(random.below(9) - 4) / 16.0f);
  a.prototypes = c.prototypes.data();
  a.coefficients = c.coefficients.data();
  const int64_t plane = a.height * a.width, h = a.height, w = a.width, k = a.channels;
  if (random.below(2)) {
    std::copy_n(std::initializer_list<int64_t>{plane * k, w * k, k, 1}.begin(), 4, a.prototype_stride);
  } else if (random.below(2)) {
    std::copy_n(std::initializer_list<int64_t>{plane * k, w, 1, plane}.begin(), 4, a.prototype_stride);
  } else {  // neither channels nor columns side by side
    std::copy_n(std::initializer_list<int64_t>{plane * k, 1, h, plane}.begin(), 4, a.prototype_stride);
  }
  a.coefficient_stride[0] = a.detections * k;
  a.coefficient_stride[1] = k;
  a.coefficient_stride[2] = 1;

  const int64_t height = random.among({1, 2, 7, 64, 90}), width = random.among({1, 3, 8, 50});
  for (int64_t b = 0; b < a.batch; ++b) {
    c.sizes.push_back(one_size ? height : 1 + random.below(80));
    c.sizes.push_back(one_size ? width : 1 + random.below(80));
  }
  a.sizes = c.sizes.data();
  a.size_stride = 2;
  a.box_unit = static_cast<BoxUnit>(random.below(3));
  const float scale = a.box_unit == BoxUnit::kRelative ? 1.0f : static_cast<float>(a.width);
  for (int64_t i = 0; i < a.batch * a.detections * 4; ++i) c.boxes.push_back((random.number() * 1.4f - 0.2f) * scale);
  if (random.below(3) == 0) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float odd[] = {kInfinity, -kInfinity, std::nanf(""), 1e30f};
    c.boxes[random.below(static_cast<int>(c.boxes.size()))] = odd[random.below(4)];
  }
  a.boxes = c.boxes.data();
  if (random.below(3) == 0) {
    for (int64_t b = 0; b < a.batch; ++b)
      for (const float edge : {0.3f, 0.2f, 0.9f, 0.8f}) c.source_region.push_back(edge * static_cast<float>(a.width));
    a.source_region = c.source_region.data();
  }
  if (random.below(3) == 0) {
    for (int64_t b = 0; b < a.batch; ++b) c.count.push_back(random.below(static_cast<int>(a.detections) + 1));
    a.count = c.count.data();
  }
  a.sigmoid = random.below(2);
  const float thresholds[] = {0.5f, 0.0f, -0.25f, 0.625f, 1.0f};
  a.threshold = thresholds[random.below(5)];
  a.crop = static_cast<Crop>(random.below(3));
  a.padding = static_cast<float>(random.below(3)) / 2.0f;
}

Axis axis_of(const AssembleArguments& a, int64_t b, bool is_y) {
  const int32_t full = static_cast<int32_t>(is_y ? a.height : a.width);
  const float* region = a.source_region ? a.source_region + 4 * b : nullptr;
  const Span span = region ? region_span(region[is_y], region[2 + is_y], full) : Span{0, full};
  return {full, span.begin, std::max(0, span.end - span.begin), static_cast<int32_t>(a.sizes[2 * b + !is_y])};
}

bool within(int64_t i, Span span) { return span.begin <= i && i < span.end; }

// One pixel of low resolution, of the whole map.
float low(const AssembleArguments& a, int64_t b, int64_t d, int64_t y, int64_t x, Span box_y, Span box_x) {
  if (a.crop == Crop::kBefore && !(within(y, box_y) && within(x, box_x))) return 0.0f;
  const int64_t* s = a.prototype_stride;
  float sum = 0.0f;
  for (int64_t k = 0; k < a.channels; ++k)
    sum += static_cast<const float*>(a.prototypes)[b * s[0] + y * s[1] + x * s[2] + k * s[3]] *
           static_cast<const float*>(a.coefficients)[(b * a.detections + d) * a.channels + k];
  return a.sigmoid ? sigmoid(sum) : sum;
}

std::vector<uint8_t> naive(const AssembleArguments& a, int64_t b, int64_t d) {
  const Axis axis_x = axis_of(a, b, false), axis_y = axis_of(a, b, true);
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
    const Tap v = tap(y, axis_y.extent, static_cast<float>(axis_y.extent) / static_cast<float>(axis_y.output));
    for (int64_t x = 0; x < axis_x.output; ++x) {
      const Tap u = tap(x, axis_x.extent, static_cast<float>(axis_x.extent) / static_cast<float>(axis_x.output));
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
  Case c;
  fill(c, random, true);
  AssembleMasksArguments a{c.arguments, packed, nullptr};
  const int64_t height = c.sizes[0], width = c.sizes[1], pitch = packed ? (width + 7) / 8 : width;
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
  Case c;
  fill(c, random, false);
  const int64_t rows = c.arguments.batch * c.arguments.detections;
  std::vector<uint8_t> data(rows * capacity);
  std::vector<int64_t> length(rows), needed(rows), size(2 * rows);
  AssembleRunLengthsArguments a{c.arguments, capacity, data.data(), length.data(), needed.data(), size.data()};
  cpu::assemble_run_lengths(a, seed % 2 ? serial() : two_workers());
  bool same = true;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t b = i / a.detections, height = c.sizes[2 * b], width = c.sizes[2 * b + 1];
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

}  // namespace
}  // namespace yolact

int main() {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    yolact::test_masks(seed, seed % 3 == 0);
    yolact::test_run_lengths(seed, seed % 5 == 0 ? 9 : 20000);
  }
  return failures() != 0;
}
