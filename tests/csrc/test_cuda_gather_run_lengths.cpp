// csrc/cuda/gather_run_lengths.cu under simt gives the CPU kernel's bytes, and both give the rows back.
#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/common/gather_run_lengths.h"
#include "check.h"
#include "guarded.h"
#include "schedules.h"

namespace yolact {
namespace {

void compare(std::mt19937& random, int64_t count, int64_t capacity) {
  const Guarded data(count * capacity);
  std::vector<int64_t> length(count), needed(count), size(2 * count);
  for (int64_t i = 0; i < count * capacity; ++i) data.data()[i] = static_cast<uint8_t>(48 + random() % 64);
  for (int64_t i = 0; i < count; ++i) {
    length[i] = needed[i] = static_cast<int64_t>(random() % (capacity + 1));
    switch (random() % 8) {
      case 0:
        needed[i] = capacity + 1;  // overflowed, though its length says otherwise
        break;
      case 1:
        length[i] = random() % 2 ? capacity + 1 : -1;
        break;
      case 2:
        length[i] = needed[i] = capacity;
    }
    size[2 * i] = static_cast<int64_t>(random());
    size[2 * i + 1] = static_cast<int64_t>(random());
  }
  GatherRunLengthsArguments a{};
  a.data = data.data();
  a.length = length.data();
  a.needed = needed.data();
  a.size = size.data();
  a.count = count;
  a.capacity = capacity;
  const int64_t bytes = (gathered_size(count, capacity) + 7) / 8 * 8;  // so that the buffer begins at a multiple
  const Guarded expected(bytes);
  a.output = expected.data();
  cpu::gather_run_lengths(a);
  CHECK(expected.intact());
  int64_t last = 0;
  for (int64_t i = 0; i < count; ++i) {
    RunRecord record;
    std::memcpy(&record, expected.data() + i * 40, sizeof record);
    const bool is_good = needed[i] <= capacity && length[i] >= 0 && length[i] <= capacity;
    CHECK(record.length == (is_good ? length[i] : 0) && record.needed == needed[i]);
    CHECK(record.height == size[2 * i] && record.width == size[2 * i + 1]);
    CHECK(record.begin == last);
    CHECK(std::equal(data.data() + i * capacity, data.data() + i * capacity + record.length,
                     expected.data() + count * 40 + record.begin));
    last = (record.begin + record.length + 3) / 4 * 4;
  }
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    const Guarded output(bytes);
    a.output = output.data();
    cuda::gather_run_lengths(a, nullptr);
    CHECK(std::equal(output.data(), output.data() + bytes, expected.data()));  // what neither wrote is the same too
    CHECK(output.intact());
  }
}

}  // namespace
}  // namespace yolact

int main() {
  static_assert(sizeof(yolact::RunRecord) == 40, "yolact/ops/run_lengths.py counts on it");
  std::mt19937 random(0);
  for (const int64_t count : {1, 2, 5, 127, 128, 129, 130, 300})
    for (const int64_t capacity : {1, 4, 7, 64}) yolact::compare(random, count, capacity);
  for (const int64_t capacity : {511, 512, 513, 516, 517, 1030}) yolact::compare(random, 4, capacity);
  return failures() != 0;
}
