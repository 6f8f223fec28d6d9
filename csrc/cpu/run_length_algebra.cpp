#include "run_length_algebra.h"

#include <algorithm>
#include <utility>

#include "level.h"
#include "run_string.h"

namespace yolact::cpu {
namespace {

// As fmin and fmax: a NaN gives way to the other.
YOLACT_INLINE double lesser(double a, double b) { return b < a || a != a ? b : a; }
YOLACT_INLINE double greater(double a, double b) { return b > a || a != a ? b : a; }

// One truth with every detection, whose corners and areas are given.
YOLACT_INLINE void box_iou_of_one(BoxXywh truth, bool crowd, const double* left, const double* top, const double* right,
                                  const double* bottom, const double* area, int64_t count, double* iou) {
  const double truth_area = truth.width * truth.height;
  const double truth_right = truth.width + truth.x, truth_bottom = truth.height + truth.y;
  for (int64_t d = 0; d < count; ++d) {
    const double width = lesser(right[d], truth_right) - greater(left[d], truth.x);
    const double height = lesser(bottom[d], truth_bottom) - greater(top[d], truth.y);
    const double common = width * height;
    const double ratio = common / (crowd ? area[d] : area[d] + truth_area - common);
    iou[d] = width <= 0 || height <= 0 ? 0 : ratio;  // a NaN is neither
  }
}

// Whole pixels.
struct Box {
  uint32_t left, top, right, bottom;  // without the last ones
};

bool meet(const Box& a, const Box& b) {
  return (a.left < b.right) & (b.left < a.right) & (a.top < b.bottom) & (b.top < a.bottom);
}

Box box_of(const IntervalMask& mask) {
  if (mask.count == 0) return {0, 0, 0, 0};
  const int64_t height = mask.height;
  int64_t top = height, bottom = 0, column = 0;  // column: the flat index at which the current one begins
  for (const Interval& run : mask) {
    if (run.begin - column >= height) column += height;  // mostly the next column
    if (run.begin - column >= height) column = run.begin / height * height;
    if (run.end - column > height) {  // goes across columns
      top = 0;
      bottom = height;
      break;
    }
    top = std::min(top, run.begin - column);
    bottom = std::max(bottom, run.end - column);
  }
  const Interval& last = mask.ones[mask.count - 1];
  return {static_cast<uint32_t>(mask.ones[0].begin / height), static_cast<uint32_t>(top),
          static_cast<uint32_t>((last.end - 1) / height + 1), static_cast<uint32_t>(bottom)};
}

// Walks along the flips of both at once. Whether one is inside a mask is whether an odd number of its flips lie behind.
template <bool kIntersection>
YOLACT_INLINE int64_t merge_flips(const uint32_t* a, int64_t a_count, const uint32_t* b, int64_t b_count,
                                  uint32_t* output) {
  int64_t i = 0, j = 0, count = 0;
  while (i < a_count && j < b_count) {
    const uint32_t position_a = a[i], position_b = b[j];
    const int64_t before = kIntersection ? i & j : i | j;
    i += position_a <= position_b;
    j += position_b <= position_a;
    const int64_t after = kIntersection ? i & j : i | j;
    output[count] = std::min(position_a, position_b);
    count += (before ^ after) & 1;
  }
  if (kIntersection) return count;
  for (; i < a_count; ++i) output[count++] = a[i];
  for (; j < b_count; ++j) output[count++] = b[j];
  return count;
}

// Two flips at one place are none. Returns how many are left.
int64_t without_empty_runs(uint32_t* flips, int64_t count) {
  bool any = false;
  for (int64_t i = 1; i < count; ++i) any |= flips[i] == flips[i - 1];
  if (!any) return count;
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (kept > 0 && flips[kept - 1] == flips[i])
      --kept;
    else
      flips[kept++] = flips[i];
  }
  return kept;
}

const uint32_t* flips_of(const IntervalMask& mask) { return reinterpret_cast<const uint32_t*>(mask.ones.get()); }

IntervalMask merge(const IntervalMask& a, const IntervalMask& b, bool intersection) {
  IntervalMask result{a.height, a.width, std::unique_ptr<Interval[]>(new Interval[a.count + b.count + 1]), 0};
  auto* flips = reinterpret_cast<uint32_t*>(result.ones.get());
  const auto merge = intersection ? merge_flips<true> : merge_flips<false>;
  result.count = merge(flips_of(a), 2 * a.count, flips_of(b), 2 * b.count, flips) / 2;
  return result;
}

}  // namespace

RunError read_intervals(const uint8_t* text, int64_t length, IntervalMask* mask) {
  mask->ones.reset(new Interval[length / 2 + 1]);
  auto* flips = reinterpret_cast<uint32_t*>(mask->ones.get());
  int64_t count = 0;
  const RunError error = read_flips(text, length, mask->height * mask->width, flips, &count);
  mask->count = without_empty_runs(flips, count) / 2;  // a last run of zeros ends nothing
  return error;
}

int64_t write_intervals(const IntervalMask& mask, uint8_t* output, int64_t capacity) {
  return write_flips(flips_of(mask), 2 * mask.count, mask.height * mask.width, output, capacity);
}

uint32_t area(const IntervalMask& mask) {
  uint32_t sum = 0;
  for (const Interval& run : mask) sum += run.end - run.begin;
  return sum;
}

BoxXywh bounding_box(const IntervalMask& mask) {
  const Box box = box_of(mask);
  return {static_cast<double>(box.left), static_cast<double>(box.top), static_cast<double>(box.right - box.left),
          static_cast<double>(box.bottom - box.top)};
}

uint32_t intersection_area(const IntervalMask& a, const IntervalMask& b) {
  if (a.count == 0 || b.count == 0) return 0;
  // What lies before the other's first run cannot meet it.
  const auto after = [](const IntervalMask& mask, uint32_t position) {
    return std::partition_point(mask.begin(), mask.end(), [=](const Interval& run) { return run.end <= position; });
  };
  const Interval *i = after(a, b.ones[0].begin), *j = after(b, a.ones[0].begin);
  uint32_t sum = 0;
  while (i != a.end() && j != b.end()) {
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
      masks[i] = merge(masks[i], masks[i + step], intersection);
  return std::move(masks.front());
}

void mask_iou(const std::vector<IntervalMask>& detections, const std::vector<IntervalMask>& truths,
              const uint8_t* crowd, double* iou) {
  struct Known {
    Box box;
    uint32_t area;
  };
  const auto measure = [](const std::vector<IntervalMask>& masks) {
    std::vector<Known> known;
    known.reserve(masks.size());
    for (const IntervalMask& mask : masks) known.push_back({box_of(mask), area(mask)});
    return known;
  };
  const std::vector<Known> found = measure(detections), true_ones = measure(truths);
  for (size_t t = 0; t < truths.size(); ++t) {
    for (size_t d = 0; d < detections.size(); ++d, ++iou) {
      *iou = 0;
      if (!meet(found[d].box, true_ones[t].box)) continue;
      if (detections[d].height != truths[t].height || detections[d].width != truths[t].width) {
        *iou = -1;
        continue;
      }
      const uint32_t common = intersection_area(detections[d], truths[t]);
      if (common == 0) continue;
      const uint32_t whole = crowd[t] ? found[d].area : found[d].area + true_ones[t].area - common;
      *iou = static_cast<double>(common) / static_cast<double>(whole);
    }
  }
}

void box_iou(const BoxXywh* detections, int64_t detection_count, const BoxXywh* truths, int64_t truth_count,
             const uint8_t* crowd, double* iou) {
  // Corners and areas of the detections, an array each: the loop over them is without a branch and vectorises.
  std::vector<double> columns(5 * detection_count);
  double *left = columns.data(), *top = left + detection_count, *right = top + detection_count;
  double *bottom = right + detection_count, *area = bottom + detection_count;
  for (int64_t d = 0; d < detection_count; ++d) {
    const BoxXywh& box = detections[d];
    left[d] = box.x;
    top[d] = box.y;
    right[d] = box.width + box.x;
    bottom[d] = box.height + box.y;
    area[d] = box.width * box.height;
  }
  for (int64_t t = 0; t < truth_count; ++t, iou += detection_count)
    at_level<box_iou_of_one>(truths[t], crowd[t] != 0, left, top, right, bottom, area, detection_count, iou);
}

}  // namespace yolact::cpu
