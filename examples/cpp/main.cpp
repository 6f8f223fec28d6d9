// From a network's raw outputs to boxes and COCO run lengths, on raw pointers: no torch, no Python, no dense mask.
//
// The outputs are made up; put your network's in their place. One line an instance: label, score, box in pixels of the
// picture, and the string that pycocotools calls "counts".
#include <yolact/assemble.h>
#include <yolact/detect.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

constexpr int64_t kCells = 6, kPriors = kCells * kCells, kClasses = 3;        // a prior a cell of a grid
constexpr int64_t kMapHeight = 24, kMapWidth = 32, kChannels = 4;             // the prototypes
constexpr int64_t kRows = 20, kHeight = 120, kWidth = 160, kCapacity = 4096;  // the results, and the picture

// Numbers in [-1, 1) that look random.
std::vector<float> made_up(int64_t count, uint32_t seed) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t mixed = (static_cast<uint32_t>(i) + 7919u * seed) * 2654435761u;
    values[i] = static_cast<float>(mixed >> 16) / 32768.0f - 1.0f;
  }
  return values;
}

int main() {
  std::vector<float> priors;  // [kPriors, 4] centre x and y, width and height, as fractions of the picture
  for (int64_t y = 0; y < kCells; ++y)
    for (int64_t x = 0; x < kCells; ++x)
      priors.insert(priors.end(), {(x + 0.5f) / kCells, (y + 0.5f) / kCells, 0.375f, 0.375f});
  const std::vector<float> deltas = made_up(kPriors * 4, 1);         // [kPriors, 4]
  std::vector<float> logits = made_up(kPriors * (1 + kClasses), 2);  // [kPriors, 1 + kClasses], background first
  for (float& logit : logits) logit *= 4.0f;
  const std::vector<float> coefficients = made_up(kPriors * kChannels, 3);  // [kPriors, kChannels]
  std::vector<float> prototypes;                                            // [kMapHeight, kMapWidth, kChannels]
  for (int64_t y = 0; y < kMapHeight; ++y)
    for (int64_t x = 0; x < kMapWidth; ++x) {
      const float u = static_cast<float>(x) / kMapWidth, v = static_cast<float>(y) / kMapHeight;
      prototypes.insert(prototypes.end(), {u * 4 - 2, v * 4 - 2, u * v * 8, (u - v) * 4});
    }

  // Threads are the caller's: `Parallel` tells how to run a range on them. Here there is one.
  const yolact::Parallel threads = yolact::serial();

  std::vector<float> boxes(kRows * 4), scores(kRows);
  std::vector<int64_t> labels(kRows), prior(kRows);
  int64_t count = 0;
  yolact::DetectArguments detect{};
  detect.box_deltas = {deltas.data(), yolact::FloatType::kFloat32, {kPriors * 4, 4, 1}};
  detect.class_logits = {logits.data(), yolact::FloatType::kFloat32, {kPriors * (1 + kClasses), 1 + kClasses, 1}};
  detect.priors = {priors.data(), yolact::FloatType::kFloat32, {4, 1}};
  detect.batch = 1;
  detect.count = kPriors;
  detect.classes = kClasses;
  detect.score_threshold = 0.5f;
  detect.second_threshold = true;
  detect.decode = {0.1f, 0.2f, std::numeric_limits<float>::infinity(), false};
  detect.options.iou_threshold = 0.5f;
  detect.options.overlap = {0.0f, -std::numeric_limits<float>::infinity()};
  detect.options.top_k = 200;
  detect.options.max_detections = kRows;
  detect.level_sizes = &kPriors;
  detect.levels = 1;
  detect.pre_nms_top_k = kPriors;
  detect.boxes = boxes.data();
  detect.label = labels.data();
  detect.score = scores.data();
  detect.prior = prior.data();
  detect.kept = &count;
  yolact::cpu::detect(detect, threads);

  std::vector<float> chosen(kRows * kChannels);  // [kRows, kChannels]: the coefficients of each instance's prior
  for (int64_t row = 0; row < count; ++row)
    std::copy_n(&coefficients[prior[row] * kChannels], kChannels, &chosen[row * kChannels]);

  std::vector<uint8_t> strings(kRows * kCapacity);
  std::vector<int64_t> length(kRows), needed(kRows), sizes(kRows * 2);
  const int64_t size[] = {kHeight, kWidth};
  yolact::AssembleRunLengthsArguments assemble{};
  assemble.prototypes = prototypes.data();
  const int64_t prototype_stride[] = {kMapHeight * kMapWidth * kChannels, kMapWidth * kChannels, kChannels, 1};
  std::copy_n(prototype_stride, 4, assemble.prototype_stride);
  assemble.coefficients = chosen.data();
  const int64_t coefficient_stride[] = {kRows * kChannels, kChannels, 1};
  std::copy_n(coefficient_stride, 3, assemble.coefficient_stride);
  assemble.boxes = boxes.data();
  assemble.count = &count;
  assemble.sizes = size;
  assemble.batch = 1;
  assemble.detections = kRows;
  assemble.height = kMapHeight;
  assemble.width = kMapWidth;
  assemble.channels = kChannels;
  assemble.sigmoid = true;
  assemble.threshold = 0.5f;
  assemble.padding = 1.0f;
  assemble.capacity = kCapacity;
  assemble.data = strings.data();
  assemble.length = length.data();
  assemble.needed = needed.data();
  assemble.size = sizes.data();
  yolact::cpu::assemble_run_lengths(assemble, threads);

  for (int64_t row = 0; row < count; ++row) {
    if (needed[row] > kCapacity) {
      std::fprintf(stderr, "row %d needs a capacity of %d bytes\n", static_cast<int>(row),
                   static_cast<int>(needed[row]));
      return 1;
    }
    const float* box = &boxes[row * 4];
    std::printf("%d %.6f %.3f %.3f %.3f %.3f %.*s\n", static_cast<int>(labels[row]), scores[row], box[0] * kWidth,
                box[1] * kHeight, box[2] * kWidth, box[3] * kHeight, static_cast<int>(length[row]),
                reinterpret_cast<const char*>(&strings[row * kCapacity]));
  }
}
