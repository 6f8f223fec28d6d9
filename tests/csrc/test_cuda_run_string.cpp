// csrc/cuda/run_string.cuh under simt writes what RunWriter writes, in every order of threads and however the flips are
// cut into windows.
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "../../csrc/cuda/run_string.cuh"
#include "check.h"
#include "schedules.h"

namespace yolact {
namespace {

constexpr int kThreads = 64;
constexpr int64_t kGuard = 16;
constexpr uint8_t kPattern = 0xA5;

// A block a string: each mask's flips, all of its own, in windows of `window`.
__global__ void write_strings(const uint32_t* flips, const int64_t* begins, const uint32_t* pixels, int window,
                              uint8_t* data, int64_t pitch, int64_t capacity, int64_t* needed) {
  const Shared<uint32_t> buffer = dynamic_shared<uint32_t>();
  const int64_t row = blockIdx.x;
  cuda::RunStringWriter<kThreads> writer(data + row * pitch, capacity);
  for (int64_t first = begins[row]; first < begins[row + 1]; first += window) {
    const int count = static_cast<int>(std::min<int64_t>(window, begins[row + 1] - first));
    for (int i = threadIdx.x; i < count; i += kThreads) buffer[i] = flips[first + i];
    __syncthreads();
    writer.append(buffer, count);
  }
  const int64_t bytes = writer.finish(pixels[row]);
  if (threadIdx.x == 0) needed[row] = bytes;
}

struct Problem {
  std::vector<uint32_t> flips, pixels;  // of all masks, one after the other; of each mask
  std::vector<int64_t> begins{0};

  void add(std::vector<uint32_t> positions, uint32_t size) {
    flips.insert(flips.end(), positions.begin(), positions.end());
    begins.push_back(static_cast<int64_t>(flips.size()));
    pixels.push_back(size);
  }
};

// The strings by RunWriter, and that of the kernel on a buffer of guards and garbage, rows `offset` bytes off a word.
void compare(const Problem& problem, int window, int64_t capacity, int64_t offset) {
  const int64_t rows = problem.pixels.size(), pitch = capacity + kGuard;
  std::vector<uint8_t> expected(offset + kGuard + rows * pitch, kPattern), data;
  std::vector<int64_t> expected_needed(rows), needed;
  for (int64_t row = 0; row < rows; ++row) {
    uint8_t* output = &expected[offset + kGuard + row * pitch];
    RunWriter writer(output, capacity);
    for (int64_t i = problem.begins[row]; i < problem.begins[row + 1]; ++i) writer.flip(problem.flips[i]);
    const int64_t bytes = expected_needed[row] = writer.finish(problem.pixels[row]);
    const int64_t length = bytes <= capacity ? bytes : 0;
    std::memset(output + length, 0, capacity - length);
  }
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    data.assign(expected.size(), kPattern);
    needed.assign(rows, -1);
    LAUNCH(write_strings, static_cast<unsigned>(rows), kThreads, window * sizeof(uint32_t), nullptr,
           problem.flips.data(), problem.begins.data(), problem.pixels.data(), window, &data[offset + kGuard], pitch,
           capacity, needed.data());
    CHECK(data == expected);
    CHECK(needed == expected_needed);
  }
}

// Ascending flips whose distances take every number of characters, below `pixels`.
std::vector<uint32_t> random_flips(std::mt19937_64& random, int64_t count, uint32_t pixels) {
  std::vector<uint32_t> flips;
  uint64_t position = random() % 2 ? 0 : random() % 70000;
  for (int64_t i = 0; i < count && position < pixels; ++i) {
    flips.push_back(static_cast<uint32_t>(position));
    position += 1 + (random() >> (32 + random() % 32)) % (pixels / 4 + 1);
  }
  return flips;
}

void test_random() {
  std::mt19937_64 random(0);
  const int windows[] = {1, 2, 3, 4, kThreads - 1, kThreads, kThreads + 1, 2 * kThreads, 300};
  for (int round = 0; round < 18; ++round) {
    Problem problem;
    for (int64_t count : {1, 2, 3, 4, 5, 63, 64, 65, 129}) {
      const uint32_t pixels = round % 2 ? 0xFFFFFFFF : 1 + random() % 100000;
      problem.add(random_flips(random, count, pixels), pixels);
    }
    compare(problem, windows[round % 9], 1 + random() % (round % 3 ? 100 : 1000), round % 8);
  }
}

// One string at every capacity around its length, at every alignment.
void test_capacities() {
  std::mt19937_64 random(1);
  Problem problem;
  problem.add(random_flips(random, 7, 100000), 100000);
  for (int64_t capacity = 1; capacity < 30; ++capacity) compare(problem, 7, capacity, capacity % 8);
  for (int64_t offset = 0; offset < 8; ++offset) compare(problem, 64, 2000, offset);
}

// Masks of no pixels, of zeros, of ones, with a flip at their end, and one that alternates.
void test_edges() {
  Problem problem;
  problem.add({}, 0);
  problem.add({}, 20);
  problem.add({0}, 20);
  problem.add({20}, 20);
  problem.add({0, 20}, 20);
  problem.add({0, 0xFFFFFFFE}, 0xFFFFFFFF);
  problem.add({0xFFFFFFFE}, 0xFFFFFFFF);
  std::vector<uint32_t> every(200);
  for (size_t i = 0; i < every.size(); ++i) every[i] = static_cast<uint32_t>(i);
  problem.add(every, 200);
  for (const int window : {2, 64, 200})
    for (const int64_t capacity : {1, 3, 200, 201}) compare(problem, window, capacity, 0);
}

}  // namespace
}  // namespace yolact

int main() {
  yolact::test_random();
  yolact::test_capacities();
  yolact::test_edges();
  return failures() != 0;
}
