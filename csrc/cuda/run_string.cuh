// A block writes a mask's COCO string from the flat indices at which the mask's pixels change (its flips), which come
// in shared memory, ascending, in windows of any size: RunWriter of common/run_lengths.h for a whole block at once.
//
// A thread a flip. It takes the count that ends there, subtracts the one two before (four positions, three of them its
// neighbours'), spells the difference, learns its place from a scan of the lengths, and writes its few bytes. A chunk
// of kThreads flips costs a scan, two barriers and about 40 operations a thread; masks that show objects have a few
// hundred flips, so one or two chunks. Bytes moved: the string, and zeros up to the capacity.
#pragma once

#include "../common/run_lengths.h"
#include "launch.cuh"
#include "scan.cuh"

namespace yolact::cuda {

// Every thread of a block of kThreads (along x) holds one, with the same contents, and makes the same calls:
//
//   RunStringWriter<kThreads> writer(data, capacity);
//   for each window: write the flips; __syncthreads(); writer.append(flips, count);
//   needed = writer.finish(pixels);
template <int kThreads>
class RunStringWriter {
 public:
  __device__ __forceinline__ RunStringWriter(uint8_t* output, int64_t capacity)
      : output_(output), capacity_(capacity) {}

  // The next `count` flips. At its end all threads are done with them: the next ones may be written at once.
  __device__ __forceinline__ void append(Shared<uint32_t> flips, int count) {
    const uint32_t last = position(flips, count - 1), second_last = position(flips, count - 2),
                   third_last = position(flips, count - 3);
    for (int first = 0; first < count; first += kThreads) {
      const int i = first + static_cast<int>(threadIdx.x);
      int characters = 0;
      uint64_t text = 0;
      if (i < count) {
        const int64_t value = difference(position(flips, i), position(flips, i - 1), position(flips, i - 2),
                                         position(flips, i - 3), flips_ + static_cast<uint32_t>(i));
        characters = characters_of(value);
        text = spell(value, characters);
      }
      int all;
      const int before = block_exclusive_sum<kThreads>(characters, &all);
      write(bytes_ + before, text, characters);
      bytes_ += all;
    }
    last_ = last;
    second_last_ = second_last;
    third_last_ = third_last;
    flips_ += static_cast<uint32_t>(count);
  }

  // Ends a mask of `pixels` pixels and returns the bytes that its string needs. What follows the string in the output
  // is set to zero, all of it where the string does not fit.
  __device__ __forceinline__ int64_t finish(uint32_t pixels) {
    if (last_ < pixels || flips_ == 0) {  // a last run that no flip ends, or a mask of no pixels
      const int64_t value = difference(pixels, last_, second_last_, third_last_, flips_);
      const int characters = characters_of(value);
      if (threadIdx.x == 0) write(bytes_, spell(value, characters), characters);
      bytes_ += characters;
    }
    __syncthreads();  // a string that does not fit is overwritten
    fill_zero_from(bytes_ <= capacity_ ? bytes_ : 0);
    return bytes_;
  }

 private:
  // Flip i of this window; those of the windows before it have negative numbers.
  __device__ __forceinline__ uint32_t position(Shared<uint32_t> flips, int i) const {
    return i >= 0 ? flips[i] : i == -1 ? last_ : i == -2 ? second_last_ : third_last_;
  }

  // What the string says of the count that ends at the mask's flip `ordinal`, at p0; the flips before it are p1 to p3.
  static __device__ __forceinline__ int64_t difference(uint32_t p0, uint32_t p1, uint32_t p2, uint32_t p3,
                                                       uint32_t ordinal) {
    return int64_t{p0 - p1} - (ordinal > 2 ? int64_t{p2 - p3} : 0);
  }

  __device__ __forceinline__ void write(int64_t at, uint64_t text, int characters) const {
    for (int i = 0; i < characters; ++i)
      if (at + i < capacity_) output_[at + i] = static_cast<uint8_t>(text >> 8 * i);
  }

  // Eight bytes at a time where they are aligned.
  __device__ __forceinline__ void fill_zero_from(int64_t begin) const {
    const int64_t to_aligned = -reinterpret_cast<intptr_t>(output_ + begin) & 7, all = capacity_ - begin;
    const int64_t head = to_aligned < all ? to_aligned : all, words = (all - head) / 8, tail = (all - head) % 8;
    uint64_t* aligned = reinterpret_cast<uint64_t*>(output_ + begin + head);
    for (int64_t i = threadIdx.x; i < words; i += kThreads) aligned[i] = 0;
    if (threadIdx.x < head) output_[begin + threadIdx.x] = 0;
    if (threadIdx.x < tail) output_[capacity_ - 1 - threadIdx.x] = 0;
  }

  uint8_t* output_;
  int64_t capacity_;
  int64_t bytes_ = 0;   // of the string so far
  uint32_t flips_ = 0;  // so far
  uint32_t last_ = 0, second_last_ = 0, third_last_ = 0;
};

}  // namespace yolact::cuda
