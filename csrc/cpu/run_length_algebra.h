// What can be said of masks without their pixels: areas, boxes, intersections, unions, on sorted intervals of ones.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../common/run_lengths.h"

namespace yolact::cpu {

struct Interval {
  uint32_t begin, end;  // flat indices, column by column; never empty
};

struct IntervalMask {
  int64_t height = 0, width = 0;
  std::unique_ptr<Interval[]> ones;
  int64_t count = 0;

  const Interval* begin() const { return ones.get(); }
  const Interval* end() const { return ones.get() + count; }
};

struct BoxXywh {
  double x, y, width, height;
};

// Replaces the mask's ones by those of a string of the mask's size.
RunError read_intervals(const uint8_t* text, int64_t length, IntervalMask* mask);

// Writes the string of a mask; returns the bytes needed.
int64_t write_intervals(const IntervalMask& mask, uint8_t* output, int64_t capacity);

uint32_t area(const IntervalMask& mask);

// The smallest box around the ones; zeros where there are none.
BoxXywh bounding_box(const IntervalMask& mask);

uint32_t intersection_area(const IntervalMask& a, const IntervalMask& b);

// The union, or the intersection, of at least one mask, all of one size.
IntervalMask merge(std::vector<IntervalMask> masks, bool intersect);

// Intersection over union of every detection with every truth, [detections, truths] by columns. With a crowd the
// union is the detection's own area. -1 where two masks that may meet are of different sizes.
void mask_iou(const std::vector<IntervalMask>& detections, const std::vector<IntervalMask>& truths,
              const uint8_t* crowd, double* iou);
void box_iou(const BoxXywh* detections, int64_t detection_count, const BoxXywh* truths, int64_t truth_count,
             const uint8_t* crowd, double* iou);

}  // namespace yolact::cpu
