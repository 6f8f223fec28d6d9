// Jobs of what stands before the masks: pictures to input, outputs to boxes.
#include <algorithm>

#include "../../csrc/common/detect.h"
#include "../../csrc/common/fast_nms.h"
#include "../../csrc/common/preprocess.h"
#include "jobs.h"

namespace yolact {
namespace {

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

std::vector<uint16_t> to_half(const std::vector<float>& values) {
  std::vector<uint16_t> half(values.size());
  std::transform(values.begin(), values.end(), half.begin(), float_to_half);
  return half;
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

}  // namespace

Jobs detection_jobs() {
  return {
      {"detect", [] { return run_detect(false); }},         {"detect float16", [] { return run_detect(true); }},
      {"fast_nms", [] { return run_fast_nms(false); }},     {"fast_nms greedy", [] { return run_fast_nms(true); }},
      {"preprocess", [] { return run_preprocess(false); }}, {"preprocess rounded", [] { return run_preprocess(true); }},
  };
}

}  // namespace yolact
