// What the mask loss of csrc/cpu does to one positive in one tile of a picture, sixteen columns at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../common/mask_loss.h"
#include "lanes.h"

namespace yolact::cpu {

static_assert(kBandLanes == kLanes, "a load is the columns that are added up last");

// The sum of `count` values, a power of two, by halves; they are overwritten.
template <class T>
YOLACT_INLINE T sum_by_halves(T* values, int64_t count) {
  for (int64_t half = count / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) values[i] += values[i + half];
  return values[0];
}

// Rows that are computed together: chains of additions that do not wait for each other.
constexpr int kRowsAtOnce = 4;

// One positive in one tile. A tile is [kBandRows / kRowsAtOnce, channels, kRowsAtOnce, kLanes].
template <class T>
struct Part {
  const T* prototypes;    // a tile
  T* gradients;           // a tile
  const T* coefficients;  // [channels]
  int64_t channels;
  const uint8_t* truth;  // of the tile's first pixel
  int64_t truth_row, truth_column;
  Span rows, columns;  // of the tile, inside the box
  T weight;            // of the entropies' derivatives
  T* sums;             // of entropies [kBandRows, kLanes], or for the coefficients' gradient [channels, kLanes]
};

// The lanes whose columns are inside the box. (Of one comparison of vectors the compiler makes a mask; of two,
// branches.)
template <class Lanes, class T>
YOLACT_INLINE auto is_inside(const Part<T>& part) {
  T inside[kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    inside[lane] = lane >= part.columns.begin && lane < part.columns.end ? T{1} : T{0};
  return load_lanes<Lanes>(inside) > T{0};
}

// Where a row of a channel is in a tile.
YOLACT_INLINE int64_t place_of(int64_t row, int64_t k, int64_t channels) {
  return ((row / kRowsAtOnce * channels + k) * kRowsAtOnce + row % kRowsAtOnce) * kLanes;
}

// The logits of kRows rows from `row` on.
template <class Lanes, int kRows, class T>
YOLACT_INLINE void logits_of(const Part<T>& part, int32_t row, T (&logits)[kRows][kLanes]) {
  const T* from = part.prototypes + place_of(row, 0, part.channels);
  Lanes sum[kRows]{};
  for (int64_t k = 0; k < part.channels; ++k, from += kRowsAtOnce * kLanes) {
    const T coefficient = part.coefficients[k];
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) sum[i] = sum[i] + load_lanes<Lanes>(from + i * kLanes) * coefficient;
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) store_lanes(logits[i], sum[i]);
}

// Past the box the nearest inside it: what is computed there counts for nothing.
template <class T>
YOLACT_INLINE void truths_of(const Part<T>& part, int32_t row, int32_t (&truth)[kLanes]) {
  const uint8_t* from = part.truth + row * part.truth_row;
  for (int32_t lane = 0; lane < kLanes; ++lane)
    truth[lane] = from[std::min(std::max(lane, part.columns.begin), part.columns.end - 1) * part.truth_column];
}

template <class Lanes, int kRows, class T>
YOLACT_INLINE void add_entropies_of_rows(const Part<T>& part, int32_t row) {
  const Lanes none{};
  const auto inside = is_inside<Lanes>(part);
  T logits[kRows][kLanes];
  int32_t truth[kLanes];
  logits_of<Lanes, kRows>(part, row, logits);
  for (int i = 0; i < kRows; ++i) {
    truths_of(part, row + i, truth);
    for (int lane = 0; lane < kLanes; ++lane) logits[i][lane] = mask_entropy(logits[i][lane], truth[lane] != 0);
    T* const sums = part.sums + (row + i) * kLanes;
    store_lanes(sums, load_lanes<Lanes>(sums) + choose(inside, load_lanes<Lanes>(logits[i]), none));
  }
}

// Pixels outside the box add nothing, whatever they are: 0 times infinity would.
template <class Lanes, int kRows, class T>
YOLACT_INLINE void add_gradients_of_rows(const Part<T>& part, int32_t row) {
  const Lanes none{};
  const auto inside = is_inside<Lanes>(part);
  T logits[kRows][kLanes];
  int32_t truth[kLanes];
  logits_of<Lanes, kRows>(part, row, logits);
  Lanes derivatives[kRows];
  for (int i = 0; i < kRows; ++i) {
    truths_of(part, row + i, truth);
    for (int lane = 0; lane < kLanes; ++lane)
      logits[i][lane] = mask_entropy_gradient(logits[i][lane], truth[lane] != 0) * part.weight;
    derivatives[i] = load_lanes<Lanes>(logits[i]);
  }
  for (int64_t k = 0; k < part.channels; ++k) {
    const T* const prototypes = part.prototypes + place_of(row, k, part.channels);
    T* const gradients = part.gradients + place_of(row, k, part.channels);
    Lanes sum = load_lanes<Lanes>(part.sums + k * kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const Lanes product = derivatives[i] * load_lanes<Lanes>(prototypes + i * kLanes);
      const Lanes before = load_lanes<Lanes>(gradients + i * kLanes);
      sum = sum + choose(inside, product, none);
      store_lanes(gradients + i * kLanes, choose(inside, before + derivatives[i] * part.coefficients[k], before));
    }
    store_lanes(part.sums + k * kLanes, sum);
  }
}

// Calls four(row) for rows of a tile that lie together, and one(row) for others.
template <class Four, class One>
YOLACT_INLINE void for_each_row(Span rows, const Four& four, const One& one) {
  for (int32_t row = rows.begin; row < rows.end;) {
    if (row % kRowsAtOnce == 0 && row + kRowsAtOnce <= rows.end) {
      four(row);
      row += kRowsAtOnce;
    } else {
      one(row++);
    }
  }
}

template <int kBytes, class T>
YOLACT_INLINE void add_entropies(const Part<T>& part) {
  for_each_row(
      part.rows,
      [&](int32_t row)
          __attribute__((always_inline)) { add_entropies_of_rows<Lanes<kBytes, T>, kRowsAtOnce>(part, row); },
      [&](int32_t row) __attribute__((always_inline)) { add_entropies_of_rows<Lanes<kBytes, T>, 1>(part, row); });
}

template <int kBytes, class T>
YOLACT_INLINE void add_gradients(const Part<T>& part) {
  for_each_row(
      part.rows,
      [&](int32_t row)
          __attribute__((always_inline)) { add_gradients_of_rows<Lanes<kBytes, T>, kRowsAtOnce>(part, row); },
      [&](int32_t row) __attribute__((always_inline)) { add_gradients_of_rows<Lanes<kBytes, T>, 1>(part, row); });
}

}  // namespace yolact::cpu
