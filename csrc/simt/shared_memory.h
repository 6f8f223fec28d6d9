// A block's shared memory, and who has touched which part of it when: what finds races for certain. A GPU's threads run
// in no order but what barriers make, so two threads at the same byte, one of them to write, with none between is a
// fault even where this run's order gives the right result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "simt.h"

namespace simt {

// The threads that have touched an element and may not all have been waited for. Time counts barriers and __syncwarps.
struct Users {
  uint32_t time = 0;   // of the first of them; what none has touched, at 0
  uint32_t lanes = 0;  // of `warp`, which the first is of
  uint16_t warp = 0;
  bool many_warps = false;
};

class SharedArray {
 public:
  SharedArray(const char* name, size_t element, size_t count)
      : name(name), element(element), data(element * count), written(count), updated(count), read(count) {}

  const std::string name;
  const size_t element;  // bytes that are only touched together
  std::vector<unsigned char> data;
  std::vector<Users> written, updated, read;  // an element each; updated by atomics, which race with all but atomics
};

class SharedMemory {
 public:
  // What every GPU gives a block without being asked; and what the smallest from sm_75 on has for it where a launch
  // asks, as it must for more dynamic shared memory than that.
  static constexpr size_t kUnasked = 48 * 1024, kMaxBytes = 64 * 1024;

  SharedMemory(unsigned threads, size_t dynamic_bytes);

  SharedArray& array(const void* site, const char* name, size_t element, size_t count);
  SharedArray& dynamic() { return dynamic_; }

  // What makes an order: nothing of an earlier block is left; the block's threads have met; lanes of a warp have.
  void begin_block() { block_began_ = last_barrier_ = ++time_; }
  void barrier() { last_barrier_ = ++time_; }
  void sync_warp(unsigned warp, unsigned mask);

  // As simt::access, for a thread, by its number.
  unsigned char* access(SharedArray& array, ptrdiff_t index, size_t size, Access kind, unsigned thread);

 private:
  bool are_over(const Users& users, unsigned thread) const;
  void join(Users& users, unsigned thread) const;

  struct Warp {
    uint32_t seen[warpSize][warpSize] = {};  // [a][b]: all that lane b did before this time, lane a may build on
  };
  std::vector<Warp> warps_;
  std::map<const void*, SharedArray> arrays_;
  SharedArray dynamic_;
  const size_t limit_;
  size_t bytes_;
  uint32_t time_ = 0, block_began_ = 0, last_barrier_ = 0;
};

}  // namespace simt
