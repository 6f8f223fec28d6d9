// Four words that are stored at once.
#pragma once

#include <cstdint>

namespace yolact::cuda {

struct alignas(16) FourWords {
  uint32_t word[4];
};

}  // namespace yolact::cuda
