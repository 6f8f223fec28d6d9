// A buffer that shows who writes or reads outside it, with and without sanitizers.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>

// `size` bytes that end where a page ends that nobody may touch; what lies before them, up to the page's begin, holds a
// pattern, as they do themselves until they are written.
class Guarded {
 public:
  explicit Guarded(int64_t size) : size_(size) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    whole_ = (size + kBefore + page - 1) / page * page;
    void* base = mmap(nullptr, whole_ + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base, whole_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    base_ = static_cast<uint8_t*>(base);
    std::memset(base_, kPattern, whole_);
  }
  ~Guarded() { munmap(base_, whole_ + sysconf(_SC_PAGESIZE)); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  template <class T = uint8_t>
  T* data() const {
    return reinterpret_cast<T*>(base_ + whole_ - size_);
  }
  int64_t size() const { return size_; }

  // Whether nobody wrote before the buffer.
  bool intact() const {
    for (int64_t i = 0; i < whole_ - size_; ++i)
      if (base_[i] != kPattern) return false;
    return true;
  }

 private:
  static constexpr uint8_t kPattern = 0xA5;
  static constexpr int64_t kBefore = 64;
  int64_t size_, whole_;
  uint8_t* base_;
};
