// From raw outputs to detections, in two steps. Screening, blocks of priors in parallel: a prior whose logits alone
// rule it out costs a read of them and no exponential; the few others get the exact softmax and their decoded box.
// Selection, a picture a time, by whoever screened the last of its priors, so that what it looks at is still in the
// caches: see selection.h. It goes by the few likely scores that were listed with the survivors; only where they do not
// fill the result are a survivor's others computed again, so that no [classes, priors] matrix exists.
// Bytes moved: the logits once.
#include "../common/detect.h"

#include <atomic>
#include <cstring>
#include <iterator>
#include <utility>

#include "screening.h"
#include "selection.h"

namespace yolact::cpu {
namespace {

constexpr float kNone = -1.0f;  // no score: those are at least 0

int64_t padded(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// A prior that passed the threshold. Its score in class c is exponential(logit[1 + c] - highest) / sum.
struct Survivor {
  int32_t prior, label;  // label: its best class, the lower of equals; known across classes only
  float best, highest, sum;
  // Not across classes: where its likely scores are listed, and the most that any other is.
  int32_t likely, end_of_likely;
  float most_of_others;
  Box box;
};

// Scores above this are likely. However low the threshold, a prior has few of them, for its scores add up to 1.
YOLACT_INLINE float likely_above(const DetectArguments& a) { return std::max(a.score_threshold, 1.0f / 32); }

struct ClassScore {
  float score;
  int32_t label;
};

struct Survivors {
  std::vector<Survivor> all;  // in order
  std::vector<ClassScore> likely;
};

// The largest of `count` numbers, a multiple of the lanes; NaN may hide it.
template <class Lanes>
YOLACT_INLINE float largest_of(const float* numbers, int64_t count) {
  Lanes lanes = load_lanes<Lanes>(numbers);
  for (int64_t i = kLanes; i < count; i += kLanes) lanes = larger(lanes, load_lanes<Lanes>(numbers + i));
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

// Scores one prior: fills in its scores, and lists the likely ones where `likely` has room for one a class.
// False where its best score is not above the threshold, or a logit is NaN. `room` holds padded(1 + classes) numbers.
template <int kBytes>
YOLACT_INLINE bool score(const DetectArguments& a, int64_t picture, float* room, Survivor* survivor,
                         ClassScore* likely) {
  const int64_t classes = a.classes, count = padded(1 + classes);
  const float* row = load_row(a.class_logits, picture, survivor->prior, 1 + classes, room);
  const float background = row[0];
  for (int64_t c = 0; c < classes; ++c) room[c] = row[1 + c];  // also where `row` is `room`: one place down
  room[classes] = background;
  for (int64_t i = classes + 1; i < count; ++i) room[i] = -std::numeric_limits<float>::infinity();

  const float highest = largest_of<Lanes<kBytes>>(room, count);
  for (int64_t i = 0; i < count; ++i) room[i] = exponential(room[i] - highest);
  survivor->highest = highest;
  survivor->sum = sum_of(room, count);
  room[classes] = 0.0f;                                                     // the background is no candidate
  survivor->best = largest_of<Lanes<kBytes>>(room, count) / survivor->sum;  // NaN where a logit is
  if (a.options.across_classes)
    while (survivor->label < classes - 1 && room[survivor->label] / survivor->sum != survivor->best) ++survivor->label;
  if (!(survivor->best > a.score_threshold)) return false;
  if (a.options.across_classes) return true;
  const float likely_bound = likely_above(a);
  Lanes<kBytes> others = Lanes<kBytes>{} - std::numeric_limits<float>::infinity();
  for (int64_t first = 0; first < classes; first += kLanes) {
    const auto scores = load_lanes<Lanes<kBytes>>(room + first) / survivor->sum;
    const auto is_likely = scores > likely_bound;
    others = larger(others, choose(is_likely, others, scores));
    if (!any(is_likely)) continue;
    store_lanes(room + first, scores);
    for (int64_t c = first; c < std::min(first + kLanes, classes); ++c)
      if (room[c] > likely_bound) likely[survivor->end_of_likely++] = {room[c], static_cast<int32_t>(c)};
  }
  survivor->most_of_others = largest(others);
  return true;
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

// The survivors among the priors [begin, end).
Survivors find_survivors(const DetectArguments& a, int64_t picture, int64_t begin, int64_t end, float margin) {
  std::vector<float> room(padded(1 + a.classes));
  std::vector<int32_t> passing(end - begin);
  passing.resize(at_level<YOLACT_WIDTHS(screen)>(a, picture, begin, end, margin, room.data(), passing.data()));
  std::vector<ClassScore> likely(a.classes);
  Survivors found;
  found.all.reserve(passing.size());
  for (const int32_t prior : passing) {
    Survivor survivor{};
    survivor.prior = prior;
    if (!at_level<YOLACT_WIDTHS(score)>(a, picture, room.data(), &survivor, likely.data())) continue;
    survivor.box = decode_prior(a, picture, prior);
    if (has_nan(survivor.box)) continue;
    found.likely.insert(found.likely.end(), likely.begin(), likely.begin() + survivor.end_of_likely);
    survivor.likely = static_cast<int32_t>(found.likely.size()) - survivor.end_of_likely;
    survivor.end_of_likely = static_cast<int32_t>(found.likely.size());
    found.all.push_back(survivor);
  }
  return found;
}

// Appends the survivors of the priors that follow.
void append(Survivors* survivors, const Survivors& next) {
  const int32_t offset = static_cast<int32_t>(survivors->likely.size());
  survivors->likely.insert(survivors->likely.end(), next.likely.begin(), next.likely.end());
  for (Survivor survivor : next.all) {
    survivor.likely += offset;
    survivor.end_of_likely += offset;
    survivors->all.push_back(survivor);
  }
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

// Lists the scores of one survivor that are not likely but reach their class's bound; returns how many.
// `room` and `scores` hold padded(1 + classes) numbers.
template <int kBytes>
YOLACT_INLINE int64_t score_others(const DetectArguments& a, int64_t picture, const Survivor& survivor,
                                   const float* bounds, float* room, float* scores, ClassScore* found) {
  const float likely_bound = likely_above(a);
  int32_t reaches = 0;
  for (int64_t c = 0; c < a.classes; ++c) reaches |= survivor.most_of_others >= bounds[c];
  if (!reaches) return 0;
  const float* row = load_row(a.class_logits, picture, survivor.prior, 1 + a.classes, room) + 1;
  for (int64_t c = 0; c < a.classes; ++c) {
    const float score = exponential(row[c] - survivor.highest) / survivor.sum;
    scores[c] = (score >= bounds[c]) & !(score > likely_bound) ? score : kNone;
  }
  int64_t count = 0;
  for (int64_t first = 0; first < a.classes; first += kLanes) {
    if (!any(load_lanes<Lanes<kBytes>>(scores + first) > kNone)) continue;
    for (int64_t c = first; c < std::min(first + kLanes, a.classes); ++c)
      if (scores[c] != kNone) found[count++] = {scores[c], static_cast<int32_t>(c)};
  }
  return count;
}

// The candidates of one picture: its survivors in every class.
struct SurvivorScores {
  const DetectArguments& arguments;
  int64_t picture;
  const Survivors& survivors;
  int64_t groups, boxes;

  const Box& box(int64_t i) const { return survivors.all[i].box; }

  template <class Offer>
  void visit(Key least, const std::vector<float>& bounds, Offer&& offer) const {
    for (int64_t i = 0; i < boxes; ++i)
      for (int32_t j = survivors.all[i].likely; j < survivors.all[i].end_of_likely; ++j)
        if (const ClassScore& l = survivors.likely[j]; l.score >= bounds[l.label]) offer(l.score, l.label, i);
    if (least >= above(likely_above(arguments))) return;
    std::vector<float> room(padded(1 + groups)), scores(padded(groups), kNone);
    std::vector<ClassScore> others(groups);
    for (int64_t i = 0; i < boxes; ++i) {
      const int64_t count = at_level<YOLACT_WIDTHS(score_others)>(arguments, picture, survivors.all[i], bounds.data(),
                                                                  room.data(), scores.data(), others.data());
      for (int64_t j = 0; j < count; ++j) offer(others[j].score, others[j].label, i);
    }
  }
};

std::vector<Kept> select_survivors(const DetectArguments& a, int64_t picture, const Survivors& survivors) {
  const int64_t count = static_cast<int64_t>(survivors.all.size());
  const Key passing = above(a.score_threshold);
  if (!a.options.across_classes) {
    const SurvivorScores candidates{a, picture, survivors, a.classes, count};
    const Key floor = a.second_threshold ? passing : lowest_key();
    return look_up(select(candidates, a.options, a.options.max_detections, above(likely_above(a)), floor), count,
                   nullptr, a.options.max_detections);
  }
  std::vector<float> best;
  std::vector<int32_t> labels;
  std::vector<Box> boxes;
  for (const Survivor& survivor : survivors.all) {
    best.push_back(survivor.best);
    labels.push_back(survivor.label);
    boxes.push_back(survivor.box);
  }
  const ScoreMatrix candidates{best.data(), count, 1, 1, count, boxes.data()};
  return look_up(select(candidates, a.options, a.options.top_k, passing, passing), count, labels.data(),
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
  const int64_t blocks = std::max<int64_t>(1, (a.count + kPriorsPerTask - 1) / kPriorsPerTask);
  const float margin = safe_margin(a.score_threshold);
  std::vector<Survivors> found(a.batch * blocks);
  std::vector<std::atomic<int64_t>> screened(a.batch);  // blocks of each picture
  for_each(parallel, a.batch * blocks, [&](int64_t task) {
    const int64_t picture = task / blocks, begin = task % blocks * kPriorsPerTask;
    found[task] = find_survivors(a, picture, begin, std::min(begin + kPriorsPerTask, a.count), margin);
    if (screened[picture].fetch_add(1) + 1 < blocks) return;
    Survivors survivors;
    for (int64_t i = picture * blocks; i < (picture + 1) * blocks; ++i) append(&survivors, std::exchange(found[i], {}));
    limit_levels(a, &survivors.all);
    write(a, picture, survivors.all, select_survivors(a, picture, survivors));
  });
}

}  // namespace yolact::cpu
