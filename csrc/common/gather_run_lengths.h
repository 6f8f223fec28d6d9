// Rows of COCO strings to one piece of memory for the host to read: only the bytes that count, and what is to be known
// of each row.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "parallel.h"
#include "stream.h"

namespace yolact {

// What the piece holds first: one a row.
struct RunRecord {
  int64_t begin, length;  // of its string, in bytes; begins are counted from the end of the records
  int64_t needed, height, width;
};

struct GatherRunLengthsArguments {
  const uint8_t* data;                    // [count, capacity]
  const int64_t *length, *needed, *size;  // [count], [count], [count, 2]
  int64_t count, capacity;
  uint8_t* output;  // [gathered_size]: records, then strings, each from a multiple of four on with zeros up to the next
};

YOLACT_HD int64_t round_to_four(int64_t bytes) { return (bytes + 3) / 4 * 4; }

inline int64_t gathered_size(int64_t count, int64_t capacity) {
  return count * (static_cast<int64_t>(sizeof(RunRecord)) + round_to_four(capacity));
}

// The bytes of a row that count; none where it overflowed, or its length cannot be.
YOLACT_HD int64_t bytes_of(const GatherRunLengthsArguments& a, int64_t row) {
  const int64_t length = a.length[row];
  return length < 0 || length > a.capacity || a.needed[row] > a.capacity ? 0 : length;
}

namespace cpu {
void gather_run_lengths(const GatherRunLengthsArguments& arguments);
}
namespace cuda {
void gather_run_lengths(const GatherRunLengthsArguments& arguments, Stream stream);
}

}  // namespace yolact
