// detect and fast_nms against loops that follow their description word by word, on inputs full of ties.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/common/detect.h"
#include "../../csrc/common/math.h"
#include "check.h"

using namespace yolact;

namespace {

constexpr float kInfinity = INFINITY;

struct Row {
  float score;
  int64_t label, index;
  bool operator==(const Row& other) const {
    return score == other.score && label == other.label && index == other.index;
  }
};

bool better(const Row& a, const Row& b) { return a.score != b.score ? a.score > b.score : a.index < b.index; }

// candidates[c]: those of class c.
std::vector<Row> naive_nms(std::vector<std::vector<Row>> groups, const std::vector<Box>& boxes,
                           const SuppressionOptions& o) {
  if (o.across_classes) {
    std::vector<Row> best(boxes.size(), {0, -1, -1}), all;
    for (const auto& group : groups)
      for (const Row& row : group)
        if (best[row.index].label < 0 || row.score > best[row.index].score) best[row.index] = row;
    for (const Row& row : best)
      if (row.label >= 0) all.push_back(row);
    groups = {all};
  }
  std::vector<Row> kept;
  for (auto& group : groups) {
    std::sort(group.begin(), group.end(), better);
    if (static_cast<int64_t>(group.size()) > o.top_k) group.resize(o.top_k);
    std::vector<bool> fell(group.size(), false);
    for (size_t low = 0; low < group.size(); ++low)
      for (size_t high = 0; high < low; ++high) {
        if (o.greedy && fell[high]) continue;
        const Box &a = boxes[group[high].index], &b = boxes[group[low].index];
        const float value = overlap(a, area(a, o.overlap.extra), b, area(b, o.overlap.extra), o.overlap);
        if (!(value <= o.iou_threshold)) fell[low] = true;
      }
    for (size_t i = 0; i < group.size(); ++i)
      if (!fell[i]) kept.push_back(group[i]);
  }
  std::sort(kept.begin(), kept.end(), [](const Row& a, const Row& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.label != b.label ? a.label < b.label : a.index < b.index;
  });
  if (static_cast<int64_t>(kept.size()) > o.max_detections) kept.resize(o.max_detections);
  return kept;
}

struct Random {
  std::mt19937 engine;
  float uniform() { return static_cast<float>(engine() % 100000) / 100000.0f; }
  int64_t below(int64_t end) { return static_cast<int64_t>(engine() % end); }
};

SuppressionOptions random_options(Random& random) {
  SuppressionOptions o{};
  o.iou_threshold = random.below(2) ? 0.5f : 0.25f;
  o.overlap = {static_cast<float>(random.below(2)), random.below(2) ? 1e-6f : -kInfinity};
  o.top_k = random.below(8) ? 1 + random.below(60) : std::numeric_limits<int64_t>::max();
  o.max_detections = 1 + random.below(120);
  o.across_classes = random.below(3) == 0;
  o.greedy = random.below(2) == 0;
  return o;
}

void test_fast_nms(uint32_t seed) {
  Random random{std::mt19937(seed)};
  const int64_t classes = 1 + random.below(20), count = random.below(4) ? random.below(60) : 2000;
  std::vector<Box> boxes(count);
  for (Box& box : boxes) {
    box.x1 = static_cast<float>(random.below(5));
    box.y1 = static_cast<float>(random.below(5));
    box.x2 = box.x1 + static_cast<float>(random.below(4));
    box.y2 = box.y1 + static_cast<float>(random.below(4));
    if (random.below(40) == 0) box.x2 = NAN;
    if (random.below(40) == 0) box.y2 = kInfinity;
  }
  const float steps = random.below(2) ? 4.0f : 100000.0f;
  std::vector<float> scores(classes * count);
  for (float& score : scores) score = random.below(30) ? std::round(random.uniform() * steps) / steps : NAN;

  FastNmsArguments a{};
  a.boxes = reinterpret_cast<const float*>(boxes.data());
  a.scores = scores.data();
  for (int i = 0; i < 3; ++i) a.box_stride[i] = i == 0 ? 4 * count : i == 1 ? 4 : 1;
  for (int i = 0; i < 3; ++i) a.score_stride[i] = i == 0 ? classes * count : i == 1 ? count : 1;
  a.batch = 1;
  a.classes = classes;
  a.count = count;
  if (random.below(2)) a.score_threshold = 0.5f;
  a.options = random_options(random);
  std::vector<int64_t> index(a.options.max_detections), label(index);
  std::vector<float> score(a.options.max_detections);
  int64_t kept = -1;
  a.index = index.data();
  a.label = label.data();
  a.score = score.data();
  a.kept = &kept;
  cpu::fast_nms(a, serial());

  std::vector<std::vector<Row>> groups(classes);
  for (int64_t c = 0; c < classes; ++c)
    for (int64_t i = 0; i < count; ++i) {
      const float s = scores[c * count + i];
      if (!std::isnan(s) && !has_nan(boxes[i]) && (!a.score_threshold || s > 0.5f)) groups[c].push_back({s, c, i});
    }
  const std::vector<Row> expected = naive_nms(groups, boxes, a.options);
  CHECK(kept == static_cast<int64_t>(expected.size()));
  for (int64_t row = 0; row < a.options.max_detections; ++row)
    CHECK((Row{score[row], label[row], index[row]} == (row < kept ? expected[row] : Row{0, -1, -1})));
}

void test_detect(uint32_t seed) {
  Random random{std::mt19937(seed)};
  const int64_t classes = 1 + random.below(40), count = random.below(4) ? random.below(60) : 1500;
  const int64_t columns = 1 + classes, different = 1 + random.below(40);
  std::vector<float> logits(count * columns), deltas(count * 4), priors(count * 4);
  for (int64_t i = 0; i < count; ++i) {
    Random same{std::mt19937(seed + static_cast<uint32_t>(random.below(different)))};
    for (int64_t c = 0; c < columns; ++c) logits[i * columns + c] = 8 * same.uniform();
    for (int k = 0; k < 4; ++k) deltas[i * 4 + k] = same.uniform(), priors[i * 4 + k] = same.uniform();
    if (random.below(30) == 0) logits[i * columns + random.below(columns)] = random.below(2) ? NAN : kInfinity;
    if (random.below(30) == 0) logits[i * columns + random.below(columns)] = -kInfinity;
    if (random.below(30) == 0) deltas[i * 4 + random.below(4)] = NAN;
  }

  DetectArguments a{};
  a.box_deltas = {deltas.data(), FloatType::kFloat32, {4 * count, 4, 1}};
  a.class_logits = {logits.data(), FloatType::kFloat32, {columns * count, columns, 1}};
  a.priors = {priors.data(), FloatType::kFloat32, {4, 1, 0}};
  a.batch = 1;
  a.count = count;
  a.classes = classes;
  const float thresholds[] = {0.05f, 0.2f, 0.0f, -1.0f, 1.0f};
  a.score_threshold = thresholds[random.below(5)];
  a.second_threshold = random.below(2) == 0;
  a.decode = {0.1f, 0.2f, kInfinity, random.below(2) == 0};
  a.options = random_options(random);
  const int64_t levels[] = {count / 3, count - count / 3};
  a.level_sizes = levels;
  a.levels = 2;
  a.pre_nms_top_k = random.below(2) ? count : 1 + random.below(9);
  const int64_t rows = a.options.max_detections;
  std::vector<float> boxes(rows * 4), score(rows);
  std::vector<int64_t> label(rows), prior(rows);
  int64_t kept = -1;
  a.boxes = boxes.data();
  a.label = label.data();
  a.score = score.data();
  a.prior = prior.data();
  a.kept = &kept;
  cpu::detect(a, serial());

  // The same exponential, and a sum in double, whose order does not matter once it is rounded.
  std::vector<Box> decoded(count);
  std::vector<float> scores(count * classes);
  std::vector<Row> stays;
  for (int64_t i = 0; i < count; ++i) {
    const float* row = logits.data() + i * columns;
    const float highest = *std::max_element(row, row + columns);
    double exact = 0.0;
    for (int64_t c = 0; c < columns; ++c) exact += static_cast<double>(exponential(row[c] - highest));
    const float sum = static_cast<float>(exact);
    Row best{-1, -1, i};
    for (int64_t c = 0; c < classes; ++c) {
      const float s = scores[i * classes + c] = exponential(row[1 + c] - highest) / sum;
      if (s > best.score) best = {s, c, i};
    }
    decoded[i] = decode(deltas.data() + 4 * i, priors.data() + 4 * i, a.decode);
    if (!std::isnan(sum) && best.score > a.score_threshold && !has_nan(decoded[i])) stays.push_back(best);
  }
  std::vector<std::vector<Row>> groups(classes);
  for (int level = 0; level < 2; ++level) {
    std::vector<Row> mine;
    for (const Row& row : stays)
      if ((row.index >= levels[0]) == (level == 1)) mine.push_back(row);
    std::sort(mine.begin(), mine.end(), better);
    if (static_cast<int64_t>(mine.size()) > a.pre_nms_top_k) mine.resize(a.pre_nms_top_k);
    for (const Row& row : mine)
      for (int64_t c = 0; c < classes; ++c) {
        const float s = scores[row.index * classes + c];
        if (!a.second_threshold || s > a.score_threshold) groups[c].push_back({s, c, row.index});
      }
  }
  const std::vector<Row> expected = naive_nms(groups, decoded, a.options);
  CHECK(kept == static_cast<int64_t>(expected.size()));
  for (int64_t row = 0; row < rows; ++row) {
    CHECK((Row{score[row], label[row], prior[row]} == (row < kept ? expected[row] : Row{0, -1, -1})));
    const Box box = row < kept ? decoded[expected[row].index] : Box{0, 0, 0, 0};
    CHECK(boxes[4 * row] == box.x1 && boxes[4 * row + 1] == box.y1 && boxes[4 * row + 2] == box.x2 &&
          boxes[4 * row + 3] == box.y2);
  }
}

}  // namespace

int main() {
  for (uint32_t seed = 0; seed < 60 && failures() == 0; ++seed) {
    test_fast_nms(seed);
    test_detect(seed);
    if (failures()) std::fprintf(stderr, "with seed %u\n", seed);
  }
  return failures();
}
