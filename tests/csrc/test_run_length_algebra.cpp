// Areas, boxes, merges and intersections against loops over dense masks.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/cpu/run_length_algebra.h"
#include "../../csrc/cpu/run_string.h"
#include "check.h"

namespace {

using yolact::cpu::BoxXywh;
using yolact::cpu::Interval;
using yolact::cpu::IntervalMask;
using Dense = std::vector<bool>;  // column by column

Dense random_dense(std::mt19937& random, int64_t pixels) {
  Dense dense(pixels);
  const unsigned stay = 1 + random() % 30;  // how long runs are
  bool one = random() % 2;
  for (int64_t i = 0; i < pixels; ++i) {
    if (random() % stay == 0) one = random() % 4 == 0;
    dense[i] = one;
  }
  return dense;
}

IntervalMask intervals_of(const Dense& dense, int64_t height, int64_t width) {
  IntervalMask mask{height, width, std::unique_ptr<Interval[]>(new Interval[dense.size()]), 0};
  for (uint32_t i = 0; i < dense.size(); ++i) {
    if (!dense[i]) continue;
    if (i > 0 && dense[i - 1])
      ++mask.ones[mask.count - 1].end;
    else
      mask.ones[mask.count++] = {i, i + 1};
  }
  return mask;
}

std::string string_of(const IntervalMask& mask) {
  std::string text(yolact::cpu::longest_string(2 * mask.count), '\0');
  text.resize(yolact::cpu::write_intervals(mask, reinterpret_cast<uint8_t*>(text.data()), text.size()));
  return text;
}

BoxXywh box_of(const Dense& dense, int64_t height) {
  int64_t left = INT64_MAX, right = -1, top = INT64_MAX, bottom = -1;
  for (int64_t i = 0; i < static_cast<int64_t>(dense.size()); ++i) {
    if (!dense[i]) continue;
    left = std::min(left, i / height);
    right = std::max(right, i / height);
    // A run that goes on into the next column counts as the whole height: the pixels do touch both edges.
    top = std::min(top, i % height);
    bottom = std::max(bottom, i % height);
  }
  if (right < 0) return {0, 0, 0, 0};
  return {1.0 * left, 1.0 * top, right - left + 1.0, bottom - top + 1.0};
}

}  // namespace

int main() {
  std::mt19937 random(0);
  for (int round = 0; round < 1000; ++round) {
    const int64_t height = 1 + random() % 20, width = 1 + random() % 20;
    std::vector<Dense> dense(1 + random() % 6);
    std::vector<IntervalMask> masks;
    Dense all(height * width, true), any(height * width, false);
    for (Dense& one : dense) {
      one = random_dense(random, height * width);
      masks.push_back(intervals_of(one, height, width));
      for (int64_t i = 0; i < height * width; ++i) {
        all[i] = all[i] && one[i];
        any[i] = any[i] || one[i];
      }
      CHECK(area(masks.back()) == std::count(one.begin(), one.end(), true));
      const BoxXywh box = bounding_box(masks.back()), expected = box_of(one, height);
      CHECK(box.x == expected.x && box.y == expected.y && box.width == expected.width && box.height == expected.height);

      IntervalMask again{height, width, nullptr, 0};
      const std::string text = string_of(masks.back());
      CHECK(read_intervals(reinterpret_cast<const uint8_t*>(text.data()), text.size(), &again) ==
            yolact::RunError::kNone);
      CHECK(string_of(again) == text);
    }
    for (const bool intersection : {true, false}) {
      std::vector<IntervalMask> parts;
      for (const Dense& one : dense) parts.push_back(intervals_of(one, height, width));
      CHECK(string_of(merge(std::move(parts), intersection)) ==
            string_of(intervals_of(intersection ? all : any, height, width)));
    }

    int64_t common = 0;
    for (int64_t i = 0; i < height * width; ++i) common += dense.front()[i] && dense.back()[i];
    CHECK(intersection_area(masks.front(), masks.back()) == common);
    double iou[2];
    const uint8_t crowd[2] = {0, 1};
    std::vector<IntervalMask> found(1), truths(2);
    found[0] = intervals_of(dense.front(), height, width);
    for (IntervalMask& truth : truths) truth = intervals_of(dense.back(), height, width);
    yolact::cpu::mask_iou(found, truths, crowd, iou);
    const double own = area(masks.front()), other = area(masks.back());
    CHECK(iou[0] == (common ? common / (own + other - common) : 0));
    CHECK(iou[1] == (common ? common / own : 0));
  }
  return failures() != 0;
}
