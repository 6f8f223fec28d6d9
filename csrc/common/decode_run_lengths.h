// COCO strings to masks of one size.
#pragma once

#include <cstdint>

#include "parallel.h"
#include "run_lengths.h"

namespace yolact {

struct DecodeRunLengthsArguments {
  const uint8_t* data;    // [count, capacity]
  const int64_t* length;  // [count]
  int64_t count, capacity, height, width;
  uint8_t* masks;  // [count, height, width] of 0 and 1
};

// The first string that is broken; row is -1 where all are good.
struct BrokenRow {
  int64_t row;
  RunError error;
};

namespace cpu {
BrokenRow decode_run_lengths(const DecodeRunLengthsArguments& arguments, const Parallel& parallel);
}

}  // namespace yolact
