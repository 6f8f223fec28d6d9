// The string codec against a plain reading of its rule, at every capacity, and on strings that are broken.
#include <random>
#include <string>
#include <vector>

#include "../../csrc/common/run_lengths.h"
#include "check.h"

using yolact::RunError;

namespace {

// The rule of the string, one character at a time.
std::string plain_string(const std::vector<uint32_t>& counts) {
  std::string text;
  for (size_t i = 0; i < counts.size(); ++i) {
    int64_t value = static_cast<int64_t>(counts[i]) - (i > 2 ? static_cast<int64_t>(counts[i - 2]) : 0);
    for (bool more = true; more;) {
      int character = value & 31;
      value >>= 5;
      more = character & 16 ? value != -1 : value != 0;
      text.push_back(static_cast<char>(character + (more ? 32 : 0) + 48));
    }
  }
  return text;
}

// The string as write_string makes it with `capacity` bytes, which must not be exceeded by one.
std::string written(const std::vector<uint32_t>& counts, size_t capacity) {
  std::vector<uint8_t> buffer(capacity);  // of exactly this size: the sanitizer sees a byte too many
  const int64_t needed = yolact::write_string(counts.data(), counts.size(), buffer.data(), capacity);
  CHECK(needed == static_cast<int64_t>(plain_string(counts).size()));
  if (needed > static_cast<int64_t>(capacity)) return "";
  return std::string(buffer.begin(), buffer.begin() + needed);
}

RunError read(const std::string& text, int64_t pixels, std::vector<uint32_t>* counts = nullptr) {
  yolact::RunReader reader(reinterpret_cast<const uint8_t*>(text.data()), text.size(), pixels);
  for (int64_t count; reader.next(&count);)
    if (counts) counts->push_back(static_cast<uint32_t>(count));
  return reader.error;
}

void test_round_trips() {
  std::mt19937_64 random(0);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint32_t> counts(random() % 20);
    int64_t pixels = 0;
    for (auto& count : counts) {
      count = static_cast<uint32_t>(random() >> (32 + random() % 33 % 32));
      pixels += count;
    }
    const std::string text = plain_string(counts);
    for (size_t less = 0; less <= 9 && less <= text.size(); ++less)
      CHECK(written(counts, text.size() - less) == (less ? "" : text));
    CHECK(written(counts, text.size() + 20) == text);
    std::vector<uint32_t> again;
    CHECK(read(text, pixels, &again) == RunError::kNone);
    CHECK(again == counts);
    if (!text.empty()) CHECK(read(text, pixels + 1) == RunError::kTooShort);
    if (pixels > 0) CHECK(read(text, pixels - 1) == RunError::kTooLong);
  }
}

void test_known_strings() {
  CHECK(written({3, 5, 3, 5, 100, 1, 2}, 64) == "3530Q3LnL");
  CHECK(written({20}, 64) == "d0");
  CHECK(written({0, 20}, 64) == "0d0");
  CHECK(written({}, 64).empty());
  CHECK(written({0, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0}, 64) == plain_string({0, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0}));
}

void test_flips() {
  uint8_t text[16];
  yolact::RunWriter first(text, sizeof text), last(text, sizeof text), none(text, sizeof text);
  first.flip(0);
  first.flip(1);
  CHECK(first.finish(20) == 4 && std::string(text, text + 4) == "01c0");
  last.flip(19);
  last.flip(20);  // at the end: no trailing 0
  CHECK(last.finish(20) == 3 && std::string(text, text + 3) == "c01");
  CHECK(none.finish(0) == 1 && text[0] == '0');
}

void test_broken_strings() {
  CHECK(read("", 0) == RunError::kNone);
  CHECK(read("", 1) == RunError::kTooShort);
  CHECK(read("d", 20) == RunError::kUnfinished);
  CHECK(read("d0", 19) == RunError::kTooLong);
  CHECK(read("d0", 21) == RunError::kTooShort);
  CHECK(read("/", 20) == RunError::kCharacter);
  CHECK(read("\xff", 20) == RunError::kCharacter);
  CHECK(read("PPPPPPPPPPPPPP0", 20) == RunError::kCharacter);  // more groups than a number has
  CHECK(read("O", 20) == RunError::kNegative);
  CHECK(read("ooooooo", 20) == RunError::kUnfinished);
}

}  // namespace

int main() {
  test_round_trips();
  test_known_strings();
  test_flips();
  test_broken_strings();
  return failures() != 0;
}
