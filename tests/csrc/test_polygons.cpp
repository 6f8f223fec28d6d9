// Polygons against a walk over every point of every edge, the rule as it is told.
#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "../../csrc/cpu/polygons.h"
#include "check.h"

namespace {

std::vector<uint32_t> walked_flips(const std::vector<double>& vertices, int64_t height, int64_t width) {
  const int64_t count = vertices.size() / 2;
  std::vector<int64_t> u, v;
  for (int64_t i = 0; i < count; ++i) {
    const auto grid = [&](int64_t k, int64_t axis) {
      return static_cast<int64_t>(5 * vertices[2 * (k % count) + axis] + .5);
    };
    int64_t u0 = grid(i, 0), v0 = grid(i, 1), u1 = grid(i + 1, 0), v1 = grid(i + 1, 1);
    const int64_t du = std::abs(u1 - u0), dv = std::abs(v1 - v0), steps = std::max(du, dv);
    const bool reversed = du >= dv ? u0 > u1 : v0 > v1;
    if (reversed) std::swap(u0, u1), std::swap(v0, v1);
    for (int64_t k = 0; k <= steps && steps > 0; ++k) {
      const int64_t t = reversed ? steps - k : k;
      if (du >= dv) {
        u.push_back(u0 + t);
        v.push_back(static_cast<int64_t>(v0 + static_cast<double>(v1 - v0) / du * t + .5));
      } else {
        u.push_back(static_cast<int64_t>(u0 + static_cast<double>(u1 - u0) / dv * t + .5));
        v.push_back(v0 + t);
      }
    }
  }
  std::map<uint32_t, bool> odd;  // flips that an odd number of points make
  for (size_t j = 1; j < u.size(); ++j) {
    if (u[j] == u[j - 1]) continue;
    const double x = (std::min(u[j], u[j - 1]) + .5) / 5 - .5;
    if (std::floor(x) != x || x < 0 || x > width - 1) continue;
    const double y = (std::min(v[j], v[j - 1]) + .5) / 5 - .5;
    const auto row = static_cast<int64_t>(std::ceil(std::clamp(y, 0.0, static_cast<double>(height))));
    const auto flip = static_cast<uint32_t>(static_cast<int64_t>(x) * height + row);
    odd[flip] = !odd[flip];
  }
  std::vector<uint32_t> flips;
  for (const auto& [flip, is_odd] : odd)
    if (is_odd) flips.push_back(flip);
  return flips;
}

}  // namespace

int main() {
  std::mt19937 random(0);
  for (int round = 0; round < 5000; ++round) {
    const int64_t height = 1 + random() % 60, width = 1 + random() % 60;
    std::vector<double> vertices(2 * (1 + random() % 8));
    const double reach[] = {3, 60, 400};
    std::uniform_real_distribution<double> place(random() % 2 ? 0 : -30, reach[random() % 3]);
    const int fraction = 1 << random() % 4;  // whole numbers, halves and so on fall upon the grid's ties
    const bool rounded = random() % 2;
    for (double& value : vertices) {
      value = place(random);
      if (rounded) value = std::round(value * fraction) / fraction;
    }
    if (random() % 4 == 0) vertices[vertices.size() - 1] = vertices[1];
    CHECK(yolact::cpu::polygon_flips(vertices.data(), vertices.size() / 2, height, width) ==
          walked_flips(vertices, height, width));
  }
  const double far[] = {-1e14, -1e14, 1e14, -1e14, 1e14, 1e14, -1e14, 1e14};
  // Around the whole picture: what ends a column begins the next, only the first flip and the last remain.
  CHECK(yolact::cpu::polygon_flips(far, 4, 10, 10) == std::vector<uint32_t>({0, 100}));
  return failures() != 0;
}
