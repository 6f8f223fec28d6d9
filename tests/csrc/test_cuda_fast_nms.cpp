// csrc/cuda/fast_nms.cu under simt gives the CPU kernel's bits, in every order of threads and blocks, on scores and
// boxes full of ties.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/common/fast_nms.h"
#include "check.h"
#include "guarded.h"
#include "schedules.h"

namespace yolact {
namespace {

constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

struct Random {
  std::mt19937 engine;
  float uniform() { return static_cast<float>(engine() % 100000) / 100000.0f; }
  int64_t below(int64_t end) { return static_cast<int64_t>(engine() % end); }
};

struct Problem {
  int64_t batch, classes, count;
  int levels;    // different scores; 0: as good as all different
  int places;    // different boxes; 0: all different
  bool special;  // NaN, infinite and negative numbers
  bool strided;
  FastNmsArguments arguments{};
};

struct Outputs {
  Guarded index, label, kept, score;
  Outputs(int64_t batch, int64_t rows)
      : index(8 * batch * rows), label(8 * batch * rows), kept(8 * batch), score(4 * batch * rows) {}
  void attach(FastNmsArguments* a) {
    a->index = index.data<int64_t>();
    a->label = label.data<int64_t>();
    a->score = score.data<float>();
    a->kept = kept.data<int64_t>();
  }
  bool equals(const Outputs& o) const {
    return same(index, o.index) && same(label, o.label) && same(kept, o.kept) && same(score, o.score);
  }
  bool intact() const { return index.intact() && label.intact() && kept.intact() && score.intact(); }

 private:
  static bool same(const Guarded& a, const Guarded& b) { return std::memcmp(a.data(), b.data(), a.size()) == 0; }
};

void compare(const Problem& problem, uint32_t seed, size_t orders) {
  Random random{std::mt19937(seed)};
  const int64_t batch = problem.batch, classes = problem.classes, count = problem.count;
  const float infinity = std::numeric_limits<float>::infinity();
  const Guarded box_memory(batch * count * 4 * 4), score_memory(batch * classes * count * 4);
  float *boxes = box_memory.data<float>(), *scores = score_memory.data<float>();
  FastNmsArguments a = problem.arguments;
  // Strided: coordinate before box, box before class.
  const int64_t box_stride[2][3] = {{4 * count, 4, 1}, {4 * count, 1, count}};
  const int64_t score_stride[2][3] = {{classes * count, count, 1}, {classes * count, 1, classes}};
  for (int i = 0; i < 3; ++i) {
    a.box_stride[i] = box_stride[problem.strided][i];
    a.score_stride[i] = score_stride[problem.strided][i];
  }
  std::vector<Box> places(problem.places > 0 ? problem.places : std::max<int64_t>(count, 1));
  for (Box& box : places) {
    box.x1 = static_cast<float>(random.below(9));
    box.y1 = static_cast<float>(random.below(9));
    box.x2 = box.x1 + static_cast<float>(random.below(6));
    box.y2 = box.y1 + static_cast<float>(random.below(6));
    if (problem.special && random.below(12) == 0) (random.below(2) ? box.x2 : box.y1) = NAN;
    if (problem.special && random.below(12) == 0) (random.below(2) ? box.y2 : box.x1) = infinity;
    if (problem.special && random.below(12) == 0) std::swap(box.x1, box.x2);
  }
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < count; ++i) {
      const Box& box = places[problem.places > 0 ? random.below(problem.places) : i];
      const float corners[4] = {box.x1, box.y1, box.x2, box.y2};
      for (int k = 0; k < 4; ++k) boxes[b * a.box_stride[0] + i * a.box_stride[1] + k * a.box_stride[2]] = corners[k];
      for (int64_t c = 0; c < classes; ++c) {
        float score = random.uniform();
        if (problem.levels > 0) score = std::round(score * problem.levels) / problem.levels;
        if (problem.special) {
          const float specials[] = {NAN, infinity, -infinity, -0.0f, 0.0f, -score, 1e-40f};
          if (random.below(6) == 0) score = specials[random.below(7)];
        }
        scores[b * a.score_stride[0] + c * a.score_stride[1] + i * a.score_stride[2]] = score;
      }
    }
  a.boxes = boxes;
  a.scores = scores;
  a.batch = batch;
  a.classes = classes;
  a.count = count;

  Outputs expected(batch, a.options.max_detections);
  expected.attach(&a);
  cpu::fast_nms(a, serial());
  for (size_t order = 0; order < orders; ++order) {
    simt::schedule() = schedules()[order];
    Outputs outputs(batch, a.options.max_detections);
    outputs.attach(&a);
    Guarded workspace(cuda::fast_nms_workspace(a));
    cuda::fast_nms(a, workspace.data(), nullptr);
    CHECK(outputs.equals(expected));
    CHECK(outputs.intact() && workspace.intact());
  }
  if (failures()) std::fprintf(stderr, "seed %u\n", seed);
}

Problem draw(Random& random) {
  Problem p{};
  p.batch = 1 + random.below(3);
  p.classes = random.below(6) ? 1 + random.below(4) : 33;  // merge: more than a warp of them
  p.count = random.below(8) ? random.below(70) : 300;
  if (p.classes > 30) p.count %= 20;
  const int levels[] = {0, 0, 1, 4, 60}, places[] = {0, 0, 3, 40};
  p.levels = levels[random.below(5)];
  p.places = places[random.below(4)];
  p.special = random.below(2) == 0;
  p.strided = random.below(2) == 0;
  SuppressionOptions& o = p.arguments.options;
  // 9 / 20 is rounded up to the threshold, which is below it: the product with 20 is not enough to tell.
  const float thresholds[] = {0.5f, 0.45f, 0.0f, 1.0f, -1.0f};
  const int64_t top_k[] = {1, 31, 32, 33, 200, kEndless}, rows[] = {1, 7, 31, 64, 150};
  o.iou_threshold = thresholds[random.below(5)];
  o.overlap = {static_cast<float>(random.below(2)), random.below(2) ? 1e-6f : -std::numeric_limits<float>::infinity()};
  o.top_k = top_k[random.below(6)];
  o.max_detections = rows[random.below(5)];
  o.across_classes = random.below(3) == 0;
  o.greedy = random.below(3) == 0;
  if (random.below(2)) p.arguments.score_threshold = random.below(2) ? 0.25f : 0.5f;
  return p;
}

// Sizes on both sides of what a block lists and ranks in shared memory.
Problem large(int64_t count, int64_t top_k, int levels, bool across_classes) {
  Problem p{};
  p.batch = 1;
  p.classes = 2;
  p.count = count;
  p.levels = levels;
  p.arguments.options = {0.5f, {0.0f, -std::numeric_limits<float>::infinity()}, top_k, 90, across_classes, false};
  return p;
}

}  // namespace
}  // namespace yolact

int main() {
  using namespace yolact;
  const size_t all = schedules().size();
  for (uint32_t seed = 0; seed < 40 && failures() == 0; ++seed) {
    Random random{std::mt19937(seed)};
    compare(draw(random), seed, all);
  }
  for (const int64_t count : {511, 512, 513, 600}) compare(large(count, kEndless, 0, false), 1, 2);
  for (const int64_t count : {2047, 2048, 2049, 5000})
    for (const int levels : {0, 1, 50}) compare(large(count, 20, levels, levels == 50), 2, 2);
  compare(large(700, 600, 3, true), 3, all);
  Problem single = large(1, 20, 0, true);
  for (uint32_t seed = 0; seed < 16; ++seed) compare(single, seed, 1);
  Problem alike = large(400, 400, 0, false);  // many pairs of every overlap that small whole sides can have
  alike.arguments.options.iou_threshold = 0.45f;
  alike.arguments.options.greedy = true;
  alike.arguments.options.max_detections = 400;
  compare(alike, 5, 1);
  return failures();
}
