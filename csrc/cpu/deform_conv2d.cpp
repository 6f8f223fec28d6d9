// Columns of the modulated deformable convolution (Zhu et al., 2019, section 3.1) and their gradient. Channels lie side
// by side in the input, in columns and in both their gradients, so that a neighbour is a row of lanes; where a tap
// samples is found once for all channels of a slice. What is outside the picture is read from a row of zeros and added
// to a row that nobody reads: there is no branch in a tap.
//
// Forward, a task is a few positions. Bytes moved a channel and tap: four neighbours from the nearest caches, a column
// out; operations: 4 multiplications and 3 additions.
//
// Backward, a task is the range's part of one picture and one slice of its channels, whose neighbours nobody else adds
// to, in the order of the positions: no atomics, and the same bits with any number of threads. A tap needs of its
// channels only the four products of the column's gradient with the neighbours: the gradients of offsets and mask
// follow from them, added up over slices in their order. Operations a channel and tap: 8 for the products, 8 for the
// scatter, which reads and writes four neighbours of the gradient. Memory: four numbers a slice, position and tap.
//
// Float32 and float64: torch's own products of half types, which columns are made for, are slower on CPUs than what
// widening costs.
#include "../common/deform_conv2d.h"

#include <algorithm>
#include <vector>

#include "lanes.h"

namespace yolact::cpu {
namespace {

constexpr int64_t kPositions = 16;      // of a task, forward: enough that drawing it costs nothing
constexpr int64_t kSliceChannels = 64;  // backward: at least two tasks a picture of 128 channels

// Channels of one group of the weights: they lie side by side in columns.
struct Run {
  int64_t begin, count;  // of the slice's channels
  int64_t column;        // where the first of them is in columns, at position 0 and tap 0
};

// Channels of one offset group.
struct Slice {
  int64_t offset_group, channel, channels;
  std::vector<Run> runs;
};

// All channels, at most so many a slice.
std::vector<Slice> slices_of(const DeformConv2dArguments& a, int64_t count, int64_t most) {
  const int64_t of_offsets = a.channels / a.offset_groups, of_weights = a.channels / a.groups;
  std::vector<Slice> slices;
  for (int64_t channel = 0; channel < a.channels;) {
    Slice slice{channel / of_offsets, channel, 0, {}};
    const int64_t end = std::min(channel + most, (slice.offset_group + 1) * of_offsets);
    slice.channels = end - channel;
    while (channel < end) {
      const int64_t group = channel / of_weights, within = channel % of_weights;
      const int64_t length = std::min(end - channel, of_weights - within);
      const int64_t column = group * count * a.kernel[0] * a.kernel[1] * of_weights + within;
      slice.runs.push_back({channel - slice.channel, length, column});
      channel += length;
    }
    slices.push_back(slice);
  }
  return slices;
}

// The positions of a call, and what its tasks share.
template <class T>
struct Columns {
  const DeformConv2dArguments& a;
  int64_t first, count;
  const std::vector<Slice>& slices;
  const T* zeros;  // a row of a slice

  int64_t taps() const { return a.kernel[0] * a.kernel[1]; }
  // From a tap of a position to the next, of one group of the weights.
  int64_t stride() const { return a.channels / a.groups; }
};

// Calls f(tap's index among all of the range, sample) for every tap of the positions [begin, end) of the range.
template <class T, class F>
YOLACT_INLINE void for_each_sample(const Columns<T>& all, int64_t begin, int64_t end, int64_t offset_group,
                                   const F& f) {
  const DeformConv2dArguments& a = all.a;
  const int64_t plane = a.out_height * a.out_width;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t picture = (all.first + i) / plane, pixel = (all.first + i) % plane;
    const int64_t y = pixel / a.out_width, x = pixel % a.out_width;
    int64_t tap = i * all.taps();
    for (int64_t tap_y = 0; tap_y < a.kernel[0]; ++tap_y)
      for (int64_t tap_x = 0; tap_x < a.kernel[1]; ++tap_x, ++tap)
        f(tap, deform_sample<T>(a, picture, y, x, tap_y, tap_x, offset_group));
  }
}

// A sample's four neighbours in `pictures`, from a channel on; `outside` for those that are.
template <class Pointer, class T>
YOLACT_INLINE void find_neighbours(const DeformConv2dArguments& a, const DeformSample<T>& sample, int64_t channel,
                                   Pointer pictures, Pointer outside, Pointer (&found)[4]) {
  const int64_t y = sample.y.low, x = sample.x.low, row = a.width * a.channels;
  const bool top = y >= 0 && y < a.height, bottom = y >= -1 && y < a.height - 1;
  const bool left = x >= 0 && x < a.width, right = x >= -1 && x < a.width - 1;
  const int64_t corner = (sample.picture * a.height + y) * row + x * a.channels + channel;
  found[0] = top && left ? pictures + corner : outside;
  found[1] = top && right ? pictures + (corner + a.channels) : outside;
  found[2] = bottom && left ? pictures + (corner + row) : outside;
  found[3] = bottom && right ? pictures + (corner + row + a.channels) : outside;
}

// The four weights, the mask in them.
template <class T>
YOLACT_INLINE void weigh(const DeformSample<T>& sample, T (&weight)[4]) {
  sample.weigh(weight);
  for (T& each : weight) each *= sample.mask;
}

template <class Lanes, class T>
YOLACT_INLINE void add_lanes(T* to, Lanes lanes) {
  store_lanes(to, load_lanes<Lanes>(to) + lanes);
}

// ---- forward ----

template <class Lanes, class T>
YOLACT_INLINE void interpolate(const T* const (&from)[4], const T (&weight)[4], const Run& run, T* to) {
  const T *const from0 = from[0] + run.begin, *const from1 = from[1] + run.begin;
  const T *const from2 = from[2] + run.begin, *const from3 = from[3] + run.begin;
  int64_t c = 0;
  for (; c + kLanes <= run.count; c += kLanes)
    store_lanes(to + c, load_lanes<Lanes>(from0 + c) * weight[0] + load_lanes<Lanes>(from1 + c) * weight[1] +
                            load_lanes<Lanes>(from2 + c) * weight[2] + load_lanes<Lanes>(from3 + c) * weight[3]);
  for (; c < run.count; ++c)
    to[c] = from0[c] * weight[0] + from1[c] * weight[1] + from2[c] * weight[2] + from3[c] * weight[3];
}

template <class T>
struct Forward {
  const Columns<T>& all;
  int64_t begin, end;  // positions of the range
  T* columns;
};

template <class Lanes, class T>
YOLACT_INLINE void make_column(const Forward<T>& part, const Slice& slice, int64_t tap, const DeformSample<T>& sample) {
  const Columns<T>& all = part.all;
  const T* from[4];
  T weight[4];
  find_neighbours(all.a, sample, slice.channel, static_cast<const T*>(all.a.input), all.zeros, from);
  weigh(sample, weight);
  for (const Run& run : slice.runs)
    interpolate<Lanes>(from, weight, run, part.columns + run.column + tap * all.stride());
}

template <class Lanes, class T>
YOLACT_INLINE void make_columns(const Forward<T>& part) {
  for (const Slice& slice : part.all.slices)
    for_each_sample(part.all, part.begin, part.end, slice.offset_group,
                    [&](int64_t tap, const DeformSample<T>& sample)
                        __attribute__((always_inline)) { make_column<Lanes>(part, slice, tap, sample); });
}

template <int kBytes>
YOLACT_INLINE void make_columns_of_floats(const Forward<float>& part) {
  make_columns<Lanes<kBytes>>(part);
}
void visit(const Forward<float>& part) { at_level<YOLACT_WIDTHS(make_columns_of_floats)>(part); }
void visit(const Forward<double>& part) { make_columns<Lanes<16, double>>(part); }

template <class T>
void forward(const DeformConv2dArguments& a, int64_t first, int64_t count, T* columns, const Parallel& parallel) {
  const std::vector<Slice> slices = slices_of(a, count, a.channels);
  const std::vector<T> zeros(a.channels / a.offset_groups);
  const Columns<T> all{a, first, count, slices, zeros.data()};
  for_each(parallel, (count + kPositions - 1) / kPositions, [&](int64_t task) {
    visit(Forward<T>{all, task * kPositions, std::min(count, (task + 1) * kPositions), columns});
  });
}

// ---- backward ----

// Sums over channels of the column's gradient times: the neighbour (low, low); from it to the next in x, and in y; in
// x once more, between the lower two. Differences first: neighbours are alike.
constexpr int kSums = 4;

template <class Lanes, class T>
YOLACT_INLINE void add_products(Lanes gradient, const Lanes (&value)[4], Lanes (&sum)[kSums]) {
  sum[0] = sum[0] + gradient * value[0];
  sum[1] = sum[1] + gradient * (value[1] - value[0]);
  sum[2] = sum[2] + gradient * (value[2] - value[0]);
  sum[3] = sum[3] + gradient * (value[3] - value[2]);
}

template <class Lanes, class T>
YOLACT_INLINE void add_products(const T* const (&from)[4], const Run& run, const T* gradient, Lanes (&sum)[kSums]) {
  int64_t c = 0;
  Lanes value[4];
  for (; c + kLanes <= run.count; c += kLanes) {
    for (int i = 0; i < 4; ++i) value[i] = load_lanes<Lanes>(from[i] + run.begin + c);
    add_products<Lanes, T>(load_lanes<Lanes>(gradient + c), value, sum);
  }
  if (const int64_t rest = run.count - c) {
    for (int i = 0; i < 4; ++i) value[i] = load_lanes<Lanes>(from[i] + run.begin + c, rest);
    add_products<Lanes, T>(load_lanes<Lanes>(gradient + c, rest), value, sum);
  }
}

template <class Lanes, class T>
YOLACT_INLINE void sum_lanes(const Lanes (&sum)[kSums], T* to) {
  T lanes[kLanes];  // each sum's lanes 0 to 3, one after the other; then of 4 to 7, and so on
  store_lanes(lanes, fold<1>(fold<2>(sum[0], sum[2]), fold<2>(sum[1], sum[3])));
  for (int i = 0; i < kSums; ++i) to[i] = (lanes[i] + lanes[4 + i]) + (lanes[8 + i] + lanes[12 + i]);
}

template <class Lanes, class T>
YOLACT_INLINE void scatter(const T* gradient, const T (&weight)[4], const Run& run, T* const (&to)[4]) {
  T *const to0 = to[0] + run.begin, *const to1 = to[1] + run.begin;
  T *const to2 = to[2] + run.begin, *const to3 = to[3] + run.begin;
  int64_t c = 0;
  for (; c + kLanes <= run.count; c += kLanes) {
    const Lanes lanes = load_lanes<Lanes>(gradient + c);
    add_lanes(to0 + c, lanes * weight[0]);
    add_lanes(to1 + c, lanes * weight[1]);
    add_lanes(to2 + c, lanes * weight[2]);
    add_lanes(to3 + c, lanes * weight[3]);
  }
  for (; c < run.count; ++c) {
    to0[c] += gradient[c] * weight[0];
    to1[c] += gradient[c] * weight[1];
    to2[c] += gradient[c] * weight[2];
    to3[c] += gradient[c] * weight[3];
  }
}

template <class T>
struct Backward {
  const Columns<T>& all;
  const Slice& slice;
  int64_t begin, end;  // positions of the range, all of one picture
  const T* column_gradient;
  T* nowhere;  // what would be added outside the picture
  T* sums;     // [count * taps, kSums], or null
};

template <class Lanes, class T>
YOLACT_INLINE void take_back_column(const Backward<T>& part, int64_t tap, const DeformSample<T>& sample) {
  const DeformConv2dArguments& a = part.all.a;
  const Slice& slice = part.slice;
  const T* const gradient = part.column_gradient + tap * part.all.stride();
  if (part.sums != nullptr) {
    const T* from[4];
    find_neighbours(a, sample, slice.channel, static_cast<const T*>(a.input), part.all.zeros, from);
    Lanes sum[kSums]{};
    for (const Run& run : slice.runs) add_products(from, run, gradient + run.column, sum);
    sum_lanes(sum, part.sums + tap * kSums);
  }
  if (a.input_gradient != nullptr) {
    T* to[4];
    T weight[4];
    find_neighbours(a, sample, slice.channel, static_cast<T*>(a.input_gradient), part.nowhere, to);
    weigh(sample, weight);
    for (const Run& run : slice.runs) scatter<Lanes>(gradient + run.column, weight, run, to);
  }
}

template <class Lanes, class T>
YOLACT_INLINE void take_back(const Backward<T>& part) {
  for_each_sample(part.all, part.begin, part.end, part.slice.offset_group,
                  [&](int64_t tap, const DeformSample<T>& sample)
                      __attribute__((always_inline)) { take_back_column<Lanes>(part, tap, sample); });
}

template <int kBytes>
YOLACT_INLINE void take_floats_back(const Backward<float>& part) {
  take_back<Lanes<kBytes>>(part);
}
void visit(const Backward<float>& part) { at_level<YOLACT_WIDTHS(take_floats_back)>(part); }
void visit(const Backward<double>& part) { take_back<Lanes<16, double>>(part); }

// The gradients of offsets and mask of one sample, of the sums of each slice of its channels.
template <class T>
void finish(const Columns<T>& all, const T* sums, size_t first_slice, size_t end_slice, int64_t tap,
            const DeformSample<T>& sample) {
  const DeformConv2dArguments& a = all.a;
  const int64_t taps = all.taps(), samples = all.count * taps, plane = a.out_height * a.out_width;
  T sum[kSums]{};
  for (size_t slice = first_slice; slice < end_slice; ++slice)
    for (int i = 0; i < kSums; ++i) sum[i] += sums[(static_cast<int64_t>(slice) * samples + tap) * kSums + i];
  const T twist = sum[3] - sum[1];
  const T along_y = sum[2] + sample.x.part * twist, along_x = sum[1] + sample.y.part * twist;
  const int64_t pixel = (all.first + tap / taps) % plane, group = all.slices[first_slice].offset_group;
  const int64_t place = (sample.picture * a.offset_groups + group) * taps + tap % taps;
  if (a.offset_gradient != nullptr) {
    T* const gradient = static_cast<T*>(a.offset_gradient) + 2 * place * plane + pixel;
    gradient[0] = sample.mask * along_y;
    gradient[plane] = sample.mask * along_x;
  }
  if (a.mask_gradient != nullptr)
    static_cast<T*>(a.mask_gradient)[place * plane + pixel] = sum[0] + sample.x.part * sum[1] + sample.y.part * along_y;
}

// Of some positions of the range.
template <class T>
void finish(const Columns<T>& all, const T* sums, int64_t begin, int64_t end) {
  for (size_t first = 0, next = 0; first < all.slices.size(); first = next) {
    const int64_t group = all.slices[first].offset_group;
    while (next < all.slices.size() && all.slices[next].offset_group == group) ++next;
    for_each_sample(all, begin, end, group,
                    [&](int64_t tap, const DeformSample<T>& sample) { finish(all, sums, first, next, tap, sample); });
  }
}

template <class T>
void backward(const DeformConv2dArguments& a, int64_t first, int64_t count, const T* column_gradient,
              const Parallel& parallel) {
  const std::vector<Slice> slices = slices_of(a, count, kSliceChannels);
  const std::vector<T> zeros(kSliceChannels);
  const Columns<T> all{a, first, count, slices, zeros.data()};
  const int64_t plane = a.out_height * a.out_width, samples = count * all.taps();
  const int64_t many = static_cast<int64_t>(slices.size());
  const bool has_sums = a.offset_gradient != nullptr || a.mask_gradient != nullptr;
  std::vector<T> sums(has_sums ? many * samples * kSums : 0);

  const int64_t first_picture = first / plane, pictures = (first + count - 1) / plane - first_picture + 1;
  std::vector<std::vector<T>> nowhere(workers_for(parallel, pictures * many), std::vector<T>(kSliceChannels));
  for_each_on_worker(parallel, pictures * many, [&](int64_t task, int64_t worker) {
    const int64_t begin = (first_picture + task / many) * plane - first;
    visit(Backward<T>{all, slices[task % many], std::max<int64_t>(begin, 0), std::min(begin + plane, count),
                      column_gradient, nowhere[worker].data(),
                      has_sums ? sums.data() + task % many * samples * kSums : nullptr});
  });
  if (!has_sums) return;
  for_each(parallel, (count + kPositions - 1) / kPositions, [&](int64_t task) {
    finish(all, sums.data(), task * kPositions, std::min(count, (task + 1) * kPositions));
  });
}

}  // namespace

void deform_conv2d_columns(const DeformConv2dArguments& a, int64_t first, int64_t count, void* columns,
                           const Parallel& parallel) {
  if (a.is_double) {
    forward(a, first, count, static_cast<double*>(columns), parallel);
  } else {
    forward(a, first, count, static_cast<float*>(columns), parallel);
  }
}

void deform_conv2d_columns_backward(const DeformConv2dArguments& a, int64_t first, int64_t count,
                                    const void* column_gradient, const Parallel& parallel) {
  if (a.is_double) {
    backward(a, first, count, static_cast<const double*>(column_gradient), parallel);
  } else {
    backward(a, first, count, static_cast<const float*>(column_gradient), parallel);
  }
}

}  // namespace yolact::cpu
