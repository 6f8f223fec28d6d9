#include "run_length_algebra.h"

#include <algorithm>
#include <utility>

namespace yolact::cpu {
namespace {

// As fmin and fmax: a NaN gives way to the other.
double lesser(double a, double b) { return b < a || a != a ? b : a; }
double greater(double a, double b) { return b > a || a != a ? b : a; }

// The area of the boxes' intersection.
double overlap(const BoxXywh& a, const BoxXywh& b) {
  const double width = lesser(a.width + a.x, b.width + b.x) - greater(a.x, b.x);
  if (width <= 0) return 0;
  const double height = lesser(a.height + a.y, b.height + b.y) - greater(a.y, b.y);
  return height <= 0 ? 0 : width * height;
}

IntervalMask unite(const IntervalMask& a, const IntervalMask& b) {
  IntervalMask result{a.height, a.width, {}};
  result.ones.reserve(a.ones.size() + b.ones.size());
  auto i = a.ones.begin(), j = b.ones.begin();
  while (i != a.ones.end() || j != b.ones.end()) {
    const bool from_a = j == b.ones.end() || (i != a.ones.end() && i->begin < j->begin);
    const Interval next = from_a ? *i++ : *j++;
    if (!result.ones.empty() && next.begin <= result.ones.back().end)
      result.ones.back().end = std::max(result.ones.back().end, next.end);
    else
      result.ones.push_back(next);
  }
  return result;
}

IntervalMask intersect(const IntervalMask& a, const IntervalMask& b) {
  IntervalMask result{a.height, a.width, {}};
  auto i = a.ones.begin(), j = b.ones.begin();
  while (i != a.ones.end() && j != b.ones.end()) {
    const Interval common{std::max(i->begin, j->begin), std::min(i->end, j->end)};
    if (common.begin < common.end) {
      if (!result.ones.empty() && result.ones.back().end == common.begin)
        result.ones.back().end = common.end;
      else
        result.ones.push_back(common);
    }
    i->end < j->end ? ++i : ++j;
  }
  return result;
}

}  // namespace

RunError read_intervals(const uint8_t* text, int64_t length, IntervalMask* mask) {
  mask->ones.clear();
  mask->ones.reserve(static_cast<size_t>(length / 2));  // a run of ones takes two numbers
  RunReader reader(text, length, mask->height * mask->width);
  int64_t position = 0;
  bool ones = false;
  for (int64_t count; reader.next(&count); ones = !ones) {
    if (ones && count > 0)
      mask->ones.push_back({static_cast<uint32_t>(position), static_cast<uint32_t>(position + count)});
    position += count;
  }
  return reader.error;
}

int64_t write_intervals(const IntervalMask& mask, uint8_t* output, int64_t capacity) {
  RunWriter writer(output, capacity);
  for (const Interval& run : mask.ones) {
    writer.flip(run.begin);
    writer.flip(run.end);
  }
  return writer.finish(mask.height * mask.width);
}

uint32_t area(const IntervalMask& mask) {
  uint32_t sum = 0;
  for (const Interval& run : mask.ones) sum += run.end - run.begin;
  return sum;
}

BoxXywh bounding_box(const IntervalMask& mask) {
  if (mask.ones.empty()) return {0, 0, 0, 0};
  const int64_t height = mask.height;
  int64_t top = height, bottom = -1, column = 0;  // column: the flat index at which the current one begins
  for (const Interval& run : mask.ones) {
    if (run.begin - column >= height) column += height;  // mostly the next column
    if (run.begin - column >= height) column = run.begin / height * height;
    if (run.end - column > height) {  // goes across columns
      top = 0;
      bottom = height - 1;
      break;
    }
    top = std::min(top, run.begin - column);
    bottom = std::max(bottom, run.end - 1 - column);
  }
  const int64_t left = mask.ones.front().begin / height, right = (mask.ones.back().end - 1) / height;
  return {static_cast<double>(left), static_cast<double>(top), static_cast<double>(right - left + 1),
          static_cast<double>(bottom - top + 1)};
}

uint32_t intersection_area(const IntervalMask& a, const IntervalMask& b) {
  if (a.ones.empty() || b.ones.empty()) return 0;
  // What lies before the other's first run cannot meet it.
  const auto after = [](const IntervalMask& mask, uint32_t position) {
    return std::partition_point(mask.ones.begin(), mask.ones.end(),
                                [=](const Interval& run) { return run.end <= position; });
  };
  auto i = after(a, b.ones.front().begin), j = after(b, a.ones.front().begin);
  uint32_t sum = 0;
  while (i != a.ones.end() && j != b.ones.end()) {
    const uint32_t begin = std::max(i->begin, j->begin), end = std::min(i->end, j->end);
    sum += begin < end ? end - begin : 0;
    const bool first_ends = i->end < j->end;
    i += first_ends;
    j += !first_ends;
  }
  return sum;
}

IntervalMask merge(std::vector<IntervalMask> masks, bool intersection) {
  // By halves rather than from the left: each run then passes through log2(n) merges instead of n.
  for (size_t step = 1; step < masks.size(); step *= 2)
    for (size_t i = 0; i + step < masks.size(); i += 2 * step)
      masks[i] = intersection ? intersect(masks[i], masks[i + step]) : unite(masks[i], masks[i + step]);
  return std::move(masks.front());
}

void mask_iou(const std::vector<IntervalMask>& detections, const std::vector<IntervalMask>& truths,
              const uint8_t* crowd, double* iou) {
  const auto boxes_of = [](const std::vector<IntervalMask>& masks) {
    std::vector<std::pair<BoxXywh, uint32_t>> known;
    known.reserve(masks.size());
    for (const IntervalMask& mask : masks) known.emplace_back(bounding_box(mask), area(mask));
    return known;
  };
  const auto found = boxes_of(detections), true_ones = boxes_of(truths);
  for (size_t t = 0; t < truths.size(); ++t) {
    for (size_t d = 0; d < detections.size(); ++d, ++iou) {
      *iou = 0;
      if (!(overlap(found[d].first, true_ones[t].first) > 0)) continue;
      if (detections[d].height != truths[t].height || detections[d].width != truths[t].width) {
        *iou = -1;
        continue;
      }
      const uint32_t common = intersection_area(detections[d], truths[t]);
      if (common == 0) continue;
      const uint32_t whole = crowd[t] ? found[d].second : found[d].second + true_ones[t].second - common;
      *iou = static_cast<double>(common) / static_cast<double>(whole);
    }
  }
}

void box_iou(const BoxXywh* detections, int64_t detection_count, const BoxXywh* truths, int64_t truth_count,
             const uint8_t* crowd, double* iou) {
  for (int64_t t = 0; t < truth_count; ++t) {
    const double truth_area = truths[t].width * truths[t].height;
    for (int64_t d = 0; d < detection_count; ++d, ++iou) {
      const double own_area = detections[d].width * detections[d].height;
      const double common = overlap(detections[d], truths[t]);
      *iou = common == 0 ? 0 : common / (crowd[t] ? own_area : own_area + truth_area - common);
    }
  }
}

}  // namespace yolact::cpu
