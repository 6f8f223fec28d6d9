// The priors of a picture that passed the threshold: a bit each, and what is known of them in an array by prior, which
// holds nothing where the bit is not set. So whoever finds a survivor writes it where it belongs, and nobody counts.
#pragma once

#include "../common/box.h"
#include "../common/ranking.h"
#include "selection.cuh"

namespace yolact::cuda {

// Its score in class c is exponential(logit[1 + c] - highest) / sum.
struct alignas(16) Survivor {
  float best, highest, sum;
  int32_t label;  // its best class, the lower of equals; known across classes only
  Box box;
};

constexpr int kWord = 32;

// The place of bit number n of those that are set.
__device__ __forceinline__ uint32_t place_of_bit(uint32_t word, uint32_t n) {
  uint32_t place = 0;
  for (int width = kWord / 2; width > 0; width /= 2) {
    const uint32_t below = __popc(word >> place & ((1u << width) - 1));
    const bool is_past = n >= below;
    n -= is_past ? below : 0;
    place += is_past ? width : 0;
  }
  return place;
}

constexpr int kWordsEach = 4;  // that a thread counts
constexpr int kTile = kWordsEach * kThreads;

// One piece of shared memory for whatever is done to survivors, one after the other.
__device__ __forceinline__ Shared<uint32_t> survivor_tile() {
  SHARED(uint32_t, tile, 2 * kTile);
  return tile;
}

// Calls f(key) for the survivors within [begin, end) whose key is not 0, each in some thread of the block, and as many
// in one thread as in another: they come in clusters, so their bits are counted and each thread looks for the bit that
// is its own.
//   scores.fetch(prior)         what its key takes from memory: no branch, so that several of a thread's are waited
//                               for together
//   scores.key(fetched, prior)  its key
template <class Scores, class F>
__device__ __forceinline__ void visit_survivors(const uint32_t* words, uint32_t begin, uint32_t end,
                                                const Scores& scores, const F& f) {
  constexpr int kAtOnce = 4;
  using Fetched = decltype(scores.fetch(0));
  const Shared<uint32_t> tile = survivor_tile(), before = tile + kTile;  // survivors of the tile before each word
  for (uint32_t first = begin / kWord; first * kWord < end; first += kTile) {
    uint32_t word[kWordsEach], own = 0, total;
    for (int k = 0; k < kWordsEach; ++k) {
      const uint32_t i = first + threadIdx.x * kWordsEach + k, prior = i * kWord;
      word[k] = prior < end ? words[i] : 0;
      if (prior < begin) word[k] &= ~0u << (begin - prior);
      if (prior < end && end - prior < kWord) word[k] &= ~(~0u << (end - prior));
      own += __popc(word[k]);
    }
    uint32_t count = block_exclusive_sum<kThreads>(own, &total);
    for (int k = 0; k < kWordsEach; ++k) {
      const uint32_t i = threadIdx.x * kWordsEach + k;
      tile[i] = word[k];
      before[i] = count;
      count += __popc(word[k]);
    }
    __syncthreads();
    for (uint32_t n = threadIdx.x; n < total; n += kAtOnce * kThreads) {
      uint32_t prior[kAtOnce];
      Fetched fetched[kAtOnce];
      for (int k = 0; k < kAtOnce; ++k) {
        const uint32_t mine = n + k * kThreads < total ? n + k * kThreads : n;  // past the last: fetched in vain
        uint32_t i = 0;
        for (int step = kTile / 2; step > 0; step /= 2)
          if (before[i + step] <= mine) i += step;
        prior[k] = (first + i) * kWord + place_of_bit(tile[i], mine - before[i]);
        fetched[k] = scores.fetch(prior[k]);
      }
      for (int k = 0; k < kAtOnce; ++k) {
        if (n + k * kThreads >= total) continue;
        const Key key = scores.key(fetched[k], prior[k]);
        if (key != 0) f(key);
      }
    }
  }
}

}  // namespace yolact::cuda
