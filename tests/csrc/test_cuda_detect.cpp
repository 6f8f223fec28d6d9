// csrc/cuda/detect.cu under simt gives the CPU kernel's bits, in every order of threads and blocks: few different rows
// of logits and few different boxes, so that scores tie and boxes overlap.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/common/detect.h"
#include "check.h"
#include "guarded.h"
#include "schedules.h"

namespace yolact {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

struct Random {
  std::mt19937 engine;
  float uniform() { return static_cast<float>(engine() % 100000) / 100000.0f; }
  int64_t below(int64_t end) { return static_cast<int64_t>(engine() % end); }
};

struct Problem {
  int64_t batch, classes, count;
  int64_t rows, places;  // different rows of logits, different boxes
  float background;      // added to its logit: higher, fewer survivors
  bool whole;            // logits are whole numbers: equal ones within a row, and a softmax of exactly a half
  bool special;          // NaN and infinite numbers
  bool strided;
  FloatType type;
  std::vector<int64_t> levels;
  DetectArguments arguments{};
};

struct Outputs {
  Guarded boxes, label, score, prior, kept;
  Outputs(int64_t batch, int64_t rows)
      : boxes(16 * batch * rows),
        label(8 * batch * rows),
        score(4 * batch * rows),
        prior(8 * batch * rows),
        kept(8 * batch) {}
  void attach(DetectArguments* a) {
    a->boxes = boxes.data<float>();
    a->label = label.data<int64_t>();
    a->score = score.data<float>();
    a->prior = prior.data<int64_t>();
    a->kept = kept.data<int64_t>();
  }
  bool equals(const Outputs& o) const {
    return same(boxes, o.boxes) && same(label, o.label) && same(score, o.score) && same(prior, o.prior) &&
           same(kept, o.kept);
  }
  bool intact() const { return boxes.intact() && label.intact() && score.intact() && prior.intact() && kept.intact(); }

 private:
  static bool same(const Guarded& a, const Guarded& b) { return std::memcmp(a.data(), b.data(), a.size()) == 0; }
};

// A tensor of three axes in any order of strides, as one of the types.
struct Values {
  Guarded memory;
  FloatView view;

  Values(FloatType type, int64_t n0, int64_t n1, int64_t n2, bool strided)
      : memory(n0 * n1 * n2 * (type == FloatType::kFloat32 ? 4 : 2)),
        view{memory.data(), type, {n1 * n2, strided ? 1 : n2, strided ? n1 : 1}} {}

  void set(int64_t i, int64_t j, int64_t k, float value) {
    const int64_t at = i * view.stride[0] + j * view.stride[1] + k * view.stride[2];
    const uint32_t bits = bits_of(value);
    if (view.type == FloatType::kFloat32) {
      memory.data<float>()[at] = value;
    } else if (view.type == FloatType::kBFloat16) {
      memory.data<uint16_t>()[at] = static_cast<uint16_t>(bits >> 16);
    } else {  // cut to a half: what is small becomes 0
      const int exponent = static_cast<int>(bits >> 23 & 0xff) - 127 + 15;
      const uint32_t magnitude = exponent <= 0   ? 0
                                 : exponent > 30 ? 0x7c00u | (value != value ? 1u : 0u)
                                                 : static_cast<uint32_t>(exponent) << 10 | (bits >> 13 & 0x3ff);
      memory.data<uint16_t>()[at] = static_cast<uint16_t>(bits >> 16 & 0x8000u) | static_cast<uint16_t>(magnitude);
    }
  }
};

// Returns how many are kept of the first picture.
int64_t compare(const Problem& p, uint32_t seed, size_t orders) {
  Random random{std::mt19937(seed)};
  const float specials[] = {NAN, kInfinity, -kInfinity};
  Values deltas(FloatType::kFloat32, p.batch, p.count, 4, p.strided);
  Values logits(p.type, p.batch, p.count, 1 + p.classes, p.strided);
  Values priors(p.strided ? p.type : FloatType::kFloat32, 1, p.count, 4, p.strided);
  std::vector<float> rows(p.rows * (1 + p.classes)), places(p.places * 8);
  for (int64_t i = 0; i < static_cast<int64_t>(rows.size()); ++i)
    rows[i] = 8.0f * random.uniform() + (i % (1 + p.classes) == 0 ? p.background : 0.0f);
  if (p.whole)
    for (float& logit : rows) logit = std::round(logit / 4.0f);
  for (float& place : places) place = random.uniform();
  for (int64_t i = 0; i < p.count; ++i) {
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t row = random.below(p.rows), place = random.below(p.places);
      for (int64_t c = 0; c <= p.classes; ++c) {
        const bool is_special = p.special && random.below(40 * p.classes) == 0;
        logits.set(b, i, c, is_special ? specials[random.below(3)] : rows[row * (1 + p.classes) + c]);
      }
      for (int k = 0; k < 4; ++k)
        deltas.set(b, i, k, p.special && random.below(60) == 0 ? specials[random.below(3)] : places[8 * place + k]);
    }
    const int64_t place = random.below(p.places);
    for (int k = 0; k < 4; ++k) priors.set(0, i, k, places[8 * place + 4 + k]);
  }
  DetectArguments a = p.arguments;
  a.box_deltas = deltas.view;
  a.class_logits = logits.view;
  a.priors = priors.view;
  a.priors.stride[0] = priors.view.stride[1];
  a.priors.stride[1] = priors.view.stride[2];
  a.batch = p.batch;
  a.count = p.count;
  a.classes = p.classes;
  a.level_sizes = p.levels.data();
  a.levels = static_cast<int64_t>(p.levels.size());

  Outputs expected(a.batch, a.options.max_detections);
  expected.attach(&a);
  cpu::detect(a, serial());
  for (size_t order = 0; order < orders; ++order) {
    simt::schedule() = schedules()[order];
    Outputs outputs(a.batch, a.options.max_detections);
    outputs.attach(&a);
    Guarded workspace(cuda::detect_workspace(a));
    cuda::detect(a, workspace.data(), nullptr);
    CHECK(outputs.equals(expected));
    CHECK(outputs.intact() && workspace.intact());
  }
  if (failures()) std::fprintf(stderr, "seed %u\n", seed);
  return expected.kept.data<int64_t>()[0];
}

Problem draw(Random& random) {
  Problem p{};
  p.batch = 1 + random.below(2);
  const int64_t classes[] = {1, 2, 3, 7};
  p.classes = classes[random.below(4)];
  p.count = random.below(6) ? random.below(100) : 250;
  p.rows = 1 + random.below(40);
  p.places = 1 + random.below(40);
  p.background = static_cast<float>(random.below(3)) * 4.0f;
  p.whole = random.below(2) == 0;
  p.special = random.below(2) == 0;
  p.strided = random.below(2) == 0;
  p.type = static_cast<FloatType>(random.below(3));
  p.levels = {p.count / 3, 0, p.count - p.count / 3};
  DetectArguments& a = p.arguments;
  const float thresholds[] = {0.05f, 0.5f, 0.3f, 0.0f, -1.0f, 1.0f};
  a.score_threshold = thresholds[random.below(6)];
  a.second_threshold = random.below(2) == 0;
  a.decode = {0.1f, 0.2f, random.below(2) ? kInfinity : 0.1f, random.below(2) == 0};
  const int64_t top_k[] = {1, 5, 33, 200, kEndless}, rows[] = {1, 20, 100};
  a.options = {random.below(2) ? 0.5f : 0.25f, {0.0f, random.below(2) ? 1e-6f : -kInfinity},
               top_k[random.below(5)],         rows[random.below(3)],
               random.below(3) == 0,           random.below(3) == 0};
  a.pre_nms_top_k = random.below(2) ? p.count : 1 + random.below(20);
  return p;
}

Problem plain(int64_t classes, int64_t count) {
  Problem p{};
  p.batch = 1;
  p.classes = classes;
  p.count = count;
  p.rows = 50;
  p.places = 500;
  p.levels = {count};
  p.arguments.score_threshold = 0.05f;
  p.arguments.decode = {0.1f, 0.2f, kInfinity, false};
  p.arguments.options = {0.5f, {0.0f, -kInfinity}, 20, 30, false, false};
  p.arguments.pre_nms_top_k = count;
  return p;
}

}  // namespace
}  // namespace yolact

int main() {
  using namespace yolact;
  const size_t all = schedules().size();
  for (uint32_t seed = 0; seed < 30 && failures() == 0; ++seed) {
    Random random{std::mt19937(seed)};
    compare(draw(random), seed, all);
  }
  // Around what a warp of screen takes at once, and one chunk of classes.
  for (const int64_t classes : {31, 32, 33, 95, 96, 97}) compare(plain(classes, 9), 1, 1);
  // As many above the threshold as there are rows, and one fewer, so that a less likely class fills the last.
  Problem few = plain(4, 60);
  few.arguments.second_threshold = true;
  few.arguments.options.top_k = 200;
  few.arguments.options.max_detections = 1000;
  const int64_t above = compare(few, 4, 1);
  CHECK(above > 5);
  few.arguments.second_threshold = false;
  for (const int64_t rows : {above - 1, above, above + 1}) {
    few.arguments.options.max_detections = rows;
    CHECK(compare(few, 4, all) == rows);
  }
  // Every prior survives, and one level has room for all but one; levels end beside the ends of words.
  Problem limited = plain(2, 9);
  limited.arguments.score_threshold = -1.0f;
  limited.arguments.options.iou_threshold = 1.0f;
  limited.arguments.options.top_k = 200;
  limited.arguments.pre_nms_top_k = 8;
  CHECK(compare(limited, 5, 1) == 16);
  limited.count = 130;
  limited.levels = {33, 31, 33, 32, 1};
  limited.arguments.options.max_detections = 200;
  CHECK(compare(limited, 6, 1) == 2 * (4 * 8 + 1));
  // More survivors than are listed in shared memory, and more priors than a tile of their bits holds.
  for (const int64_t count : {2048, 2049, 33000}) {
    Problem p = plain(1, count);
    p.rows = count;
    p.background = count > 32768 ? 6.0f : -8.0f;
    compare(p, 2, 1);
    p.levels = {count / 2 + 7, count - count / 2 - 7};
    p.arguments.pre_nms_top_k = 300;
    p.arguments.options.across_classes = true;
    compare(p, 3, 1);
  }
  return failures();
}
