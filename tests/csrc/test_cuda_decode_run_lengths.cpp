// csrc/cuda/decode_run_lengths.cu under simt gives the CPU kernel's masks and errors, in every order of threads and
// blocks, of good strings and of broken ones.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/common/decode_run_lengths.h"
#include "check.h"
#include "guarded.h"
#include "schedules.h"

namespace yolact {
namespace {

struct Row {
  std::string text;
  int64_t needed, size[2];
};

// The rows' masks and errors by both; `errors`, where it is given, is what they must be.
void compare(const std::vector<Row>& rows, int64_t capacity, int64_t height, int64_t width,
             const std::vector<RunError>& errors = {}, int64_t longer = 0) {
  const int64_t count = rows.size(), pixels = height * width;
  const Guarded data(count * capacity);
  std::vector<int64_t> length, needed, size, error(count, -1);
  for (int64_t i = 0; i < count; ++i) {
    std::copy(rows[i].text.begin(), rows[i].text.begin() + std::min<int64_t>(capacity, rows[i].text.size()),
              data.data() + i * capacity);
    length.push_back(static_cast<int64_t>(rows[i].text.size()) + longer);
    needed.push_back(rows[i].needed);
    size.insert(size.end(), rows[i].size, rows[i].size + 2);
  }
  std::vector<uint8_t> masks(count * pixels, 77);
  DecodeRunLengthsArguments a{};
  a.data = data.data();
  a.length = length.data();
  a.needed = needed.data();
  a.size = size.data();
  a.count = count;
  a.capacity = capacity;
  a.height = height;
  a.width = width;
  a.masks = masks.data();
  a.error = error.data();
  cpu::decode_run_lengths(a, serial());
  for (size_t i = 0; i < errors.size(); ++i) CHECK(error[i] == static_cast<int64_t>(errors[i]));

  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    const Guarded own_masks(count * pixels), own_error(8 * count),
        workspace((cuda::decode_run_lengths_workspace(a) + 7) / 8 * 8);
    a.masks = own_masks.data();
    a.error = own_error.data<int64_t>();
    cuda::decode_run_lengths(a, workspace.data(), nullptr);
    CHECK(std::equal(masks.begin(), masks.end(), a.masks));
    CHECK(std::equal(error.begin(), error.end(), a.error));
    CHECK(own_masks.intact() && own_error.intact() && workspace.intact());
  }
}

std::string string_of(const std::vector<uint32_t>& counts) {
  std::string text(7 * counts.size(), 0);
  text.resize(write_string(counts.data(), counts.size(), reinterpret_cast<uint8_t*>(&text[0]), text.size()));
  return text;
}

// Counts that cover `pixels`, long and short ones, and none.
std::vector<uint32_t> random_counts(std::mt19937& random, int64_t pixels) {
  std::vector<uint32_t> counts;
  const uint32_t longest = 1 + static_cast<uint32_t>(random() % (1 + pixels / (1 + random() % 30)));
  for (int64_t left = pixels; left > 0; left -= counts.back())
    counts.push_back(static_cast<uint32_t>(std::min<int64_t>(left, random() % 5 ? 1 + random() % longest : 0)));
  return counts;
}

Row row_of(const std::string& text, int64_t height, int64_t width) {
  return {text, static_cast<int64_t>(text.size()), {height, width}};
}

void test_random() {
  const int64_t edges[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 65, 70};
  std::mt19937 random(0);
  for (int round = 0; round < 24; ++round) {
    const int64_t height = edges[random() % 12], width = edges[round % 12];
    std::vector<Row> rows;
    size_t capacity = 1;
    for (int i = 0; i < 3; ++i) {
      rows.push_back(row_of(string_of(random_counts(random, height * width)), height, width));
      capacity = std::max(capacity, rows.back().text.size());
    }
    compare(rows, capacity + random() % 3, height, width, {RunError::kNone, RunError::kNone, RunError::kNone});
    for (Row& row : rows) {  // a character changed, dropped, or doubled
      const size_t at = random() % row.text.size();
      if (round % 3 == 0) row.text[at] = static_cast<char>(random() % 4 ? 48 + random() % 64 : random() % 256);
      if (round % 3 == 1) row.text.erase(at, 1);
      if (round % 3 == 2) row.text.insert(at, 1, row.text[at]);
    }
    compare(rows, capacity + 1, height, width);
  }
}

// Wider than a block of launch 2, every pixel another run: more numbers than launch 1 reads at a time.
void test_sizes() {
  const int64_t wide = 2048 + 34;  // what is left for the second block is as wide as the masks are high
  std::mt19937 random(1);
  for (const int64_t height : {1, 34}) {
    const std::string text = string_of(random_counts(random, height * wide));
    compare({row_of(text, height, wide)}, text.size(), height, wide, {RunError::kNone});
  }
  const std::string alternating = string_of(std::vector<uint32_t>(40 * 40, 1));
  compare({row_of(alternating, 40, 40), row_of(alternating, 40, 40)}, alternating.size() + 3, 40, 40,
          {RunError::kNone, RunError::kNone});
}

// Each error, alone and before another one, in the first chunk of characters and in a later one.
void test_errors() {
  struct Broken {
    std::string end;  // after runs of one pixel, where 20 pixels are left
    RunError error;
  };
  const Broken list[] = {
      {"", RunError::kTooShort},          {"/", RunError::kCharacter},        {"p", RunError::kCharacter},
      {"\xff", RunError::kCharacter},     {"o", RunError::kUnfinished},       {"oooooo", RunError::kUnfinished},
      {"ooooooo", RunError::kUnfinished}, {"oooooooo", RunError::kCharacter}, {"PPPPPPP0", RunError::kCharacter},
      {"PPPPPP0", RunError::kTooShort},   {"PPPPPPP", RunError::kUnfinished}, {"N", RunError::kNegative},
      {"?", RunError::kTooShort},         {"??", RunError::kTooLong},         {"N/", RunError::kNegative},
      {"/N", RunError::kCharacter},       {"oooooo1", RunError::kTooLong},    {"??o", RunError::kTooLong}};
  for (const int64_t more : {1, 247, 252, 253}) {
    std::vector<Row> rows;
    std::vector<RunError> errors;
    for (const Broken& broken : list) {
      rows.push_back(row_of("111" + std::string(more, '0') + broken.end, more + 23, 1));
      errors.push_back(broken.error);
    }
    compare(rows, more + 20, more + 23, 1, errors);
  }
}

void test_rows() {
  Row good = row_of("d0", 4, 5), overflowed = good, other_height = good, other_width = good;
  overflowed.needed = 4;
  other_height.size[0] = 5;
  other_width.size[1] = 4;
  compare({good, overflowed, other_height, other_width, row_of("", 4, 5)}, 3, 4, 5,
          {RunError::kNone, RunError::kOverflowed, RunError::kOtherSize, RunError::kOtherSize, RunError::kTooShort});
  compare({good}, 2, 4, 5, {RunError::kUnfinished}, 1);   // a length beyond the capacity
  compare({good}, 3, 4, 5, {RunError::kUnfinished}, -3);  // and one below 0
  Row exact = good;
  exact.needed = 2;
  compare({exact}, 2, 4, 5, {RunError::kNone});
}

void test_no_pixels() {
  compare({row_of("0", 0, 5), row_of("", 0, 5), row_of("1", 0, 5), row_of("00", 0, 5)}, 2, 0, 5,
          {RunError::kNone, RunError::kNone, RunError::kTooLong, RunError::kNone});
  compare({row_of("", 5, 0)}, 0, 5, 0, {RunError::kNone});
}

}  // namespace
}  // namespace yolact

int main() {
  yolact::test_random();
  yolact::test_sizes();
  yolact::test_errors();
  yolact::test_rows();
  yolact::test_no_pixels();
  return failures() != 0;
}
