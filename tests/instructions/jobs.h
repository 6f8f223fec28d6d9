// What jobs for callgrind are made of.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

// What callgrind collects: named in C, so that it is found by that name.
extern "C" void counted(const std::function<void()>& kernel);

namespace yolact {

// By name, what runs one; it returns what must not be 0.
using Jobs = std::map<std::string, std::function<int64_t()>>;

Jobs detection_jobs();
Jobs mask_jobs();
Jobs run_length_jobs();
Jobs training_jobs();

// The standard fixes this generator's numbers, but not those of its distributions.
class Random {
 public:
  int64_t below(int64_t limit) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(limit)); }
  float uniform(float low, float high) { return low + (high - low) * static_cast<float>(below(1 << 20)) * 0x1p-20f; }
  std::vector<float> uniform(int64_t count, float low, float high) {
    std::vector<float> values(count);
    for (float& value : values) value = uniform(low, high);
    return values;
  }

 private:
  std::mt19937 engine_{1};
};

// Room for the strings of `count` masks.
struct Strings {
  int64_t count, capacity;
  std::vector<uint8_t> data;
  std::vector<int64_t> length, needed, size;

  Strings(int64_t count, int64_t capacity)
      : count(count), capacity(capacity), data(count * capacity), length(count), needed(count), size(2 * count) {}
};

template <class T>
int64_t sum(const std::vector<T>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

}  // namespace yolact
