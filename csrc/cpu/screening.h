// Finds the priors that may pass the threshold by their logits alone, without an exponential.
#pragma once

#include "../common/detect.h"
#include "../common/math.h"
#include "lanes.h"

namespace yolact::cpu {

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

// Sixteen of `classes` numbers, the largest among them: NaN may hide it. `order` makes of them what compares.
template <class Lanes, class T, class Order>
YOLACT_INLINE Lanes largest_sixteen(const T* numbers, int64_t classes, const Order& order) {
  if (classes < kLanes) {
    T few[kLanes];
    for (int i = 0; i < kLanes; ++i) few[i] = numbers[i < classes ? i : 0];
    return order(load_lanes<Lanes>(few));
  }
  Lanes highest = order(load_lanes<Lanes>(numbers + classes - kLanes));  // those that the steps may leave out
  for (int64_t c = 0; c + kLanes <= classes; c += kLanes)
    highest = larger(highest, order(load_lanes<Lanes>(numbers + c)));
  return highest;
}

// The lanes of which a foreground logit is more than `margin` above the background's: of sixteen, one where any is.
template <int kBytes>
YOLACT_INLINE Lanes<kBytes, int32_t> leads(const float* row, int64_t classes, float margin) {
  const auto as_it_is = [](Lanes<kBytes> lanes) __attribute__((always_inline)) { return lanes; };
  return ~(largest_sixteen<Lanes<kBytes>>(row + 1, classes, as_it_is) - row[0] <= margin);
}

// The same of half types as they lie: with those below zero turned around, their bits are in the numbers' order. What a
// logit must exceed is rounded to the type, and those equal to it count: rounding keeps the order, so that a few more
// may pass, but none is lost.
template <int kBytes>
YOLACT_INLINE Lanes<kBytes, int16_t> leads(const uint16_t* row, int64_t classes, float margin, FloatType type) {
  using HalfLanes = Lanes<kBytes, int16_t>;
  const auto turn = [](auto bits)
                        __attribute__((always_inline)) { return bits ^ ((bits >> int16_t{15}) & int16_t{0x7fff}); };
  uint16_t least = 0xffff;  // the lowest, where nothing is sure
  if (const float wanted = load_float(row, 0, type) + margin; wanted == wanted) store_float(&least, 0, type, wanted);
  const int16_t bound = turn(static_cast<int16_t>(least));
  return largest_sixteen<HalfLanes>(row + 1, classes, turn) >= bound;
}

// Lists the priors of [begin, end) of which any lane passes. Several share one look at whether any does, for mostly
// none does.
template <class Comparison, class Passes>
YOLACT_INLINE int64_t list_passing(int64_t begin, int64_t end, int32_t* passing, const Passes& passes) {
  constexpr int kRows = 4;
  int64_t found = 0;
  for (int64_t prior = begin; prior < end; prior += kRows) {
    const int rows = static_cast<int>(end - prior < kRows ? end - prior : kRows);
    Comparison lanes[kRows], some{};
    for (int r = 0; r < rows; ++r) {
      lanes[r] = passes(prior + r);
      some = some | lanes[r];
    }
    if (!any(some)) continue;
    for (int r = 0; r < rows; ++r)
      if (any(lanes[r])) passing[found++] = static_cast<int32_t>(prior + r);
  }
  return found;
}

// Lists the priors of [begin, end) whose best foreground logit is more than `margin` above the background's, and maybe
// a few that are not. `room` holds 1 + classes numbers.
template <int kBytes>
YOLACT_INLINE int64_t screen(const DetectArguments& a, int64_t picture, int64_t begin, int64_t end, float margin,
                             float* room, int32_t* passing) {
  constexpr int64_t kAhead = 4096;  // bytes: the processor's own prefetching stops at each page
  const FloatView& logits = a.class_logits;
  const int64_t count = 1 + a.classes;
  const auto prefetch = [&](const auto* row) __attribute__((always_inline)) {
    const char* const from = reinterpret_cast<const char*>(row) + kAhead;
    for (int64_t i = 0; i < count * static_cast<int64_t>(sizeof *row); i += 64) __builtin_prefetch(from + i);
  };
  if (logits.type != FloatType::kFloat32 && logits.stride[2] == 1) {
    const uint16_t* halves = static_cast<const uint16_t*>(logits.data) + picture * logits.stride[0];
    return list_passing<Lanes<kBytes, int16_t>>(begin, end, passing, [&](int64_t prior) __attribute__((always_inline)) {
      const uint16_t* row = halves + prior * logits.stride[1];
      prefetch(row);
      return leads<kBytes>(row, a.classes, margin, logits.type);
    });
  }
  return list_passing<Lanes<kBytes, int32_t>>(begin, end, passing, [&](int64_t prior) __attribute__((always_inline)) {
    const float* row = load_row(logits, picture, prior, count, room);
    prefetch(row);
    return leads<kBytes>(row, a.classes, margin);
  });
}

}  // namespace yolact::cpu
