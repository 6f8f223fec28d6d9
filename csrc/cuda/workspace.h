// Divides one piece of memory among arrays. Without memory it only counts, so that an operator's op_workspace() and
// its launcher are one walk over the same arrays.
#pragma once

#include <cstdint>

namespace yolact::cuda {

class Workspace {
 public:
  explicit Workspace(void* memory) : memory_(static_cast<char*>(memory)) {}

  // The next array; null while there is no memory.
  template <class T>
  T* take(int64_t count) {
    constexpr int64_t kAlignment = 16;  // of the widest load
    const int64_t begin = bytes_;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + begin);
  }

  int64_t bytes() const { return bytes_; }

 private:
  char* memory_;
  int64_t bytes_ = 0;
};

}  // namespace yolact::cuda
