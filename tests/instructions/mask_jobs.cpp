// Jobs of prototypes to masks, dense or as strings.
#include <algorithm>

#include "../../csrc/common/assemble.h"
#include "jobs.h"

namespace yolact {
namespace {

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

}  // namespace

Jobs mask_jobs() {
  return {
      {"assemble_masks", [] { return run_assemble_masks(0.3f, false); }},
      {"assemble_masks whole picture", [] { return run_assemble_masks(1.0f, false); }},
      {"assemble_masks packed", [] { return run_assemble_masks(0.3f, true); }},
      {"assemble_run_lengths", [] { return run_assemble_run_lengths(0.3f); }},
      {"assemble_run_lengths whole picture", [] { return run_assemble_run_lengths(1.0f); }},
      {"resize_masks", [] { return run_resize(true); }},
      {"resize_run_lengths", [] { return run_resize(false); }},
  };
}

}  // namespace yolact
