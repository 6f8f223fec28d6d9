// Jobs of run lengths: dense masks to strings and back, and the algebra of yolact.mask.
#include <algorithm>

#include "../../csrc/common/decode_run_lengths.h"
#include "../../csrc/common/encode_run_lengths.h"
#include "../../csrc/common/gather_run_lengths.h"
#include "../../csrc/cpu/polygons.h"
#include "../../csrc/cpu/run_length_algebra.h"
#include "../../csrc/cpu/run_string.h"
#include "jobs.h"

namespace yolact {
namespace {

constexpr int64_t kMasks = 8, kHeight = 275, kWidth = 301;

// Ellipses, or pixels by chance, row by row or column by column.
std::vector<uint8_t> masks_of(bool noise, bool by_columns) {
  Random random;
  std::vector<uint8_t> masks(kMasks * kHeight * kWidth);
  for (int64_t i = 0; i < kMasks; ++i) {
    const float x0 = random.uniform(50, 250), y0 = random.uniform(50, 220), rx = random.uniform(20, 70), ry = 50;
    for (int64_t y = 0; y < kHeight; ++y)
      for (int64_t x = 0; x < kWidth; ++x) {
        const float dx = (static_cast<float>(x) - x0) / rx, dy = (static_cast<float>(y) - y0) / ry;
        masks[i * kHeight * kWidth + (by_columns ? x * kHeight + y : y * kWidth + x)] =
            noise ? random.below(8) == 0 : dx * dx + dy * dy < 1;
      }
  }
  return masks;
}

EncodeRunLengthsArguments encoding(const std::vector<uint8_t>& masks, bool by_columns, Strings& strings) {
  EncodeRunLengthsArguments a{};
  a.masks = masks.data();
  a.stride[0] = kHeight * kWidth;
  a.stride[1] = by_columns ? 1 : kWidth;
  a.stride[2] = by_columns ? kHeight : 1;
  a.count = strings.count;
  a.height = kHeight;
  a.width = kWidth;
  a.data = strings.data.data();
  a.capacity = strings.capacity;
  a.length = strings.length.data();
  a.needed = strings.needed.data();
  a.size = strings.size.data();
  return a;
}

int64_t run_encode(bool noise, bool by_columns) {
  const std::vector<uint8_t> masks = masks_of(noise, by_columns);
  Strings strings(kMasks, noise ? 1 << 16 : 4096);
  const EncodeRunLengthsArguments a = encoding(masks, by_columns, strings);
  counted([&] { cpu::encode_run_lengths(a, serial()); });
  return sum(strings.length);
}

int64_t run_encode_mask() {
  const std::vector<uint8_t> masks = masks_of(false, true);
  std::vector<uint8_t> text(kHeight * kWidth + 9);
  int64_t bytes = 0;
  counted([&] {
    bytes = cpu::encode_mask(masks.data(), kHeight, kWidth, 1, kHeight, text.data(), static_cast<int64_t>(text.size()));
  });
  return bytes;
}

// The strings of what masks_of gives.
Strings encoded(bool noise) {
  const std::vector<uint8_t> masks = masks_of(noise, false);
  Strings strings(kMasks, 1 << 16);
  cpu::encode_run_lengths(encoding(masks, false, strings), serial());
  return strings;
}

int64_t run_decode() {
  const Strings strings = encoded(false);
  std::vector<uint8_t> masks(kMasks * kHeight * kWidth);
  std::vector<int64_t> error(kMasks);
  const DecodeRunLengthsArguments a{strings.data.data(),
                                    strings.length.data(),
                                    strings.needed.data(),
                                    strings.size.data(),
                                    kMasks,
                                    strings.capacity,
                                    kHeight,
                                    kWidth,
                                    masks.data(),
                                    error.data()};
  counted([&] { cpu::decode_run_lengths(a, serial()); });
  return sum(masks);
}

// Short strings of every length: what longer ones cost is the C library's copying, and depends on where they lie.
int64_t run_gather() {
  constexpr int64_t kRows = 500;
  Strings strings(kRows, 64);
  for (int64_t i = 0; i < kRows; ++i) strings.length[i] = strings.needed[i] = i % 64;
  std::fill(strings.data.begin(), strings.data.end(), '0');
  std::vector<uint8_t> output(gathered_size(kRows, strings.capacity));
  const GatherRunLengthsArguments a{
      strings.data.data(), strings.length.data(), strings.needed.data(), strings.size.data(), kRows,
      strings.capacity,    output.data()};
  counted([&] { cpu::gather_run_lengths(a); });
  return sum(output);
}

std::vector<cpu::IntervalMask> read_all(const Strings& strings) {
  std::vector<cpu::IntervalMask> masks(kMasks);
  for (int64_t i = 0; i < kMasks; ++i) {
    masks[i].height = kHeight;
    masks[i].width = kWidth;
    cpu::read_intervals(strings.data.data() + i * strings.capacity, strings.length[i], &masks[i]);
  }
  return masks;
}

int64_t run_read_and_write() {
  const Strings strings = encoded(true);
  std::vector<uint8_t> text(strings.capacity);
  int64_t bytes = 0;
  counted([&] {
    for (const cpu::IntervalMask& mask : read_all(strings))
      bytes += cpu::write_intervals(mask, text.data(), strings.capacity);
  });
  return bytes;
}

int64_t run_area_and_box() {
  const std::vector<cpu::IntervalMask> masks = read_all(encoded(true));
  double total = 0;
  counted([&] {
    for (const cpu::IntervalMask& mask : masks) total += cpu::area(mask) + cpu::bounding_box(mask).width;
  });
  return static_cast<int64_t>(total);
}

int64_t run_merge(bool intersect) {
  std::vector<cpu::IntervalMask> masks = read_all(encoded(true));
  if (intersect) masks.resize(2);
  cpu::IntervalMask merged;
  counted([&] { merged = cpu::merge(std::move(masks), intersect); });
  return merged.count;
}

int64_t run_mask_iou() {
  std::vector<cpu::IntervalMask> masks = read_all(encoded(true));
  masks.resize(3);
  const std::vector<uint8_t> crowd(3);
  std::vector<double> iou(9);
  counted([&] { cpu::mask_iou(masks, masks, crowd.data(), iou.data()); });
  return static_cast<int64_t>(std::count_if(iou.begin(), iou.end(), [](double value) { return value > 0; }));
}

int64_t run_box_iou() {
  constexpr int64_t kBoxes = 100;
  Random random;
  std::vector<cpu::BoxXywh> boxes;
  for (int64_t i = 0; i < kBoxes; ++i) {
    const float x = random.uniform(0, 400), y = random.uniform(0, 400);
    boxes.push_back({x, y, random.uniform(20, 150), random.uniform(20, 150)});
  }
  const std::vector<uint8_t> crowd(kBoxes);
  std::vector<double> iou(kBoxes * kBoxes);
  counted([&] { cpu::box_iou(boxes.data(), kBoxes, boxes.data(), kBoxes, crowd.data(), iou.data()); });
  return static_cast<int64_t>(std::count_if(iou.begin(), iou.end(), [](double value) { return value > 0; }));
}

int64_t run_polygon_flips() {
  Random random;
  std::vector<double> vertices;
  for (int64_t i = 0; i < 60; ++i) vertices.push_back(random.uniform(0, 275));
  std::vector<uint8_t> text(cpu::longest_string(30 * kWidth));
  int64_t bytes = 0;
  counted([&] {
    const std::vector<uint32_t> flips = cpu::polygon_flips(vertices.data(), 30, kHeight, kWidth);
    bytes = cpu::write_flips(flips.data(), static_cast<int64_t>(flips.size()), kHeight * kWidth, text.data(),
                             static_cast<int64_t>(text.size()));
  });
  return bytes;
}

}  // namespace

Jobs run_length_jobs() {
  return {
      {"encode_mask", run_encode_mask},
      {"encode_run_lengths by rows", [] { return run_encode(false, false); }},
      {"encode_run_lengths by columns", [] { return run_encode(false, true); }},
      {"encode_run_lengths noise", [] { return run_encode(true, false); }},
      {"decode_run_lengths", run_decode},
      {"gather_run_lengths", run_gather},
      {"read_intervals, write_intervals", run_read_and_write},
      {"area, bounding_box", run_area_and_box},
      {"merge", [] { return run_merge(false); }},
      {"merge intersect", [] { return run_merge(true); }},
      {"mask_iou", run_mask_iou},
      {"box_iou", run_box_iou},
      {"polygon_flips, write_flips", run_polygon_flips},
  };
}

}  // namespace yolact
