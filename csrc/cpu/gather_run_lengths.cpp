// Rows of COCO strings, side by side. Bytes moved: those that count, once.
#include "../common/gather_run_lengths.h"

#include <cstring>

namespace yolact::cpu {

void gather_run_lengths(const GatherRunLengthsArguments& a) {
  RunRecord* records = reinterpret_cast<RunRecord*>(a.output);
  uint8_t* text = a.output + a.count * sizeof(RunRecord);
  int64_t begin = 0;
  for (int64_t row = 0; row < a.count; ++row) {
    const int64_t length = bytes_of(a, row), end = begin + round_to_four(length);
    records[row] = {begin, length, a.needed[row], a.size[2 * row], a.size[2 * row + 1]};
    std::memcpy(text + begin, a.data + row * a.capacity, static_cast<size_t>(length));
    std::memset(text + begin + length, 0, static_cast<size_t>(end - begin - length));
    begin = end;
  }
}

}  // namespace yolact::cpu
