// COCO draws a polygon on a grid five times as fine: each edge is a line of points, one a step along its longer
// axis, and wherever the line crosses the centre of a column of pixels, the pixels below change. pycocotools walks
// over all points; here only those beside a column's centre are computed, by the same expressions in double, so
// that the work is a column an edge whatever its length.
#include "polygons.h"

#include <algorithm>
#include <cmath>

namespace yolact::cpu {
namespace {

constexpr int64_t kScale = 5;

// The point beside which a line crosses from one side of column `x`'s centre to the other has u = 5 x + 2.
constexpr int64_t centre(int64_t x) { return kScale * x + 2; }

// Rounds to the fine grid; towards zero below -0.5, as a cast does.
int64_t to_grid(double value) { return static_cast<int64_t>(value + .5); }

// The first row whose pixel lies below fine row `v`: the whole part of (v + 0.5) / 5 - 0.5, rounded up, in the picture.
// In whole numbers it is the same: that is no whole number but for v = 5 y + 2, where no rounding disturbs it.
int64_t row_below(int64_t v, int64_t height) { return v <= 2 ? 0 : std::min((v + 2) / kScale, height); }

struct Point {
  int64_t u, v;
};

// Calls change(x, v) for every column x of the picture whose centre an edge crosses, at fine row v.
template <class Change>
void cross(Point from, Point to, int64_t width, Change change) {
  const int64_t du = std::abs(to.u - from.u), dv = std::abs(to.v - from.v);
  const bool flat = du >= dv;
  if (flat ? from.u > to.u : from.v > to.v) std::swap(from, to);  // along the longer axis

  const int64_t left = std::min(from.u, to.u), right = std::max(from.u, to.u);
  const int64_t first = left <= centre(0) ? 0 : (left - centre(0) + kScale - 1) / kScale;
  const int64_t end = right <= centre(0) ? 0 : std::min(width, (right - centre(0) + kScale - 1) / kScale);
  if (first >= end) return;
  if (flat) {
    const double slope = static_cast<double>(to.v - from.v) / static_cast<double>(du);
    const auto v = [&](int64_t t) { return to_grid(static_cast<double>(from.v) + slope * static_cast<double>(t)); };
    for (int64_t x = first; x < end; ++x) {
      const int64_t t = centre(x) - from.u;
      change(x, std::min(v(t), v(t + 1)));
    }
  } else {
    const double slope = static_cast<double>(to.u - from.u) / static_cast<double>(dv);
    const auto u = [&](int64_t t) { return to_grid(static_cast<double>(from.u) + slope * static_cast<double>(t)); };
    for (int64_t x = first; x < end; ++x) {
      // The step t at whose end the line is on the other side: solved for, then settled by the expression itself.
      const auto beyond = [&](int64_t t) { return slope > 0 ? u(t) > centre(x) : u(t) <= centre(x); };
      int64_t t = static_cast<int64_t>((static_cast<double>(centre(x) - from.u) + .5) / slope);
      t = std::min(std::max(t, int64_t{0}), dv - 1);
      while (t > 0 && beyond(t)) --t;
      while (t < dv - 1 && !beyond(t + 1)) ++t;
      if (beyond(t + 1) && !beyond(t)) change(x, from.v + t);
    }
  }
}

}  // namespace

std::vector<uint32_t> polygon_flips(const double* vertices, int64_t vertex_count, int64_t height, int64_t width) {
  const auto point = [&](int64_t i) {
    return Point{to_grid(kScale * vertices[2 * i]), to_grid(kScale * vertices[2 * i + 1])};
  };
  struct Change {
    int64_t x;
    uint32_t flip;
  };
  std::vector<Change> changes;
  int64_t left = width, right = 0;  // the columns that have any
  for (int64_t i = 0; i < vertex_count; ++i)
    cross(point(i), point((i + 1) % vertex_count), width, [&](int64_t x, int64_t v) {
      left = std::min(left, x);
      right = std::max(right, x + 1);
      changes.push_back({x, static_cast<uint32_t>(x * height + row_below(v, height))});
    });
  if (changes.empty()) return {};

  // Sorted by columns, of which each has but few: first how many, then where they begin.
  std::vector<uint32_t> begin(right - left + 1), flips(changes.size());
  for (const Change& change : changes) ++begin[change.x - left + 1];
  for (int64_t x = left; x < right; ++x) begin[x - left + 1] += begin[x - left];
  for (const Change& change : changes) flips[begin[change.x - left]++] = change.flip;  // begin becomes end

  size_t kept = 0, first = 0;  // two changes of one pixel are none
  for (int64_t x = left; x < right; ++x) {
    const size_t last = begin[x - left];
    std::sort(flips.begin() + first, flips.begin() + last);
    for (; first < last; ++first) {
      if (kept > 0 && flips[kept - 1] == flips[first])
        --kept;
      else
        flips[kept++] = flips[first];
    }
  }
  flips.resize(kept);
  return flips;
}

}  // namespace yolact::cpu
