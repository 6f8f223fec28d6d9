// csrc/cuda/deform_conv2d_backward.cu under simt gives what plain loops in double do, in every order of threads and
// blocks; and where sums round, the same bits in all of them but for what is asked to be fast instead.
#include <cstdio>
#include <set>

#include "check.h"
#include "deform_conv2d_case.h"
#include "schedules.h"

namespace yolact {
namespace {

constexpr int kInput = 1, kOffset = 2, kMask = 4, kAll = 7, kDeterministic = 8;

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
  const DeformConv2dShape shape{1, 4, 5, 1, 2, 8, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
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
  // Each alone and all at once; the input's by atomics and without.
  const int questions[] = {kInput, kOffset, kMask, kAll, kInput | kDeterministic, kAll | kDeterministic};
  for (uint32_t seed = 0; seed < 24; ++seed) compare(seed, questions[seed % 6]);
  // Several tiles, and more samples than a block looks at together; then more channels than it has.
  const DeformConv2dShape tiles{1, 17, 9, 1, 1, 2, {2, 2}, {1, 1}, {1, 1}, {1, 1}};
  compare(100, kInput | kDeterministic, &tiles);
  const DeformConv2dShape slices{1, 2, 3, 2, 1, 272, {1, 2}, {1, 1}, {0, 1}, {1, 1}};
  for (uint32_t seed = 101; seed < 104; ++seed) compare(seed, kAll | kDeterministic, &slices);
  CHECK(distinct(kOffset | kMask) == 1);
  CHECK(distinct(kAll | kDeterministic) == 1);
  CHECK(distinct(kInput) > 1);
  return failures() != 0;
}
