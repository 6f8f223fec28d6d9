// The CPU kernels on small fixed inputs, one job a run, for callgrind to count the instructions of: what a kernel does
// stands inside `counted`, which the tool is told to collect; making the inputs is outside.
//
//   kernel_jobs            prints the name of every job
//   kernel_jobs <name>     runs one and prints what its count depends on; fails where nothing comes of it
#include "jobs.h"

#include <gnu/libc-version.h>

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "../../csrc/common/assemble.h"
#include "../../csrc/common/decode_run_lengths.h"
#include "../../csrc/common/detect.h"
#include "../../csrc/common/encode_run_lengths.h"
#include "../../csrc/common/fast_nms.h"
#include "../../csrc/common/gather_run_lengths.h"
#include "../../csrc/common/preprocess.h"
#include "../../csrc/cpu/level.h"
#include "../../csrc/cpu/polygons.h"
#include "../../csrc/cpu/run_length_algebra.h"
#include "../../csrc/cpu/run_string.h"

extern "C" __attribute__((noinline)) void counted(const std::function<void()>& kernel) { kernel(); }

namespace yolact {
namespace {

std::vector<uint16_t> to_half(const std::vector<float>& values) {
  std::vector<uint16_t> half(values.size());
  std::transform(values.begin(), values.end(), half.begin(), float_to_half);
  return half;
}

template <class T>
int64_t sum(const std::vector<T>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

const SuppressionOptions kSuppression{0.5f, {0.0f, -std::numeric_limits<float>::infinity()}, 200, 100, false, false};

// As a network gives them: sure of background but for crowds of priors, one around each object.
int64_t run_detect(bool half) {
  constexpr int64_t kPriors = 3000, kClasses = 80, kObjects = 20, kCrowd = 15;
  Random random;
  std::vector<float> deltas = random.uniform(kPriors * 4, -1, 1), logits, priors;
  for (int64_t p = 0; p < kPriors; ++p) {
    for (const float value : {random.uniform(0.1f, 0.9f), random.uniform(0.1f, 0.9f), 0.2f, 0.2f})
      priors.push_back(value);
    logits.push_back(11);
    for (int64_t c = 0; c < kClasses; ++c) logits.push_back(random.uniform(-2, 2));
  }
  for (int64_t object = 0; object < kObjects; ++object) {
    const int64_t first = random.below(kPriors - kCrowd), label = random.below(kClasses);
    for (int64_t p = first; p < first + kCrowd; ++p) {
      for (int axis = 0; axis < 2; ++axis)
        priors[4 * p + axis] = priors[4 * first + axis] + random.uniform(-0.02f, 0.02f);
      logits[p * (1 + kClasses)] = 5;
      logits[p * (1 + kClasses) + 1 + label] = random.uniform(4, 10);
    }
  }
  const std::vector<uint16_t> half_logits = to_half(logits);
  std::vector<float> boxes(400), score(100);
  std::vector<int64_t> label(100), prior(100), kept(1);
  DetectArguments a{};
  a.box_deltas = {deltas.data(), FloatType::kFloat32, {kPriors * 4, 4, 1}};
  a.class_logits = {logits.data(), FloatType::kFloat32, {kPriors * (1 + kClasses), 1 + kClasses, 1}};
  if (half) a.class_logits.data = half_logits.data(), a.class_logits.type = FloatType::kFloat16;
  a.priors = {priors.data(), FloatType::kFloat32, {4, 1, 0}};
  a.batch = 1;
  a.count = kPriors;
  a.classes = kClasses;
  a.score_threshold = 0.05f;
  a.decode = {0.1f, 0.2f, std::numeric_limits<float>::infinity(), false};
  a.options = kSuppression;
  a.level_sizes = &a.count;
  a.levels = 1;
  a.pre_nms_top_k = kPriors;
  a.boxes = boxes.data();
  a.label = label.data();
  a.score = score.data();
  a.prior = prior.data();
  a.kept = kept.data();
  counted([&] { cpu::detect(a, serial()); });
  return kept[0];
}

// Boxes crowd around few objects, so that most are suppressed.
int64_t run_fast_nms(bool greedy) {
  constexpr int64_t kBoxes = 600, kClasses = 5, kObjects = 12;
  Random random;
  const std::vector<float> x = random.uniform(kObjects, 0, 400), y = random.uniform(kObjects, 0, 400);
  std::vector<float> boxes, scores = random.uniform(kClasses * kBoxes, 0, 1), score(100);
  for (int64_t i = 0; i < kBoxes; ++i) {
    const float left = x[i % kObjects] + random.uniform(-20, 20), top = y[i % kObjects] + random.uniform(-20, 20);
    for (const float edge : {left, top, left + random.uniform(60, 100), top + random.uniform(60, 100)})
      boxes.push_back(edge);
  }
  std::vector<int64_t> index(100), label(100), kept(1);
  FastNmsArguments a{};
  a.boxes = boxes.data();
  std::copy_n(std::vector<int64_t>{kBoxes * 4, 4, 1}.begin(), 3, a.box_stride);
  a.scores = scores.data();
  std::copy_n(std::vector<int64_t>{kClasses * kBoxes, kBoxes, 1}.begin(), 3, a.score_stride);
  a.batch = 1;
  a.classes = kClasses;
  a.count = kBoxes;
  a.score_threshold = 0.05f;
  a.options = kSuppression;
  a.options.greedy = greedy;
  a.index = index.data();
  a.label = label.data();
  a.score = score.data();
  a.kept = kept.data();
  counted([&] { cpu::fast_nms(a, serial()); });
  return kept[0];
}

// Prototypes of one bump each, and detections that light up the bumps in their boxes.
struct Assembly {
  static constexpr int64_t kDetections = 8, kSide = 69, kChannels = 32;
  std::vector<float> prototypes, coefficients, boxes;
  int64_t size[2] = {275, 275};
  AssembleArguments arguments{};

  explicit Assembly(float box_side) {
    Random random;
    prototypes.resize(kSide * kSide * kChannels);
    std::vector<float> x = random.uniform(kChannels, 0, 1), y = random.uniform(kChannels, 0, 1);
    for (int64_t i = 0; i < kSide * kSide; ++i)
      for (int64_t k = 0; k < kChannels; ++k) {
        const float dx = static_cast<float>(i % kSide) / kSide - x[k],
                    dy = static_cast<float>(i / kSide) / kSide - y[k];
        prototypes[i * kChannels + k] = std::max(0.0f, 1.0f - 20.0f * (dx * dx + dy * dy));
      }
    for (int64_t d = 0; d < kDetections; ++d) {
      const float left = random.uniform(0, 1 - box_side), top = random.uniform(0, 1 - box_side);
      for (const float edge : {left, top, left + box_side, top + box_side}) boxes.push_back(edge);
      for (int64_t k = 0; k < kChannels; ++k) {
        const bool within = std::max(std::abs(x[k] - left - box_side / 2), std::abs(y[k] - top - box_side / 2)) < 0.2f;
        coefficients.push_back(within ? random.uniform(0.5f, 1) : random.uniform(-0.5f, 0));
      }
    }
    arguments.prototypes = prototypes.data();
    std::copy_n(std::vector<int64_t>{kSide * kSide * kChannels, kSide * kChannels, kChannels, 1}.begin(), 4,
                arguments.prototype_stride);
    arguments.coefficients = coefficients.data();
    std::copy_n(std::vector<int64_t>{kDetections * kChannels, kChannels, 1}.begin(), 3, arguments.coefficient_stride);
    arguments.boxes = boxes.data();
    arguments.sizes = size;
    arguments.size_stride = 2;
    arguments.batch = 1;
    arguments.detections = kDetections;
    arguments.height = arguments.width = kSide;
    arguments.channels = kChannels;
    arguments.sigmoid = true;
    arguments.threshold = 0.5f;
    arguments.padding = 1;
  }
};

int64_t run_assemble_masks(float box_side, bool packed) {
  const Assembly assembly(box_side);
  const int64_t pitch = packed ? (assembly.size[1] + 7) / 8 : assembly.size[1];
  std::vector<uint8_t> masks(Assembly::kDetections * assembly.size[0] * pitch);
  AssembleMasksArguments a{assembly.arguments, packed, masks.data()};
  counted([&] { cpu::assemble_masks(a, serial()); });
  return sum(masks);
}

// Room for the strings of `count` masks.
struct Strings {
  int64_t count, capacity;
  std::vector<uint8_t> data;
  std::vector<int64_t> length, needed, size;

  Strings(int64_t count, int64_t capacity)
      : count(count), capacity(capacity), data(count * capacity), length(count), needed(count), size(2 * count) {}
};

int64_t run_assemble_run_lengths(float box_side) {
  const Assembly assembly(box_side);
  Strings strings(Assembly::kDetections, 4096);
  AssembleRunLengthsArguments a{
      assembly.arguments, false, strings.capacity, strings.data.data(), strings.length.data(), strings.needed.data(),
      strings.size.data()};
  counted([&] { cpu::assemble_run_lengths(a, serial()); });
  return sum(strings.length);
}

// Masks of low resolution, each the only prototype of a picture of its own, as resize_masks hands them over.
template <class Arguments>
Arguments resizing(const std::vector<float>& logits, const std::vector<float>& boxes, const int64_t (&size)[2]) {
  static const float kOne = 1;
  Arguments a{};
  a.batch = static_cast<int64_t>(boxes.size()) / 4;
  a.detections = a.channels = 1;
  a.height = a.width = 78;
  a.prototypes = logits.data();
  std::copy_n(std::vector<int64_t>{78 * 78, 78, 1, 78 * 78}.begin(), 4, a.prototype_stride);
  a.coefficients = &kOne;
  a.boxes = boxes.data();
  a.sizes = size;
  a.crop = Crop::kNone;
  return a;
}

int64_t run_resize(bool dense) {
  constexpr int64_t kCount = 4, kSize[2] = {275, 301};
  Random random;
  std::vector<float> logits, boxes(4 * kCount);
  for (int64_t i = 0; i < kCount; ++i) {
    const float x = random.uniform(10, 60), y = random.uniform(10, 60);
    for (int64_t pixel = 0; pixel < 78 * 78; ++pixel) {
      const float dx = static_cast<float>(pixel % 78) - x, dy = static_cast<float>(pixel / 78) - y;
      logits.push_back(100 - dx * dx - dy * dy);
    }
  }
  if (dense) {
    auto a = resizing<AssembleMasksArguments>(logits, boxes, kSize);
    std::vector<uint8_t> masks(kCount * kSize[0] * kSize[1]);
    a.masks = masks.data();
    counted([&] { cpu::assemble_masks(a, serial()); });
    return sum(masks);
  }
  auto a = resizing<AssembleRunLengthsArguments>(logits, boxes, kSize);
  Strings strings(kCount, 4096);
  a.capacity = strings.capacity;
  a.data = strings.data.data();
  a.length = strings.length.data();
  a.needed = strings.needed.data();
  a.size = strings.size.data();
  counted([&] { cpu::assemble_run_lengths(a, serial()); });
  return sum(strings.length);
}

constexpr int64_t kMasks = 8, kHeight = 275, kWidth = 301;

// Ellipses, or pixels by chance, row by row or column by column.
std::vector<uint8_t> masks_of(bool noise, bool by_columns) {
  Random random;
  std::vector<uint8_t> masks(kMasks * kHeight * kWidth);
  for (int64_t i = 0; i < kMasks; ++i) {
    const float x0 = random.uniform(50, 250), y0 = random.uniform(50, 220), rx = random.uniform(20, 70), ry = 50;
    for (int64_t y = 0; y < kHeight; ++y)
      for (int64_t x = 0; x < kWidth; ++x) {
        const float dx = (static_cast<float>(x) - x0) / rx, dy = (static_cast<float>(y) - y0) / ry;
        masks[i * kHeight * kWidth + (by_columns ? x * kHeight + y : y * kWidth + x)] =
            noise ? random.below(8) == 0 : dx * dx + dy * dy < 1;
      }
  }
  return masks;
}

EncodeRunLengthsArguments encoding(const std::vector<uint8_t>& masks, bool by_columns, Strings& strings) {
  EncodeRunLengthsArguments a{};
  a.masks = masks.data();
  a.stride[0] = kHeight * kWidth;
  a.stride[1] = by_columns ? 1 : kWidth;
  a.stride[2] = by_columns ? kHeight : 1;
  a.count = strings.count;
  a.height = kHeight;
  a.width = kWidth;
  a.data = strings.data.data();
  a.capacity = strings.capacity;
  a.length = strings.length.data();
  a.needed = strings.needed.data();
  a.size = strings.size.data();
  return a;
}

int64_t run_encode(bool noise, bool by_columns) {
  const std::vector<uint8_t> masks = masks_of(noise, by_columns);
  Strings strings(kMasks, noise ? 1 << 16 : 4096);
  const EncodeRunLengthsArguments a = encoding(masks, by_columns, strings);
  counted([&] { cpu::encode_run_lengths(a, serial()); });
  return sum(strings.length);
}

int64_t run_encode_mask() {
  const std::vector<uint8_t> masks = masks_of(false, true);
  std::vector<uint8_t> text(kHeight * kWidth + 9);
  int64_t bytes = 0;
  counted([&] {
    bytes = cpu::encode_mask(masks.data(), kHeight, kWidth, 1, kHeight, text.data(), static_cast<int64_t>(text.size()));
  });
  return bytes;
}

// The strings of what masks_of gives.
Strings encoded(bool noise) {
  const std::vector<uint8_t> masks = masks_of(noise, false);
  Strings strings(kMasks, 1 << 16);
  cpu::encode_run_lengths(encoding(masks, false, strings), serial());
  return strings;
}

int64_t run_decode() {
  const Strings strings = encoded(false);
  std::vector<uint8_t> masks(kMasks * kHeight * kWidth);
  std::vector<int64_t> error(kMasks);
  const DecodeRunLengthsArguments a{strings.data.data(),
                                    strings.length.data(),
                                    strings.needed.data(),
                                    strings.size.data(),
                                    kMasks,
                                    strings.capacity,
                                    kHeight,
                                    kWidth,
                                    masks.data(),
                                    error.data()};
  counted([&] { cpu::decode_run_lengths(a, serial()); });
  return sum(masks);
}

// Short strings of every length: what longer ones cost is the C library's copying, and depends on where they lie.
int64_t run_gather() {
  constexpr int64_t kRows = 500;
  Strings strings(kRows, 64);
  for (int64_t i = 0; i < kRows; ++i) strings.length[i] = strings.needed[i] = i % 64;
  std::fill(strings.data.begin(), strings.data.end(), '0');
  std::vector<uint8_t> output(gathered_size(kRows, strings.capacity));
  const GatherRunLengthsArguments a{
      strings.data.data(), strings.length.data(), strings.needed.data(), strings.size.data(), kRows,
      strings.capacity,    output.data()};
  counted([&] { cpu::gather_run_lengths(a); });
  return sum(output);
}

int64_t run_preprocess(bool round_to_uint8) {
  constexpr int64_t kIn[2] = {120, 160}, kOut = 138;
  Random random;
  std::vector<uint8_t> picture(kIn[0] * kIn[1] * 3);
  for (uint8_t& value : picture) value = static_cast<uint8_t>(random.below(256));
  std::vector<float> output(3 * kOut * kOut);
  PreprocessArguments a{
      picture.data(), {0, kIn[1] * 3, 3, 1}, 1, kIn[0], kIn[1], kOut, kOut, {124, 117, 104}, {58, 57, 57},
      round_to_uint8, output.data()};
  counted([&] { cpu::preprocess(a, serial()); });
  return std::count_if(output.begin(), output.end(), [](float value) { return value > 1; });
}

std::vector<cpu::IntervalMask> read_all(const Strings& strings) {
  std::vector<cpu::IntervalMask> masks(kMasks);
  for (int64_t i = 0; i < kMasks; ++i) {
    masks[i].height = kHeight;
    masks[i].width = kWidth;
    cpu::read_intervals(strings.data.data() + i * strings.capacity, strings.length[i], &masks[i]);
  }
  return masks;
}

int64_t run_read_and_write() {
  const Strings strings = encoded(true);
  std::vector<uint8_t> text(strings.capacity);
  int64_t bytes = 0;
  counted([&] {
    for (const cpu::IntervalMask& mask : read_all(strings))
      bytes += cpu::write_intervals(mask, text.data(), strings.capacity);
  });
  return bytes;
}

int64_t run_area_and_box() {
  const std::vector<cpu::IntervalMask> masks = read_all(encoded(true));
  double total = 0;
  counted([&] {
    for (const cpu::IntervalMask& mask : masks) total += cpu::area(mask) + cpu::bounding_box(mask).width;
  });
  return static_cast<int64_t>(total);
}

int64_t run_merge(bool intersect) {
  std::vector<cpu::IntervalMask> masks = read_all(encoded(true));
  if (intersect) masks.resize(2);
  cpu::IntervalMask merged;
  counted([&] { merged = cpu::merge(std::move(masks), intersect); });
  return merged.count;
}

int64_t run_mask_iou() {
  std::vector<cpu::IntervalMask> masks = read_all(encoded(true));
  masks.resize(3);
  const std::vector<uint8_t> crowd(3);
  std::vector<double> iou(9);
  counted([&] { cpu::mask_iou(masks, masks, crowd.data(), iou.data()); });
  return static_cast<int64_t>(std::count_if(iou.begin(), iou.end(), [](double value) { return value > 0; }));
}

int64_t run_box_iou() {
  constexpr int64_t kBoxes = 100;
  Random random;
  std::vector<cpu::BoxXywh> boxes;
  for (int64_t i = 0; i < kBoxes; ++i) {
    const float x = random.uniform(0, 400), y = random.uniform(0, 400);
    boxes.push_back({x, y, random.uniform(20, 150), random.uniform(20, 150)});
  }
  const std::vector<uint8_t> crowd(kBoxes);
  std::vector<double> iou(kBoxes * kBoxes);
  counted([&] { cpu::box_iou(boxes.data(), kBoxes, boxes.data(), kBoxes, crowd.data(), iou.data()); });
  return static_cast<int64_t>(std::count_if(iou.begin(), iou.end(), [](double value) { return value > 0; }));
}

int64_t run_polygon_flips() {
  Random random;
  std::vector<double> vertices;
  for (int64_t i = 0; i < 60; ++i) vertices.push_back(random.uniform(0, 275));
  std::vector<uint8_t> text(cpu::longest_string(30 * kWidth));
  int64_t bytes = 0;
  counted([&] {
    const std::vector<uint32_t> flips = cpu::polygon_flips(vertices.data(), 30, kHeight, kWidth);
    bytes = cpu::write_flips(flips.data(), static_cast<int64_t>(flips.size()), kHeight * kWidth, text.data(),
                             static_cast<int64_t>(text.size()));
  });
  return bytes;
}

const Jobs kJobs = {
    {"detect", [] { return run_detect(false); }},
    {"detect float16", [] { return run_detect(true); }},
    {"fast_nms", [] { return run_fast_nms(false); }},
    {"fast_nms greedy", [] { return run_fast_nms(true); }},
    {"assemble_masks", [] { return run_assemble_masks(0.3f, false); }},
    {"assemble_masks whole picture", [] { return run_assemble_masks(1.0f, false); }},
    {"assemble_masks packed", [] { return run_assemble_masks(0.3f, true); }},
    {"assemble_run_lengths", [] { return run_assemble_run_lengths(0.3f); }},
    {"assemble_run_lengths whole picture", [] { return run_assemble_run_lengths(1.0f); }},
    {"resize_masks", [] { return run_resize(true); }},
    {"resize_run_lengths", [] { return run_resize(false); }},
    {"encode_mask", run_encode_mask},
    {"encode_run_lengths by rows", [] { return run_encode(false, false); }},
    {"encode_run_lengths by columns", [] { return run_encode(false, true); }},
    {"encode_run_lengths noise", [] { return run_encode(true, false); }},
    {"decode_run_lengths", run_decode},
    {"gather_run_lengths", run_gather},
    {"preprocess", [] { return run_preprocess(false); }},
    {"preprocess rounded", [] { return run_preprocess(true); }},
    {"read_intervals, write_intervals", run_read_and_write},
    {"area, bounding_box", run_area_and_box},
    {"merge", [] { return run_merge(false); }},
    {"merge intersect", [] { return run_merge(true); }},
    {"mask_iou", run_mask_iou},
    {"box_iou", run_box_iou},
    {"polygon_flips, write_flips", run_polygon_flips},
};

}  // namespace
}  // namespace yolact

int main(int count, char** arguments) {
  yolact::Jobs jobs = yolact::training_jobs();
  jobs.insert(yolact::kJobs.begin(), yolact::kJobs.end());
  if (count < 2) {
    for (const auto& [name, run] : jobs) std::printf("%s\n", name.c_str());
    return 0;
  }
  const auto job = jobs.find(arguments[1]);
  if (job == jobs.end()) {
    std::fprintf(stderr, "no job of this name: %s\n", arguments[1]);
    return 2;
  }
  if (job->second() == 0) {
    std::fprintf(stderr, "nothing came of it: %s\n", arguments[1]);
    return 1;
  }
#ifdef __clang__
  const char* compiler = "";  // __VERSION__ begins with its name
#else
  const char* compiler = "GCC ";
#endif
  std::printf("%s%s, glibc %s, level %s\n", compiler, __VERSION__, gnu_get_libc_version(),
              yolact::cpu::name_of(yolact::cpu::level()));
  return 0;
}
