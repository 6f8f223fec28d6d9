// uint8 pictures to the normalised input of the network.
#pragma once

#include <cstdint>

#include "parallel.h"
#include "stream.h"

namespace yolact {

struct PreprocessArguments {
  const uint8_t* pictures;  // [batch, height, width, 3], element strides below
  int64_t stride[4];
  int64_t batch, height, width;
  int64_t out_height, out_width;
  float mean[3], std[3];  // in the pictures' channel order, in units of 0..255
  bool round_to_uint8;    // round after resizing, as a resize of uint8 does
  float* output;          // [batch, 3, out_height, out_width]
};

namespace cpu {
void preprocess(const PreprocessArguments& arguments, const Parallel& parallel);
}
namespace cuda {
void preprocess(const PreprocessArguments& arguments, Stream stream);
}

}  // namespace yolact
