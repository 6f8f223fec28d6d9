#include "assemble.h"

#include <algorithm>

#include "../common/math.h"

namespace yolact::cpu {
namespace {

int64_t round_up(int64_t value) { return (value + kLanes - 1) / kLanes * kLanes; }

// `count` elements, `stride` apart from element `from` on, as floats side by side.
YOLACT_INLINE void convert(const void* data, FloatType type, int64_t from, int64_t stride, int64_t count, float* to) {
  const auto each = [&](const auto* elements, auto&& widen) {
    if (stride == 1) {  // of which the compiler makes wide loads
      for (int64_t i = 0; i < count; ++i) to[i] = widen(elements[from + i]);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = widen(elements[from + i * stride]);
    }
  };
  if (type == FloatType::kFloat16) {
    each(static_cast<const uint16_t*>(data), [](uint16_t v) { return half_to_float(v); });
  } else if (type == FloatType::kBFloat16) {
    each(static_cast<const uint16_t*>(data), [](uint16_t v) { return bfloat16_to_float(v); });
  } else {
    each(static_cast<const float*>(data), [](float v) { return v; });
  }
}

YOLACT_INLINE void activate(float (&values)[kLanes]) {
  for (float& value : values) value = sigmoid(value);
}

template <class Lanes, int kChannels>  // 0: any
YOLACT_INLINE Lanes products(const float* pixel, const float* coefficients, int64_t channels) {
  if (kChannels) channels = kChannels;
  const int64_t whole = channels / kLanes * kLanes;
  Lanes sum{};
#pragma GCC unroll 2
  for (int64_t k = 0; k < whole; k += kLanes)
    sum = sum + load_lanes<Lanes>(pixel + k) * load_lanes<Lanes>(coefficients + k);
  if (whole < channels)
    sum = sum + load_lanes<Lanes>(pixel + whole, channels - whole) * load_lanes<Lanes>(coefficients + whole);
  return sum;
}

// The low-resolution mask of a window of prototypes whose channels lie side by side: sixteen pixels at a time, each the
// sum of sixteen partial sums over the channels.
template <class Lanes, int kChannels>
YOLACT_INLINE void window_of_pixels(const float* pixels, int64_t inner_stride, int64_t outer_stride, int64_t inner,
                                    int64_t outer, const float* coefficients, int64_t channels, bool with_sigmoid,
                                    float* out, int64_t out_stride) {
  for (int64_t i = 0; i < inner; i += kLanes) {
    for (int64_t o = 0; o < outer; ++o) {
      const float* first = pixels + o * outer_stride + i * inner_stride;
      const int64_t last = std::min<int64_t>(inner - i, kLanes) - 1;
      Lanes terms[kLanes];
      if (last == kLanes - 1) {
#pragma GCC unroll 16
        for (int lane = 0; lane < kLanes; ++lane)
          terms[lane] = products<Lanes, kChannels>(first + lane * inner_stride, coefficients, channels);
      } else {
        for (int lane = 0; lane < kLanes; ++lane)
          terms[lane] =
              products<Lanes, kChannels>(first + std::min<int64_t>(lane, last) * inner_stride, coefficients, channels);
      }
      float values[kLanes];
      store_lanes(values, sum_each(terms));
      if (with_sigmoid) activate(values);
      std::memcpy(out + o * out_stride + i, values, (last + 1) * sizeof(float));
    }
  }
}

template <int kBytes>
YOLACT_INLINE void window_from_pixels(const float* pixels, int64_t inner_stride, int64_t outer_stride, int64_t inner,
                                      int64_t outer, const float* coefficients, int64_t channels, bool with_sigmoid,
                                      float* out, int64_t out_stride) {
  if (channels == 32) {  // every published model's
    window_of_pixels<Lanes<kBytes>, 32>(pixels, inner_stride, outer_stride, inner, outer, coefficients, channels,
                                        with_sigmoid, out, out_stride);
  } else {
    window_of_pixels<Lanes<kBytes>, 0>(pixels, inner_stride, outer_stride, inner, outer, coefficients, channels,
                                       with_sigmoid, out, out_stride);
  }
}

// The same for prototypes whose columns lie side by side, a plane a channel: sixteen columns at a time, added up in
// the same order. `row0` is column 0 of the window's first row, of which `width` columns may be read.
template <int kBytes>
YOLACT_INLINE void window_from_planes(const float* row0, int64_t row_stride, int64_t channel_stride, int64_t width,
                                      Span x, int64_t rows, const float* coefficients, int64_t channels,
                                      bool with_sigmoid, float* out, int64_t out_x_stride, int64_t out_y_stride) {
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t i = x.begin; i < x.end; i += kLanes) {
      // The last columns are computed with some before them, so that no load leaves the row.
      const int64_t from = std::max<int64_t>(0, std::min<int64_t>(i, width - kLanes));
      const float* columns = row0 + y * row_stride + from;
      Lanes<kBytes> terms[kLanes];
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        Lanes<kBytes> sum{};
        for (int64_t k = lane; k < channels; k += kLanes) {
          const float* plane = columns + k * channel_stride;
          sum = sum + (width < kLanes ? load_lanes<Lanes<kBytes>>(plane, width) : load_lanes<Lanes<kBytes>>(plane)) *
                          coefficients[k];
        }
        terms[lane] = sum;
      }
      float values[kLanes];
      store_lanes(values, sum_across(terms));
      if (with_sigmoid) activate(values);
      const int64_t end = std::min<int64_t>(i + kLanes, x.end);
      for (int64_t column = i; column < end; ++column)
        out[(column - x.begin) * out_x_stride + y * out_y_stride] = values[column - from];
    }
  }
}

// The same for a single plane, as masks of low resolution are: nothing to add up. Where rows of it become columns, a
// few columns at a time, which the cache holds until they are full.
YOLACT_INLINE void window_from_plane(const float* plane, int64_t x_stride, int64_t y_stride, int32_t columns,
                                     int64_t rows, float coefficient, bool with_sigmoid, float* out,
                                     int64_t out_x_stride, int64_t out_y_stride) {
  const auto copy = [&](int64_t y, Span x, int64_t from, int64_t to) {
    for (int64_t i = x.begin; i < x.end; ++i) {
      const float value = plane[y * y_stride + i * from] * coefficient;
      out[y * out_y_stride + i * to] = with_sigmoid ? sigmoid(value) : value;
    }
  };
  if (x_stride == 1 && out_x_stride == 1) {  // of which the compiler makes wide loads and stores
    for (int64_t y = 0; y < rows; ++y) copy(y, {0, columns}, 1, 1);
    return;
  }
  for (int32_t begin = 0; begin < columns; begin += kLanes)
    for (int64_t y = 0; y < rows; ++y) copy(y, {begin, std::min(begin + kLanes, columns)}, x_stride, out_x_stride);
}

// Which lines and columns of a canvas hold values that may not lie below.
YOLACT_INLINE void find_lit(const Canvas& canvas, int32_t lines, int32_t columns, float below, Span* outer,
                            Span* inner) {
  *outer = {lines, 0};
  *inner = {columns, 0};
  for (int32_t line = 0; line < lines; ++line) {
    const float* values = canvas.values + line * canvas.stride;
    int32_t lit = 0;
    for (int32_t i = 0; i < columns; ++i) lit |= !(values[i] < below);
    if (!lit) continue;
    *outer = {std::min(outer->begin, line), line + 1};
    int32_t begin = 0, end = columns;
    while (begin < inner->begin && values[begin] < below) ++begin;
    while (end > inner->end && values[end - 1] < below) --end;
    *inner = {begin, end};
  }
}

// Cuts an axis down to the pixels that lie between values of the canvas of which one is lit.
void narrow(const Grid& grid, Span lit, Cut* cut) {
  const int32_t begin = cut->canvas.begin + lit.begin - 1, end = cut->canvas.begin + lit.end;
  cut->output = intersection(cut->output, {grid.first[std::max(begin, 0)], grid.first[end]});
  if (!cut->output.empty()) cut->canvas = {grid.index0[cut->output.begin], grid.index1[cut->output.end - 1] + 1};
}

// Whether both stretch the same pixels over as many.
bool same(const Axis& a, const Axis& b) { return a.begin == b.begin && a.extent == b.extent && a.output == b.output; }

}  // namespace

Grid::Grid(const Axis& of) : axis(of) {
  const int64_t padded = axis.output + kLanes;
  index0.resize(axis.output);
  index1.resize(axis.output);
  weight0.resize(padded);
  weight1.resize(padded);
  first.assign(axis.extent + 1, axis.output);
  if (axis.extent == 0) return;
  int32_t next = 0;
  for (int32_t i = 0; i < axis.output; ++i) {
    const Tap t = tap(i, axis);
    index0[i] = t.index0;
    index1[i] = t.index1;
    weight0[i] = t.weight0;
    weight1[i] = t.weight1;
    while (next <= t.index0) first[next++] = i;
  }
}

Assembler::Assembler(const AssembleArguments& a, Inner inner, const Parallel& parallel)
    : arguments_(a), inner_(inner), prototypes_(static_cast<const float*>(a.prototypes)) {
  pictures_.reserve(a.batch);
  const auto grid = [&](const Axis& axis, const Grid* last) -> const Grid& {
    return last && same(last->axis, axis) ? *last : grids_.emplace_back(axis);
  };
  for (int64_t b = 0; b < a.batch; ++b) {
    const int64_t* size = a.sizes + b * a.size_stride;
    const Picture* last = b > 0 ? &pictures_[b - 1] : nullptr;
    pictures_.push_back({grid(axis_of(a, b, false, size[1]), last ? &last->x : nullptr),
                         grid(axis_of(a, b, true, size[0]), last ? &last->y : nullptr)});
    const int64_t x = pictures_[b].x.axis.extent, y = pictures_[b].y.axis.extent;
    const int64_t canvas = inner == Inner::kX ? y * round_up(x + 1) : x * round_up(y + 1);
    tallest_ = std::max<int64_t>(tallest_, pictures_[b].y.axis.output);
    workspace_size_ = std::max(workspace_size_, round_up(a.channels) + canvas + kLanes);
  }

  std::copy_n(a.prototype_stride, 4, stride_);
  const bool channels_last = a.channels > 1 && stride_[3] == 1;
  if (a.prototype_type == FloatType::kFloat32 && (a.channels == 1 || channels_last || stride_[2] == 1)) return;
  const int64_t row = a.width * a.channels;
  const int64_t to[4] = {a.height * row, row, channels_last ? a.channels : 1, channels_last ? 1 : a.width};
  const int64_t outer = channels_last ? 2 : 3;  // of the axes within a row
  const int64_t lines = channels_last ? a.width : a.channels, line = row / lines;
  converted_.reset(new float[a.batch * to[0]]);
  for_each(parallel, a.batch * a.height, [&](int64_t i) {
    const int64_t from = i / a.height * a.prototype_stride[0] + i % a.height * a.prototype_stride[1];
    for (int64_t j = 0; j < lines; ++j)
      at_level<convert>(a.prototypes, a.prototype_type, from + j * a.prototype_stride[outer],
                        a.prototype_stride[5 - outer], line, converted_.get() + i * row + j * line);
  });
  prototypes_ = converted_.get();
  std::copy_n(to, 4, stride_);
}

bool Assembler::cut(int64_t b, int64_t d, Cut* x, Cut* y) const {
  const AssembleArguments& a = arguments_;
  if (a.count && d >= a.count[b]) return false;
  const float* box = a.boxes + (b * a.detections + d) * 4;
  *x = cut_axis(a, pictures_[b].x.axis, box[0], box[2]);
  *y = cut_axis(a, pictures_[b].y.axis, box[1], box[3]);
  return !x->output.empty() && !y->output.empty();
}

Canvas Assembler::fill(int64_t b, int64_t d, const Cut& x, const Cut& y, float* workspace) const {
  const AssembleArguments& a = arguments_;
  const bool inner_is_x = inner_ == Inner::kX;
  const Cut &inner = inner_is_x ? x : y, &outer = inner_is_x ? y : x;
  float* coefficients = workspace;
  const int64_t channels = round_up(a.channels);
  Canvas canvas{workspace + channels, round_up(inner.canvas.end - inner.canvas.begin + 1)};
  std::fill_n(workspace, channels + (outer.canvas.end - outer.canvas.begin) * canvas.stride, 0.0f);
  if (x.window.empty() || y.window.empty()) return canvas;

  const int64_t from = b * a.coefficient_stride[0] + d * a.coefficient_stride[1];
  for (int64_t k = 0; k < a.channels; ++k)
    coefficients[k] = load_float(a.coefficients, from + k * a.coefficient_stride[2], a.coefficient_type);

  const Picture& picture = pictures_[b];
  const float* row0 = prototypes_ + b * stride_[0] + (picture.y.axis.begin + y.window.begin) * stride_[1];
  const int64_t inner_size = inner.window.end - inner.window.begin, outer_size = outer.window.end - outer.window.begin;
  float* window = canvas.values + (outer.window.begin - outer.canvas.begin) * canvas.stride + inner.window.begin -
                  inner.canvas.begin;
  if (a.channels == 1) {
    const float* plane = row0 + (picture.x.axis.begin + x.window.begin) * stride_[2];
    at_level<window_from_plane>(plane, stride_[2], stride_[1], x.window.end - x.window.begin,
                                y.window.end - y.window.begin, coefficients[0], a.sigmoid, window,
                                inner_is_x ? 1 : canvas.stride, inner_is_x ? canvas.stride : 1);
  } else if (stride_[3] == 1) {
    const float* pixels = row0 + (picture.x.axis.begin + x.window.begin) * stride_[2];
    at_level<YOLACT_WIDTHS(window_from_pixels)>(pixels, stride_[inner_is_x ? 2 : 1], stride_[inner_is_x ? 1 : 2],
                                                inner_size, outer_size, coefficients, a.channels, a.sigmoid, window,
                                                canvas.stride);
  } else {
    const int32_t begin = picture.x.axis.begin;
    at_level<YOLACT_WIDTHS(window_from_planes)>(row0, stride_[1], stride_[3], a.width,
                                                {begin + x.window.begin, begin + x.window.end},
                                                y.window.end - y.window.begin, coefficients, a.channels, a.sigmoid,
                                                window, inner_is_x ? 1 : canvas.stride, inner_is_x ? canvas.stride : 1);
  }
  return canvas;
}

bool Assembler::draw(int64_t b, int64_t d, Cut* x, Cut* y, float* workspace, Canvas* canvas) const {
  *canvas = fill(b, d, *x, *y, workspace);
  const bool inner_is_x = inner_ == Inner::kX;
  Cut *inner = inner_is_x ? x : y, *outer = inner_is_x ? y : x;
  const Span before_inner = inner->canvas, before_outer = outer->canvas;
  Span lit_inner, lit_outer;
  at_level<find_lit>(*canvas, before_outer.size(), before_inner.size(), margin_of(arguments_.threshold).below,
                     &lit_outer, &lit_inner);
  if (lit_outer.empty()) return false;
  narrow(inner_is_x ? pictures_[b].x : pictures_[b].y, lit_inner, inner);
  narrow(inner_is_x ? pictures_[b].y : pictures_[b].x, lit_outer, outer);
  canvas->values +=
      (outer->canvas.begin - before_outer.begin) * canvas->stride + inner->canvas.begin - before_inner.begin;
  return !x->output.empty() && !y->output.empty();
}

}  // namespace yolact::cpu
