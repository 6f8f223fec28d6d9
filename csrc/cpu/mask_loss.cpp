// The loss of assembled masks and its gradients (YOLACT, section 3.3), without ever holding a mask. A task is a band of
// sixteen rows of a picture, which it goes through by tiles of sixteen columns: a tile's prototypes are laid out as
// floats, a row's columns side by side for each channel, whatever their strides and type. Then every positive whose box
// meets the tile has its logits there, their entropies or derivatives, and from these both gradients.
//
// Bytes moved: the prototypes once, and once their gradient. Operations a pixel inside a box: 2 K for the logit and
// about 60 for the entropy; backward 6 K and about 40. Memory: two tiles a thread (64 KB for 32 channels), a row of K
// sixteens for each positive of a picture, and K numbers for each band that a positive has pixels in.
// What makes it fast: only tiles that boxes meet are computed; a tile stays in the nearest caches for all positives; no
// sum goes across lanes but the last.
#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

#include "mask_loss_part.h"

namespace yolact::cpu {
namespace {

template <int kBytes>
YOLACT_INLINE void visit_floats_forward(const Part<float>& part) {
  add_entropies<kBytes>(part);
}
void visit_forward(const Part<float>& part) { at_level<YOLACT_WIDTHS(visit_floats_forward)>(part); }
void visit_forward(const Part<double>& part) { add_entropies<16>(part); }

template <int kBytes>
YOLACT_INLINE void visit_floats_backward(const Part<float>& part) {
  add_gradients<kBytes>(part);
}
void visit_backward(const Part<float>& part) { at_level<YOLACT_WIDTHS(visit_floats_backward)>(part); }
void visit_backward(const Part<double>& part) { add_gradients<16>(part); }

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

// Where a tile lies.
struct Place {
  int64_t picture;
  int32_t top, left;
  int64_t rows, columns;  // that the picture has of it

  Place(const MaskLossArguments& a, int64_t of, int64_t band, int64_t tile)
      : picture(of),
        top(static_cast<int32_t>(band * kBandRows)),
        left(static_cast<int32_t>(tile * kLanes)),
        rows(std::min<int64_t>(a.height - top, kBandRows)),
        columns(std::min<int64_t>(a.width - left, kLanes)) {}
};

// Calls f(index in the tile, index in a tensor of these strides) for every value of a tile, in the tensor's order.
template <class F>
void for_each_value(const MaskLossArguments& a, const Place& place, const int64_t* stride, const F& f) {
  for (int64_t row = 0; row < place.rows; ++row) {
    const int64_t pixels = place.picture * stride[0] + (place.top + row) * stride[1] + place.left * stride[2];
    if (stride[3] == 1) {
      for (int64_t x = 0; x < place.columns; ++x)
        for (int64_t k = 0; k < a.channels; ++k) f(place_of(row, k, a.channels) + x, pixels + x * stride[2] + k);
    } else {
      for (int64_t k = 0; k < a.channels; ++k)
        for (int64_t x = 0; x < place.columns; ++x)
          f(place_of(row, k, a.channels) + x, pixels + x * stride[2] + k * stride[3]);
    }
  }
}

// What a worker needs for its tasks.
template <class T>
struct Workspace {
  struct alignas(64) Line {  // no load of one touches two lines of a cache
    T lanes[kLanes];
  };
  std::vector<Line> prototypes, gradients;  // tiles
  std::vector<Line> sums;                   // of the positives that have pixels in the band
  std::vector<T> coefficients;              // likewise

  static T* numbers(std::vector<Line>& lines) { return reinterpret_cast<T*>(lines.data()); }
};

// Goes through a band's tiles and, in each, through the positives that have pixels there: `visit` adds to the sums of
// each, `sums_each` numbers, and to the tile's gradients; `finish` gets each positive's sums, and `leave` each tile's
// gradients.
template <class T, class Visit, class Finish, class Leave>
void for_each_part(const MaskLossArguments& a, const Positives& positives, int64_t picture, int64_t band,
                   int64_t sums_each, Workspace<T>& w, const Visit& visit, const Finish& finish, const Leave& leave) {
  const std::vector<int64_t> members = positives.meeting(picture, band);
  const int64_t count = static_cast<int64_t>(members.size());
  w.coefficients.resize(count * a.channels);
  w.prototypes.resize(kBandRows * a.channels);
  w.sums.assign(count * sums_each / kLanes, {});
  for (int64_t i = 0; i < count * a.channels; ++i)
    w.coefficients[i] = load_as<T>(
        a.coefficients, members[i / a.channels] * a.coefficient_stride[0] + i % a.channels * a.coefficient_stride[1],
        a.coefficient_type);
  T *const prototypes = w.numbers(w.prototypes), *const gradients = w.numbers(w.gradients),
           *const sums = w.numbers(w.sums);
  for (int64_t tile = 0; tile * kLanes < a.width; ++tile) {
    const Place place(a, picture, band, tile);
    bool is_loaded = false;
    for (int64_t i = 0; i < count; ++i) {
      const Positive& positive = positives[members[i]];
      const Span columns = intersection(positive.x, {place.left, place.left + kLanes});
      if (columns.empty()) continue;
      if (!is_loaded)
        for_each_value(a, place, a.prototype_stride, [&](int64_t to, int64_t from) {
          prototypes[to] = load_as<T>(a.prototypes, from, a.prototype_type);
        });
      is_loaded = true;
      const Span rows = intersection(positive.y, {place.top, place.top + kBandRows});
      const uint8_t* truth =
          a.masks + positive.truth * a.mask_stride[0] + place.top * a.mask_stride[1] + place.left * a.mask_stride[2];
      visit(members[i], Part<T>{prototypes,
                                gradients,
                                w.coefficients.data() + i * a.channels,
                                a.channels,
                                truth,
                                a.mask_stride[1],
                                a.mask_stride[2],
                                {rows.begin - place.top, rows.end - place.top},
                                {columns.begin - place.left, columns.end - place.left},
                                T{0},
                                sums + i * sums_each});
    }
    leave(place);
  }
  for (int64_t i = 0; i < count; ++i) finish(members[i], sums + i * sums_each);
}

template <class T>
void forward(const MaskLossArguments& a, const Parallel& parallel) {
  const Positives positives(a);
  const int64_t bands = (a.height + kBandRows - 1) / kBandRows;
  std::vector<T> parts(positives.parts());
  std::vector<Workspace<T>> workspaces(workers_for(parallel, a.batch * bands));
  for_each_on_worker(parallel, a.batch * bands, [&](int64_t task, int64_t worker) {
    Workspace<T>& w = workspaces[worker];
    for_each_part(
        a, positives, task / bands, task % bands, kBandRows * kLanes, w,
        [&](int64_t, const Part<T>& part) { visit_forward(part); },
        [&](int64_t m, T* sums) { parts[positives.part(m, task % bands)] = sum_by_halves(sums, kBandRows * kLanes); },
        [](const Place&) {});
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
  std::vector<Workspace<T>> workspaces(workers_for(parallel, a.batch * bands));
  for_each_on_worker(parallel, a.batch * bands, [&](int64_t task, int64_t worker) {
    Workspace<T>& w = workspaces[worker];
    w.gradients.resize(kBandRows * a.channels);
    for_each_part(
        a, positives, task / bands, task % bands, a.channels * kLanes, w,
        [&](int64_t m, Part<T> part) {
          part.weight = static_cast<const T*>(a.loss_gradient)[m] / static_cast<T>(positives[m].area);
          visit_backward(part);
        },
        [&](int64_t m, T* sums) {
          T* const gradient = parts.data() + positives.part(m, task % bands) * a.channels;
          for (int64_t k = 0; k < a.channels; ++k) gradient[k] = sum_by_halves(sums + k * kLanes, kLanes);
        },
        [&](const Place& place) {
          const T* const gradients = w.numbers(w.gradients);
          for_each_value(a, place, a.prototype_gradient_stride, [&](int64_t from, int64_t to) {
            store_as<T>(a.prototype_gradient, to, a.prototype_type, gradients[from]);
          });
          std::fill(w.gradients.begin(), w.gradients.end(), typename Workspace<T>::Line{});
        });
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
