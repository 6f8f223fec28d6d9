// Fast NMS, a picture a task. Bytes moved: the scores once or twice; of the boxes only those visited matter.
// What makes it fast: no sort of all scores, no overlap matrix (see selection.h).
#include "../common/fast_nms.h"

#include "selection.h"

namespace yolact::cpu {
namespace {

// Each box's best score and the class it has it in, the lower one of equals; NaN where every score is NaN.
void best_of_classes(const FastNmsArguments& a, const float* scores, float* best, int32_t* label) {
  std::fill(best, best + a.count, std::numeric_limits<float>::quiet_NaN());
  for (int64_t c = 0; c < a.classes; ++c) {
    const float* row = scores + c * a.score_stride[1];
    for (int64_t i = 0; i < a.count; ++i) {
      const float score = row[i * a.score_stride[2]];
      if (score > best[i] || (best[i] != best[i] && score == score)) {
        best[i] = score;
        label[i] = static_cast<int32_t>(c);
      }
    }
  }
}

void one_picture(const FastNmsArguments& a, int64_t picture) {
  const float* corner = a.boxes + picture * a.box_stride[0];
  std::vector<Box> boxes(a.count);
  for (int64_t i = 0; i < a.count; ++i, corner += a.box_stride[1]) {
    const int64_t step = a.box_stride[2];
    boxes[i] = {corner[0], corner[step], corner[2 * step], corner[3 * step]};
  }
  ScoreMatrix candidates{
      a.scores + picture * a.score_stride[0], a.score_stride[1], a.score_stride[2], a.classes, a.count, boxes.data()};
  std::vector<float> best;
  std::vector<int32_t> label;
  if (a.options.across_classes) {
    best.resize(a.count);
    label.resize(a.count);
    best_of_classes(a, candidates.scores, best.data(), label.data());
    candidates = {best.data(), a.count, 1, 1, a.count, boxes.data()};
  }

  const int64_t rows = a.options.max_detections;
  const Key floor = a.score_threshold ? above(*a.score_threshold) : lowest_key();
  const std::vector<Key> keys =
      select(candidates, a.options, a.options.across_classes ? a.options.top_k : rows, floor, floor);
  const std::vector<Kept> kept = look_up(keys, a.count, label.empty() ? nullptr : label.data(), rows);
  for (int64_t row = 0; row < rows; ++row) {
    const Kept found = row < static_cast<int64_t>(kept.size()) ? kept[row] : Kept{0.0f, -1, -1};
    a.index[picture * rows + row] = found.box;
    a.label[picture * rows + row] = found.label;
    a.score[picture * rows + row] = found.score;
  }
  a.kept[picture] = static_cast<int64_t>(kept.size());
}

}  // namespace

void fast_nms(const FastNmsArguments& a, const Parallel& parallel) {
  for_each(parallel, a.batch, [&](int64_t picture) { one_picture(a, picture); });
}

}  // namespace yolact::cpu
