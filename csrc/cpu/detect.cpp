// From raw outputs to detections, in two steps. Screening, blocks of priors in parallel: a prior whose logits alone
// rule it out costs a read of them and no exponential; the few others get the exact softmax and their decoded box.
// Selection, a picture a task: see selection.h; a survivor's scores are computed again where they are looked at, so
// that no [classes, priors] matrix exists. Bytes moved: the logits once.
#include "../common/detect.h"

#include <cstring>
#include <iterator>

#include "../common/math.h"
#include "lanes.h"
#include "level.h"
#include "selection.h"

namespace yolact::cpu {
namespace {

int64_t padded(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// A prior that passed the threshold. Its score in class c is exponential(logit[1 + c] - highest) / sum.
struct Survivor {
  int32_t prior, label;  // label: its best class, the lower of equals; known across classes only
  float best, highest, sum;
  Box box;
};

// The logits of one prior as floats: in place where they lie so, else in `room`.
YOLACT_INLINE const float* load_row(const FloatView& logits, int64_t picture, int64_t prior, int64_t count,
                                    float* room) {
  const int64_t offset = picture * logits.stride[0] + prior * logits.stride[1], step = logits.stride[2];
  if (logits.type == FloatType::kFloat32) {
    const float* row = static_cast<const float*>(logits.data) + offset;
    if (step == 1) return row;
    for (int64_t i = 0; i < count; ++i) room[i] = row[i * step];
  } else {
    const uint16_t* row = static_cast<const uint16_t*>(logits.data) + offset;
    if (logits.type == FloatType::kFloat16)
      for (int64_t i = 0; i < count; ++i) room[i] = half_to_float(row[i * step]);
    else
      for (int64_t i = 0; i < count; ++i) room[i] = bfloat16_to_float(row[i * step]);
  }
  return room;
}

// The largest of `count` numbers, a multiple of the lanes; NaN may hide it.
YOLACT_INLINE float largest_of(const float* numbers, int64_t count) {
  Lanes lanes = load_lanes(numbers);
  for (int64_t i = kLanes; i < count; i += kLanes) lanes = larger(lanes, load_lanes(numbers + i));
  return largest(lanes);
}

// The sum of as many, in double and rounded once, so that classes that change places do not change it: scores that
// are equal by symmetry are equal numbers, and go by label.
YOLACT_INLINE float sum_of(const float* numbers, int64_t count) {
  double lanes[kLanes] = {};
  for (int64_t i = 0; i < count; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(numbers[i + lane]);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return static_cast<float>(lanes[0]);
}

// Sixteen numbers of which the largest is the best foreground logit less the background's; NaN may hide it.
YOLACT_INLINE Lanes lead_over_background(const float* row, int64_t classes) {
  const float* foreground = row + 1;
  Lanes highest;
  if (classes >= kLanes) {
    highest = load_lanes(foreground + classes - kLanes);  // these sixteen, of which the steps may leave some out
    for (int64_t c = 0; c + kLanes <= classes; c += kLanes) highest = larger(highest, load_lanes(foreground + c));
  } else {
    for (int i = 0; i < kLanes; ++i) highest[i] = foreground[i < classes ? i : 0];
  }
  return highest - row[0];
}

// Lists the priors of [begin, end) whose lead is not at most `margin`; `room` holds kRows rows. Several rows share one
// look at whether any passes, for mostly none does.
constexpr int kRows = 4;
YOLACT_INLINE int64_t screen(const DetectArguments& a, int64_t picture, int64_t begin, int64_t end, float margin,
                             float* room, int32_t* passing) {
  constexpr int64_t kAhead = 4096 / sizeof(float);  // the processor's own prefetching stops at each page
  const int64_t count = 1 + a.classes;
  int64_t found = 0;
  for (int64_t prior = begin; prior < end; prior += kRows) {
    const int rows = static_cast<int>(end - prior < kRows ? end - prior : kRows);
    Lanes lead[kRows];
    LaneIndex some{};
    for (int r = 0; r < rows; ++r) {
      const float* row = load_row(a.class_logits, picture, prior + r, count, room + r * count);
      for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(row + kAhead + i);
      lead[r] = lead_over_background(row, a.classes);
      some |= ~(lead[r] <= margin);
    }
    if (!any(some)) continue;
    for (int r = 0; r < rows; ++r)
      if (any(~(lead[r] <= margin))) passing[found++] = static_cast<int32_t>(prior + r);
  }
  return found;
}

// Scores one prior: fills in all but its box. False where its best score is not above the threshold, or a logit is
// NaN. `room` holds padded(1 + classes) numbers.
YOLACT_INLINE bool score(const DetectArguments& a, int64_t picture, float* room, Survivor* survivor) {
  const int64_t classes = a.classes, count = padded(1 + classes);
  const float* row = load_row(a.class_logits, picture, survivor->prior, 1 + classes, room);
  const float background = row[0];
  for (int64_t c = 0; c < classes; ++c) room[c] = row[1 + c];  // also where `row` is `room`: one place down
  room[classes] = background;
  for (int64_t i = classes + 1; i < count; ++i) room[i] = -std::numeric_limits<float>::infinity();

  const float highest = largest_of(room, count);
  for (int64_t i = 0; i < count; ++i) room[i] = exponential(room[i] - highest);
  survivor->highest = highest;
  survivor->sum = sum_of(room, count);
  room[classes] = 0.0f;                                      // the background is no candidate
  survivor->best = largest_of(room, count) / survivor->sum;  // NaN where a logit is
  if (a.options.across_classes)
    while (survivor->label < classes - 1 && room[survivor->label] / survivor->sum != survivor->best) ++survivor->label;
  return survivor->best > a.score_threshold;
}

Box decode_prior(const DetectArguments& a, int64_t picture, int64_t prior) {
  float delta[4], at[4];
  for (int i = 0; i < 4; ++i) {
    delta[i] =
        load_float(a.box_deltas.data,
                   picture * a.box_deltas.stride[0] + prior * a.box_deltas.stride[1] + i * a.box_deltas.stride[2],
                   a.box_deltas.type);
    at[i] = load_float(a.priors.data, prior * a.priors.stride[0] + i * a.priors.stride[1], a.priors.type);
  }
  return decode(delta, at, a.decode);
}

// The survivors among the priors [begin, end), in order.
std::vector<Survivor> find_survivors(const DetectArguments& a, int64_t picture, int64_t begin, int64_t end,
                                     float margin) {
  std::vector<float> room(kRows * padded(1 + a.classes));
  std::vector<int32_t> passing(end - begin);
  passing.resize(at_level<screen>(a, picture, begin, end, margin, room.data(), passing.data()));
  std::vector<Survivor> survivors;
  survivors.reserve(passing.size());
  for (const int32_t prior : passing) {
    Survivor survivor{};
    survivor.prior = prior;
    if (!at_level<score>(a, picture, room.data(), &survivor)) continue;
    survivor.box = decode_prior(a, picture, prior);
    if (!has_nan(survivor.box)) survivors.push_back(survivor);
  }
  return survivors;
}

// Of each level leaves the pre_nms_top_k survivors of the best scores, ties to the lower prior.
void limit_levels(const DetectArguments& a, std::vector<Survivor>* survivors) {
  const auto key = [](const Survivor& s) { return key_of(s.best, static_cast<uint32_t>(s.prior)); };
  auto out = survivors->begin(), first = out;
  int64_t end_of_level = 0;
  for (int64_t level = 0; level < a.levels; ++level) {
    end_of_level += a.level_sizes[level];
    const auto last = std::find_if(first, survivors->end(), [&](const Survivor& s) { return s.prior >= end_of_level; });
    Key least = 0;
    if (last - first > a.pre_nms_top_k) {
      std::vector<Key> keys;
      std::transform(first, last, std::back_inserter(keys), key);
      const auto kth = keys.begin() + (a.pre_nms_top_k - 1);
      std::nth_element(keys.begin(), kth, keys.end(), std::greater<Key>());
      least = *kth;
    }
    out = std::copy_if(first, last, out, [&](const Survivor& s) { return key(s) >= least; });
    first = last;
  }
  survivors->erase(out, survivors->end());
}

// Writes the scores of one survivor in every class; whether any reaches its class's bound.
YOLACT_INLINE bool score_again(const DetectArguments& a, int64_t picture, const Survivor& survivor, const float* bounds,
                               float* room, float* scores) {
  const float* row = load_row(a.class_logits, picture, survivor.prior, 1 + a.classes, room) + 1;
  int32_t found = 0;
  for (int64_t c = 0; c < a.classes; ++c) {
    scores[c] = exponential(row[c] - survivor.highest) / survivor.sum;
    found |= scores[c] >= bounds[c];
  }
  return found != 0;
}

// The candidates of one picture: its survivors in every class.
struct SurvivorScores {
  const DetectArguments& arguments;
  int64_t picture;
  const std::vector<Survivor>& survivors;
  int64_t groups, boxes;

  const Box& box(int64_t i) const { return survivors[i].box; }

  template <class Offer>
  void visit(const std::vector<float>& bounds, Offer&& offer) const {
    std::vector<float> room(1 + groups), scores(groups);
    for (int64_t i = 0; i < boxes; ++i) {
      if (!at_level<score_again>(arguments, picture, survivors[i], bounds.data(), room.data(), scores.data())) continue;
      for (int64_t c = 0; c < groups; ++c)
        if (scores[c] >= bounds[c]) offer(scores[c], c, i);
    }
  }
};

std::vector<Kept> select_survivors(const DetectArguments& a, int64_t picture, const std::vector<Survivor>& survivors) {
  const int64_t count = static_cast<int64_t>(survivors.size());
  const Key likely = above(a.score_threshold);
  if (!a.options.across_classes) {
    const SurvivorScores candidates{a, picture, survivors, a.classes, count};
    const Key floor = a.second_threshold ? likely : lowest_key();
    return look_up(select(candidates, a.options, a.options.max_detections, likely, floor), count, nullptr,
                   a.options.max_detections);
  }
  std::vector<float> best;
  std::vector<int32_t> labels;
  std::vector<Box> boxes;
  for (const Survivor& survivor : survivors) {
    best.push_back(survivor.best);
    labels.push_back(survivor.label);
    boxes.push_back(survivor.box);
  }
  const ScoreMatrix candidates{best.data(), count, 1, 1, count, boxes.data()};
  return look_up(select(candidates, a.options, a.options.top_k, likely, likely), count, labels.data(),
                 a.options.max_detections);
}

void write(const DetectArguments& a, int64_t picture, const std::vector<Survivor>& survivors,
           const std::vector<Kept>& kept) {
  const int64_t rows = a.options.max_detections, count = static_cast<int64_t>(kept.size());
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = picture * rows + row;
    const bool valid = row < count;
    const Box box = valid ? survivors[kept[row].box].box : Box{0.0f, 0.0f, 0.0f, 0.0f};
    memcpy(a.boxes + 4 * at, &box, sizeof box);
    a.label[at] = valid ? kept[row].label : -1;
    a.score[at] = valid ? kept[row].score : 0.0f;
    a.prior[at] = valid ? survivors[kept[row].box].prior : -1;
  }
  a.kept[picture] = count;
}

}  // namespace

void detect(const DetectArguments& a, const Parallel& parallel) {
  constexpr int64_t kPriorsPerTask = 512;  // 166 kB of logits for 80 classes: some tens of microseconds
  const int64_t blocks = (a.count + kPriorsPerTask - 1) / kPriorsPerTask;
  const float margin = safe_margin(a.score_threshold);
  std::vector<std::vector<Survivor>> found(a.batch * blocks);
  for_each(parallel, a.batch * blocks, [&](int64_t task) {
    const int64_t begin = task % blocks * kPriorsPerTask, end = std::min(begin + kPriorsPerTask, a.count);
    found[task] = find_survivors(a, task / blocks, begin, end, margin);
  });

  for_each(parallel, a.batch, [&](int64_t picture) {
    std::vector<Survivor> survivors;
    for (int64_t task = picture * blocks; task < (picture + 1) * blocks; ++task)
      survivors.insert(survivors.end(), found[task].begin(), found[task].end());
    limit_levels(a, &survivors);
    write(a, picture, survivors, select_survivors(a, picture, survivors));
  });
}

}  // namespace yolact::cpu
