// Masks to COCO strings.
#pragma once

#include <cstdint>

#include "parallel.h"
#include "stream.h"

namespace yolact {

struct EncodeRunLengthsArguments {
  const uint8_t* masks;  // [count, height, width], zero or not, element strides below
  int64_t stride[3];
  int64_t count, height, width;  // height * width <= kMaxPixels
  uint8_t* data;                 // [count, capacity], zeros past a row's length
  int64_t capacity;
  int64_t* length;  // [count], 0 where the row overflowed
  int64_t* needed;  // [count]
  int64_t* size;    // [count, 2]
};

namespace cpu {
// One mask [height, width] with strides in elements; returns the bytes that its string needs.
int64_t encode_mask(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y, int64_t stride_x,
                    uint8_t* output, int64_t capacity);
void encode_run_lengths(const EncodeRunLengthsArguments& arguments, const Parallel& parallel);
}  // namespace cpu
namespace cuda {
int64_t encode_run_lengths_workspace(const EncodeRunLengthsArguments& arguments);  // bytes, aligned to 16
void encode_run_lengths(const EncodeRunLengthsArguments& arguments, void* workspace, Stream stream);
}  // namespace cuda

}  // namespace yolact
