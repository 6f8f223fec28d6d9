// Whole strings beside the reading of one number after the other: good ones, and ones with anything wrong.
#include <random>
#include <string>
#include <vector>

#include "../../csrc/cpu/run_string.h"
#include "check.h"

using yolact::RunError;
using Flips = std::vector<uint32_t>;

namespace {

RunError read_plainly(const std::string& text, int64_t pixels, Flips* flips) {
  yolact::RunReader reader(reinterpret_cast<const uint8_t*>(text.data()), text.size(), pixels);
  int64_t position = 0;
  for (int64_t run; reader.next(&run);) flips->push_back(static_cast<uint32_t>(position += run));
  return reader.error;
}

void check_reading(const std::string& text, int64_t pixels) {
  Flips expected, flips(text.size());  // of exactly this size: the sanitizer sees one too many
  const std::vector<uint8_t> exact(text.begin(), text.end());
  int64_t count = -1;
  const RunError error = read_plainly(text, pixels, &expected);
  CHECK(yolact::cpu::read_flips(exact.data(), exact.size(), pixels, flips.data(), &count) == error);
  flips.resize(count);
  CHECK(flips == expected);
}

// Runs of all lengths, or mostly short ones; some of no pixels.
Flips random_flips(std::mt19937_64& random) {
  Flips flips(random() % 300);
  const unsigned bits = 1 + random() % 20;
  uint64_t position = 0;
  for (uint32_t& flip : flips) {
    position += random() >> (63 - (random() % 8 ? bits / 4 : bits));
    flip = static_cast<uint32_t>(position);
  }
  return flips;
}

std::string write(const Flips& flips, int64_t pixels) {
  std::string text(yolact::cpu::longest_string(flips.size()), '\0');
  text.resize(yolact::cpu::write_flips(flips.data(), flips.size(), pixels, reinterpret_cast<uint8_t*>(text.data()),
                                       static_cast<int64_t>(text.size())));
  return text;
}

void test_good_strings() {
  std::mt19937_64 random(0);
  for (int round = 0; round < 5000; ++round) {
    Flips flips = random_flips(random);
    const int64_t pixels = (flips.empty() ? 0 : flips.back()) + random() % 50;
    const std::string text = write(flips, pixels);
    check_reading(text, pixels);
    Flips again;
    CHECK(read_plainly(text, pixels, &again) == RunError::kNone);
    if (flips.empty() || flips.back() < pixels) flips.push_back(static_cast<uint32_t>(pixels));
    CHECK(again == flips);
  }
}

void test_broken_strings() {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    const Flips flips = random_flips(random);
    int64_t pixels = flips.empty() ? 0 : flips.back();
    std::string text = write(flips, pixels);
    switch (random() % 4) {
      case 0:
        text.resize(random() % (text.size() + 1));
        break;
      case 1:
        text[random() % text.size()] = static_cast<char>(random());
        break;
      case 2:
        text[random() % text.size()] = static_cast<char>(48 + random() % 64);
        break;
      default:
        pixels += static_cast<int64_t>(random() % 3) - 1;
    }
    check_reading(text, pixels);
  }
}

// Numbers of every length, among them such as no mask has, whose sums pass 2**32.
void test_any_numbers() {
  std::mt19937_64 random(2);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    const int longest = 1 + random() % 8;
    for (int count = 1 + random() % 100; count > 0; --count) {
      for (int left = random() % longest; left > 0; --left) text.push_back(static_cast<char>(80 + random() % 32));
      text.push_back(static_cast<char>(48 + random() % 32));
    }
    Flips flips;
    read_plainly(text, yolact::kMaxPixels, &flips);
    check_reading(text, random() % 2 && !flips.empty() ? flips.back() : yolact::kMaxPixels);
  }
}

}  // namespace

int main() {
  test_good_strings();
  test_broken_strings();
  test_any_numbers();
  check_reading("", 0);
  check_reading("", 1);
  check_reading("0", 0);
  return failures() != 0;
}
