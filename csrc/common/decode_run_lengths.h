// COCO strings to masks of one size.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "parallel.h"
#include "run_lengths.h"
#include "stream.h"

namespace yolact {

struct DecodeRunLengthsArguments {
  const uint8_t* data;                     // [count, capacity]
  const int64_t *length, *needed, *size;   // [count], [count], [count, 2]
  int64_t count, capacity, height, width;  // height * width <= kMaxPixels
  uint8_t* masks;                          // [count, height, width] of 0 and 1; zeros where a row is wrong
  int64_t* error;                          // [count], a RunError
};

// What is wrong with a row before its string is read.
YOLACT_HD RunError check_row(const DecodeRunLengthsArguments& a, int64_t row) {
  if (a.needed[row] > a.capacity) return RunError::kOverflowed;
  if (a.size[2 * row] != a.height || a.size[2 * row + 1] != a.width) return RunError::kOtherSize;
  if (a.length[row] < 0 || a.length[row] > a.capacity) return RunError::kUnfinished;
  return RunError::kNone;
}

namespace cpu {
void decode_run_lengths(const DecodeRunLengthsArguments& arguments, const Parallel& parallel);
}
namespace cuda {
int64_t decode_run_lengths_workspace(const DecodeRunLengthsArguments& arguments);  // bytes, aligned to 8
void decode_run_lengths(const DecodeRunLengthsArguments& arguments, void* workspace, Stream stream);
}  // namespace cuda

}  // namespace yolact
