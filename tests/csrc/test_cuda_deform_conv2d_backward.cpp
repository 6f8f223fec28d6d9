// csrc/cuda/deform_conv2d_backward.cu under simt gives what plain loops in double do, in every order of threads and
// blocks; and where sums round, the same bits in all of them but for what is asked to be fast instead.
#include <cstdio>
#include <set>

#include "check.h"
#include "deform_conv2d_case.h"
#include "schedules.h"

namespace yolact {
namespace {

constexpr int kInput = 1, kOffset = 2, kMask = 4, kDeterministic = 8;

std::vector<double> results_of(const DeformConv2dCase& c, int asked) {
  return c.results(
      asked, [](auto&&...) {},
      [](const auto& a, int64_t first, int64_t count, const void* gradients) {
        cuda::deform_conv2d_columns_backward(a, first, count, gradients, nullptr);
      });
}

void compare(uint32_t seed, int asked, const DeformConv2dShape* shape = nullptr) {
  const DeformConv2dCase c(seed, shape);
  const auto expected = c.expected(asked);
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    const auto found = results_of(c, asked);
    const size_t columns = c.count * c.taps() * c.arguments.channels;  // which are not written here
    const bool same = std::equal(found.begin() + columns, found.end(), expected.begin() + columns, expected.end());
    if (!same) std::fprintf(stderr, "seed %u, %d, order %d %d:\n", seed, asked, order.order, order.switch_at_atomics);
    CHECK(same);
  }
}

// How many results the orders give, of numbers whose sums round.
size_t distinct(int asked) {
  DeformConv2dShape shape{2, 9, 10, 2, 2, 24, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
  const DeformConv2dCase c(2, &shape, false);
  std::set<std::vector<double>> found;
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    found.insert(results_of(c, asked));
  }
  return found.size();
}

}  // namespace
}  // namespace yolact

int main() {
  using namespace yolact;
  for (uint32_t seed = 0; seed < 32; ++seed) compare(seed, static_cast<int>(seed % 16));
  CHECK(distinct(kOffset | kMask) == 1);
  CHECK(distinct(kInput | kOffset | kMask | kDeterministic) == 1);
  CHECK(distinct(kInput) > 1);
  return failures() != 0;
}
