// The loss of assembled masks and its gradients (YOLACT, section 3.3), without ever holding a mask: a task is a band of
// sixteen rows of a picture, whose prototypes it lays out once as a plane a channel, whatever their strides and type.
// Then it goes through the picture's positives, sixteen columns of their boxes at a time: logits, entropies or their
// derivatives, and from these both gradients, all in registers and in the nearest cache.
//
// Bytes moved: the prototypes once, and once their gradient. Operations a pixel inside a box: 2 K for the logit and
// about 60 for the entropy; backward 6 K and about 40. Memory: 16 rows of K planes a thread, twice for gradients, and
// K numbers for each band that a positive has pixels in.
// What makes it fast: only boxes are computed, no sum goes across lanes but the last, and every load but one lane's
// coefficient serves sixteen pixels.
#include "../common/mask_loss.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "lanes.h"

namespace yolact::cpu {
namespace {

static_assert(kBandLanes == kLanes, "a load is the columns that are added up last");

template <class T>
struct LanesOf {
  typedef T type __attribute__((vector_size(kLanes * sizeof(T))));
};

template <class T>
YOLACT_INLINE typename LanesOf<T>::type load(const T* from) {
  typename LanesOf<T>::type lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

template <class T>
YOLACT_INLINE void store(T* to, typename LanesOf<T>::type lanes) {
  std::memcpy(to, &lanes, sizeof lanes);
}

// The sum of `count` values, a power of two, by halves; they are overwritten.
template <class T>
YOLACT_INLINE T sum_by_halves(T* values, int64_t count) {
  for (int64_t half = count / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) values[i] += values[i + half];
  return values[0];
}

// One positive in one band: up to kBandRows rows of its box.
template <class T>
struct Part {
  const T* prototypes;    // of the band's first row, column 0, channel 0
  T* gradients;           // likewise
  int64_t row, plane;     // steps of both
  const T* coefficients;  // [channels]
  int64_t channels;
  const uint8_t* truth;  // of the band's first row, column 0
  int64_t truth_row, truth_column;
  Span rows, columns;  // rows from the band's first
  T weight;            // of the entropies' derivatives
  T* sums;             // [channels, kLanes] for the gradient of the coefficients
};

// The logits of kRows rows, sixteen columns of each.
template <int kRows, class T>
YOLACT_INLINE void logits_of_rows(const Part<T>& part, const T* prototypes, T (*logits)[kLanes]) {
  typename LanesOf<T>::type sum[kRows]{};
  for (int64_t k = 0; k < part.channels; ++k, prototypes += part.plane) {
    const T coefficient = part.coefficients[k];
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) sum[i] += load(prototypes + i * part.row) * coefficient;
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) store(logits[i], sum[i]);
}

// The logits of sixteen columns from `column` on, of all the part's rows; those past its columns mean nothing.
template <class T>
YOLACT_INLINE void logits_of(const Part<T>& part, int32_t column, T (&logits)[kBandRows][kLanes]) {
  int32_t row = part.rows.begin;
  const T* from = part.prototypes + row * part.row + column;
  for (; row + 4 <= part.rows.end; row += 4, from += 4 * part.row) logits_of_rows<4>(part, from, logits + row);
  for (; row < part.rows.end; ++row, from += part.row) logits_of_rows<1>(part, from, logits + row);
}

template <class T>
YOLACT_INLINE void truths_of(const Part<T>& part, int32_t row, int32_t column, int32_t count,
                             int32_t (&truth)[kLanes]) {
  const uint8_t* from = part.truth + row * part.truth_row + column * part.truth_column;
  for (int32_t lane = 0; lane < kLanes; ++lane) truth[lane] = lane < count ? from[lane * part.truth_column] : 0;
}

template <class T>
YOLACT_INLINE T sum_of_entropies(const Part<T>& part) {
  T sums[kBandRows][kLanes] = {}, logits[kBandRows][kLanes];
  int32_t truth[kLanes];
  for (int32_t column = part.columns.begin; column < part.columns.end; column += kLanes) {
    const int32_t count = std::min(part.columns.end - column, kLanes);
    logits_of(part, column, logits);
    for (int32_t row = part.rows.begin; row < part.rows.end; ++row) {
      truths_of(part, row, column, count, truth);
      for (int32_t lane = 0; lane < kLanes; ++lane)
        logits[row][lane] = mask_entropy(logits[row][lane], truth[lane] != 0);
      for (int32_t lane = 0; lane < count; ++lane) sums[row][lane] += logits[row][lane];
    }
  }
  return sum_by_halves(sums[0], kBandRows * kLanes);
}

// Adds to the prototypes' gradients and writes the coefficients', of this band, to `gradient`.
template <class T>
YOLACT_INLINE void add_gradients(const Part<T>& part, T* gradient) {
  using Lanes = typename LanesOf<T>::type;
  T logits[kBandRows][kLanes], places[kLanes];
  int32_t truth[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) places[lane] = static_cast<T>(lane);
  std::fill_n(part.sums, part.channels * kLanes, T{0});
  for (int32_t column = part.columns.begin; column < part.columns.end; column += kLanes) {
    const int32_t count = std::min(part.columns.end - column, kLanes);
    logits_of(part, column, logits);
    for (int32_t row = part.rows.begin; row < part.rows.end; ++row) {
      truths_of(part, row, column, count, truth);
      for (int32_t lane = 0; lane < kLanes; ++lane)
        logits[row][lane] = mask_entropy_gradient(logits[row][lane], truth[lane] != 0) * part.weight;
    }
    // Pixels past the box add nothing, whatever they are: 0 times infinity would.
    const auto is_inside = load(places) < static_cast<T>(count);
    for (int64_t k = 0; k < part.channels; ++k) {
      const int64_t at = k * part.plane + column;
      const T coefficient = part.coefficients[k];
      Lanes sum = load(part.sums + k * kLanes);
      for (int32_t row = part.rows.begin; row < part.rows.end; ++row) {
        const Lanes derivative = load(logits[row]), none{};
        T* const pixels = part.gradients + at + row * part.row;
        const Lanes before = load(pixels), product = derivative * load(part.prototypes + at + row * part.row);
        sum += is_inside ? product : none;
        store(pixels, is_inside ? before + derivative * coefficient : before);
      }
      store(part.sums + k * kLanes, sum);
    }
  }
  for (int64_t k = 0; k < part.channels; ++k) gradient[k] = sum_by_halves(part.sums + k * kLanes, kLanes);
}

YOLACT_CLONES float loss_of(const Part<float>& part) { return sum_of_entropies(part); }
double loss_of(const Part<double>& part) { return sum_of_entropies(part); }

YOLACT_CLONES void differentiate(const Part<float>& part, float* gradient) { add_gradients(part, gradient); }
void differentiate(const Part<double>& part, double* gradient) { add_gradients(part, gradient); }

template <class T>
T load_as(const void* data, int64_t index, FloatType type) {
  if constexpr (std::is_same_v<T, double>) {
    return static_cast<const double*>(data)[index];
  } else {
    return load_float(data, index, type);
  }
}

template <class T>
void store_as(void* data, int64_t index, FloatType type, T value) {
  if constexpr (std::is_same_v<T, double>) {
    static_cast<double*>(data)[index] = value;
  } else {
    store_float(data, index, type, value);
  }
}

// The positives, those of a picture together in their order.
class Positives {
 public:
  explicit Positives(const MaskLossArguments& a) : first_part_(a.positives + 1), begin_(a.batch + 1) {
    for (int64_t m = 0; m < a.positives; ++m) {
      all_.push_back(positive_of(a, m));
      first_part_[m + 1] = first_part_[m] + bands_of(all_[m].y).size();
      if (!all_[m].y.empty()) ++begin_[all_[m].picture + 1];
    }
    std::partial_sum(begin_.begin(), begin_.end(), begin_.begin());
    order_.resize(begin_.back());
    std::vector<int64_t> next(begin_);
    for (int64_t m = 0; m < a.positives; ++m)
      if (!all_[m].y.empty()) order_[next[all_[m].picture]++] = m;
  }

  const Positive& operator[](int64_t m) const { return all_[m]; }
  int64_t part(int64_t m, int64_t band) const { return first_part_[m] + band - bands_of(all_[m].y).begin; }
  int64_t first_part(int64_t m) const { return first_part_[m]; }
  int64_t parts() const { return first_part_.back(); }

  // Those that have pixels in a band.
  std::vector<int64_t> meeting(int64_t picture, int64_t band) const {
    std::vector<int64_t> found;
    for (int64_t i = begin_[picture]; i < begin_[picture + 1]; ++i) {
      const Span bands = bands_of(all_[order_[i]].y);
      if (bands.begin <= band && band < bands.end) found.push_back(order_[i]);
    }
    return found;
  }

 private:
  std::vector<Positive> all_;
  std::vector<int64_t> first_part_;  // of each positive among all parts, a part a band
  std::vector<int64_t> begin_, order_;
};

// The planes of a band, and what else a task needs.
template <class T>
class Band {
 public:
  Band(const MaskLossArguments& a, bool with_gradients)
      : a_(a),
        row_(a.width + kLanes),  // loads of sixteen columns may go past a row's end
        plane_(kBandRows * row_),
        prototypes_(a.channels * plane_),
        gradients_(with_gradients ? a.channels * plane_ : 0),
        coefficients_(a.channels),
        sums_(with_gradients ? a.channels * kLanes : 0) {}

  // Loads the prototypes of the columns that its members, of which there is one at least, have pixels in.
  void load(const Positives& positives, const std::vector<int64_t>& members, int64_t picture, int64_t band) {
    picture_ = picture;
    first_ = static_cast<int32_t>(band * kBandRows);
    rows_ = static_cast<int32_t>(std::min<int64_t>(a_.height - first_, kBandRows));
    Span columns = positives[members[0]].x;
    for (const int64_t m : members)
      columns = {std::min(columns.begin, positives[m].x.begin), std::max(columns.end, positives[m].x.end)};
    const int64_t* stride = a_.prototype_stride;
    for (int32_t row = 0; row < rows_; ++row) {
      const int64_t from = picture * stride[0] + (first_ + row) * stride[1];
      for (int64_t k = 0; k < a_.channels; ++k) {
        T* to = prototypes_.data() + k * plane_ + row * row_;
        for (int64_t x = columns.begin; x < columns.end; ++x)
          to[x] = load_as<T>(a_.prototypes, from + x * stride[2] + k * stride[3], a_.prototype_type);
      }
    }
  }

  Part<T> part(const Positive& positive, int64_t m) {
    for (int64_t k = 0; k < a_.channels; ++k)
      coefficients_[k] =
          load_as<T>(a_.coefficients, m * a_.coefficient_stride[0] + k * a_.coefficient_stride[1], a_.coefficient_type);
    const Span rows = intersection(positive.y, {first_, first_ + rows_});
    return {prototypes_.data(),
            gradients_.data(),
            row_,
            plane_,
            coefficients_.data(),
            a_.channels,
            a_.masks + positive.truth * a_.mask_stride[0] + first_ * a_.mask_stride[1],
            a_.mask_stride[1],
            a_.mask_stride[2],
            {rows.begin - first_, rows.end - first_},
            positive.x,
            T{0},
            sums_.data()};
  }

  void clear_gradients() { std::fill(gradients_.begin(), gradients_.end(), T{0}); }

  void store_gradients(const MaskLossArguments& a, int64_t picture, int64_t band) const {
    const int64_t* stride = a.prototype_gradient_stride;
    const int64_t first = band * kBandRows, rows = std::min<int64_t>(a.height - first, kBandRows);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t to = picture * stride[0] + (first + row) * stride[1];
      for (int64_t k = 0; k < a.channels; ++k) {
        const T* from = gradients_.data() + k * plane_ + row * row_;
        for (int64_t x = 0; x < a.width; ++x)
          store_as<T>(a.prototype_gradient, to + x * stride[2] + k * stride[3], a.prototype_type, from[x]);
      }
    }
  }

 private:
  const MaskLossArguments& a_;
  int64_t row_, plane_, picture_ = 0;
  int32_t first_ = 0, rows_ = 0;
  std::vector<T> prototypes_, gradients_, coefficients_, sums_;
};

template <class T>
void forward(const MaskLossArguments& a, const Parallel& parallel) {
  const Positives positives(a);
  const int64_t bands = (a.height + kBandRows - 1) / kBandRows;
  std::vector<T> parts(positives.parts());
  std::vector<Band<T>> workspaces(workers_for(parallel, a.batch * bands), Band<T>(a, false));
  for_each_on_worker(parallel, a.batch * bands, [&](int64_t task, int64_t worker) {
    const int64_t picture = task / bands, band = task % bands;
    const std::vector<int64_t> members = positives.meeting(picture, band);
    if (members.empty()) return;
    workspaces[worker].load(positives, members, picture, band);
    for (const int64_t m : members) parts[positives.part(m, band)] = loss_of(workspaces[worker].part(positives[m], m));
  });
  for (int64_t m = 0; m < a.positives; ++m) {
    T sum = 0;
    for (int64_t i = positives.first_part(m); i < positives.first_part(m + 1); ++i) sum += parts[i];
    static_cast<T*>(a.loss)[m] = sum / static_cast<T>(positives[m].area);
  }
}

template <class T>
void backward(const MaskLossArguments& a, const Parallel& parallel) {
  const Positives positives(a);
  const int64_t bands = (a.height + kBandRows - 1) / kBandRows;
  std::vector<T> parts(positives.parts() * a.channels);
  std::vector<Band<T>> workspaces(workers_for(parallel, a.batch * bands), Band<T>(a, true));
  for_each_on_worker(parallel, a.batch * bands, [&](int64_t task, int64_t worker) {
    const int64_t picture = task / bands, band = task % bands;
    const std::vector<int64_t> members = positives.meeting(picture, band);
    Band<T>& workspace = workspaces[worker];
    workspace.clear_gradients();
    if (!members.empty()) workspace.load(positives, members, picture, band);
    for (const int64_t m : members) {
      Part<T> part = workspace.part(positives[m], m);
      part.weight = static_cast<const T*>(a.loss_gradient)[m] / static_cast<T>(positives[m].area);
      differentiate(part, parts.data() + positives.part(m, band) * a.channels);
    }
    workspace.store_gradients(a, picture, band);
  });
  for (int64_t m = 0; m < a.positives; ++m)
    for (int64_t k = 0; k < a.channels; ++k) {
      T sum = 0;
      for (int64_t i = positives.first_part(m); i < positives.first_part(m + 1); ++i) sum += parts[i * a.channels + k];
      store_as<T>(a.coefficient_gradient, m * a.channels + k, a.coefficient_type, sum);
    }
}

}  // namespace

void mask_loss(const MaskLossArguments& a, const Parallel& parallel) {
  a.is_double ? forward<double>(a, parallel) : forward<float>(a, parallel);
}

void mask_loss_backward(const MaskLossArguments& a, const Parallel& parallel) {
  a.is_double ? backward<double>(a, parallel) : backward<float>(a, parallel);
}

}  // namespace yolact::cpu
