// What fast_nms and detect share: the best top_k candidates of each group (a class, or all of them together),
// suppression among them (section 3.4 of the paper), and the merging of all groups' lists into the result.
//
// suppress: a block a (picture, group).
//   1. Candidates are listed in shared memory, in whatever order; where they are too many, a bound is found first that
//      few enough reach (a radix select on 64-bit keys, which are unique, so that ties need no thought).
//   2. The best top_k are put in order by counting, for each, the keys above it: m * m comparisons in two barriers cost
//      less than a sort with forty, and suppression takes as many.
//   3. Suppression: a warp a box, a lane a better box, until the first that fells it. The quotient is hardly ever
//      divided out: see `may_stay`.
//   4. The kept keys are written in falling order, the same way as in 2.
// merge: a warp a kept candidate. Its row is the number of kept ones above it, found in each class's list by a search
// from the front: no sort, no block that waits for all others, and any number of rows.
//
// Keys carry the score and the slot, so no slot in a list depends on who came first, and equal scores have their order.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../common/fast_nms.h"
#include "../common/ranking.h"
#include "scan.cuh"
#include "workspace.h"

namespace yolact::cuda {

constexpr int kThreads = 256;  // of every kernel here
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocksAtLeast = 3;  // on a multiprocessor: asked for none, ptxas spills rather than take a 65th register
constexpr uint32_t kShortTopK = 512;   // up to here a block ranks in shared memory, of which it takes 41 KB in all
constexpr uint32_t kShortList = 2048;  // candidates that a block then lists before it ranks

// The kept candidates of each group, best first.
struct KeptLists {
  Key* keys;         // [batch, groups, limit]
  uint32_t* counts;  // [batch, groups]
  int64_t groups, limit;
};

// Where a block ranks more than kShortTopK candidates.
struct LongLists {
  Key *listed, *ranked;  // [batch, groups, top_k]
  Box* boxes;
  float* areas;
};

// How candidates are ranked and suppressed, and the memory for it.
struct Suppression {
  float iou_threshold;
  OverlapOptions overlap;
  bool greedy;
  uint32_t top_k;  // no more than there are boxes
  KeptLists kept;
  LongLists lists;
  // Null, or the counts that a launch with a higher floor left: a picture that has enough by them keeps its lists.
  const uint32_t* earlier_counts;
  int64_t enough;

  bool is_short() const { return top_k <= kShortTopK; }
};

inline Suppression suppression(Workspace& memory, const SuppressionOptions& options, int64_t batch, int64_t classes,
                               int64_t boxes) {
  Suppression s{};
  s.iou_threshold = options.iou_threshold;
  s.overlap = options.overlap;
  s.greedy = options.greedy;
  s.top_k = static_cast<uint32_t>(std::min(options.top_k, boxes));
  s.kept.groups = options.across_classes ? 1 : classes;
  // Across classes the order of equal scores is another in the result: none is left out before.
  s.kept.limit = options.across_classes ? int64_t{s.top_k} : std::min(int64_t{s.top_k}, options.max_detections);
  const int64_t lists = batch * s.kept.groups;
  s.kept.keys = memory.take<Key>(lists * s.kept.limit);
  s.kept.counts = memory.take<uint32_t>(lists);
  if (!s.is_short()) {
    s.lists.listed = memory.take<Key>(lists * s.top_k);
    s.lists.ranked = memory.take<Key>(lists * s.top_k);
    s.lists.boxes = memory.take<Box>(lists * s.top_k);
    s.lists.areas = memory.take<float>(lists * s.top_k);
  }
  return s;
}

// Lists the keys that are at least `bound`, in any order; returns how many those are, of which as many are listed as
// there is room for. visit(f) calls f(key) for every key, each in some thread.
template <class Visit, class Keys>
__device__ __forceinline__ uint32_t collect(const Visit& visit, Key bound, Keys list, uint32_t room,
                                            Shared<uint32_t> count) {
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  visit([&](Key key) {
    if (key < bound) return;
    const uint32_t at = atomicAdd(&count[0], 1u);
    if (at < room) list[at] = key;
  });
  __syncthreads();
  const uint32_t found = count[0];
  __syncthreads();  // the count serves the next call too
  return found;
}

// A bound that at least `wanted` of the visited keys reach, and at most `enough`: the best of them. Digit by digit from
// the top; with unique keys and enough >= wanted the last digit comes down to it at the latest.
template <class Visit>
__device__ __forceinline__ Key find_bound(const Visit& visit, uint32_t wanted, uint32_t enough) {
  constexpr int kBits = 8;
  static_assert(kThreads == 1 << kBits, "a thread a digit");
  SHARED(uint32_t, histogram, kThreads);
  SHARED(uint32_t, chosen, 3);  // a digit, how many keys have a higher one, how many have this one
  const uint32_t digit = kThreads - 1 - threadIdx.x;  // falling, so that sums over threads are from the top
  Key bound = 0;
  uint32_t surely = 0;  // how many keys are above all that begin as the bound does
  for (int shift = 64 - kBits;; shift -= kBits) {
    histogram[digit] = 0;
    __syncthreads();
    visit([&](Key key) {
      if ((key ^ bound) >> shift >> kBits == 0) atomicAdd(&histogram[key >> shift & (kThreads - 1)], 1u);
    });
    __syncthreads();
    const uint32_t here = histogram[digit];
    uint32_t all;
    const uint32_t higher = surely + block_exclusive_sum<kThreads>(here, &all);
    if (higher < wanted && wanted <= higher + here) {
      chosen[0] = digit;
      chosen[1] = higher;
      chosen[2] = here;
    }
    __syncthreads();
    bound |= static_cast<Key>(chosen[0]) << shift;
    surely = chosen[1];
    if (surely + chosen[2] <= enough) return bound;
  }
}

// Calls put(place, key) for each key that is not 0, with its place in falling order.
template <class Keys, class Put>
__device__ __forceinline__ void rank(Keys keys, uint32_t count, const Put& put) {
  for (uint32_t i = threadIdx.x; i < count; i += kThreads) {
    const Key key = keys[i];
    if (key == 0) continue;
    uint32_t place = 0;
    for (uint32_t j = 0; j < count; ++j) place += keys[j] > key;
    put(place, key);
  }
}

// Whether a box stays beside a better one: overlap(...) <= threshold, to the bit, without the division where that is
// clear. A product rounded down is at most the true one, so what is at most the product has a true quotient of at most
// the threshold, and rounding keeps that.
__device__ __forceinline__ bool may_stay(const Box& better, float better_area, const Box& box, float box_area,
                                         const Suppression& s) {
  const Overlap found = overlap_of(better, better_area, box, box_area, s.overlap);
  if (found.both > 0.0f && found.intersection <= __fmul_rd(s.iou_threshold, found.both)) return true;
  return found.intersection / found.both <= s.iou_threshold;
}

// The work of one block: `candidates` are those of its group, `list` is the group's number among all pictures'.
//   candidates.visit(f)        calls f(key) for every candidate, each in some thread
//   candidates.box(key)        its box
//   candidates.result_key(key) the key that orders the result
template <class Candidates, class Keys, class Boxes, class Areas>
__device__ __forceinline__ void suppress_group(const Candidates& candidates, const Suppression& s, int64_t list,
                                               Keys listed, uint32_t room, Keys ranked, Boxes boxes, Areas areas) {
  SHARED(uint32_t, counter, 1);
  const auto every_candidate = [&](const auto& f) { candidates.visit(f); };
  Key bound = 0;
  uint32_t count;
  while ((count = collect(every_candidate, bound, listed, room, counter)) > room)
    bound = find_bound(every_candidate, s.top_k, room);
  const auto every_listed = [&](const auto& f) {
    for (uint32_t i = threadIdx.x; i < count; i += kThreads) f(listed[i]);
  };
  bound = count > s.top_k ? find_bound(every_listed, s.top_k, s.top_k) : 0;
  count = collect(every_listed, bound, ranked, s.top_k, counter);

  const Keys sorted = listed;  // which has served
  rank(ranked, count, [&](uint32_t place, Key key) {
    const Box box = candidates.box(key);
    sorted[place] = key;
    boxes[place] = box;
    areas[place] = area(box, s.overlap.extra);
  });
  __syncthreads();

  const Keys kept = ranked;  // the key, or 0 where the box falls
  if (s.greedy) {
    for (uint32_t i = threadIdx.x; i < count; i += kThreads) kept[i] = candidates.result_key(sorted[i]);
    __syncthreads();
    for (uint32_t i = 0; i < count; ++i) {
      if (kept[i] == 0) continue;
      const Box box = boxes[i];
      const float box_area = areas[i];
      for (uint32_t j = i + 1 + threadIdx.x; j < count; j += kThreads)
        if (!may_stay(box, box_area, boxes[j], areas[j], s)) kept[j] = 0;
      __syncthreads();
    }
  } else {
    const uint32_t warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    for (uint32_t i = warp; i < count; i += kWarps) {
      const Box box = boxes[i];
      const float box_area = areas[i];
      bool stays = true;
      for (uint32_t first = 0; stays && first < i; first += kWarp) {
        const uint32_t j = first + lane;
        stays = __all_sync(kAllLanes, j >= i || may_stay(boxes[j], areas[j], box, box_area, s));
      }
      if (lane == 0) kept[i] = stays ? candidates.result_key(sorted[i]) : 0;
    }
    __syncthreads();
  }

  const int64_t limit = s.kept.limit;
  uint32_t stayed = 0, all;
  rank(kept, count, [&](uint32_t place, Key key) {
    ++stayed;
    if (place < limit) s.kept.keys[list * limit + place] = key;
  });
  block_exclusive_sum<kThreads>(stayed, &all);
  if (threadIdx.x == 0) s.kept.counts[list] = all < limit ? all : static_cast<uint32_t>(limit);
}

// The candidates kept in all groups of a picture.
__device__ __forceinline__ uint32_t count_kept(const uint32_t* counts, int64_t groups) {
  uint32_t mine = 0, all;
  for (int64_t group = threadIdx.x; group < groups; group += kThreads) mine += counts[group];
  block_exclusive_sum<kThreads>(mine, &all);
  return all;
}

// source.of(picture, group) gives the candidates.
template <class Source, bool kIsShort>
__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) suppress_kernel(Source source, Suppression s) {
  const int64_t list = blockIdx.x, first_of_picture = list / s.kept.groups * s.kept.groups;
  if (s.earlier_counts != nullptr && count_kept(s.earlier_counts + first_of_picture, s.kept.groups) >= s.enough) {
    if (threadIdx.x == 0) s.kept.counts[list] = s.earlier_counts[list];
    return;
  }
  const auto candidates = source.of(list / s.kept.groups, list % s.kept.groups);
  if constexpr (kIsShort) {
    SHARED(Key, listed, kShortList);
    SHARED(Key, ranked, kShortTopK);
    SHARED(Box, boxes, kShortTopK);
    SHARED(float, areas, kShortTopK);
    suppress_group(candidates, s, list, listed, kShortList, ranked, boxes, areas);
  } else {
    const int64_t first = list * s.top_k;
    suppress_group(candidates, s, list, s.lists.listed + first, s.top_k, s.lists.ranked + first, s.lists.boxes + first,
                   s.lists.areas + first);
  }
}

template <class Source>
void suppress(const Source& source, const Suppression& s, int64_t batch, Stream stream) {
  const int64_t blocks = batch * s.kept.groups;
  if (s.is_short())
    LAUNCH((suppress_kernel<Source, true>), static_cast<unsigned>(blocks), kThreads, 0, stream, source, s);
  else
    LAUNCH((suppress_kernel<Source, false>), static_cast<unsigned>(blocks), kThreads, 0, stream, source, s);
}

// How many of `count` falling keys are above `key`: from the front in doubling steps, for mostly none is, then back.
__device__ __forceinline__ uint32_t count_above(const Key* keys, uint32_t count, Key key) {
  uint32_t found = 0, step = 1;
  for (; found + step <= count && keys[found + step - 1] > key; step *= 2) found += step;
  while ((step /= 2) > 0)
    if (found + step <= count && keys[found + step - 1] > key) found += step;
  return found;
}

// Of each picture: a warp for each place in the lists, whose candidate goes to its row; then one for each row, which is
// filled where it is past them; and one that counts. The latter look for key 0, which all kept ones are above.
//   results.write(picture, row, score, label, index)
template <class Results>
__global__ void __launch_bounds__(kThreads)
    merge_kernel(KeptLists kept, Results results, int64_t boxes, int64_t rows, unsigned blocks) {
  const unsigned picture = blockIdx.x / blocks, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t place = int64_t{blockIdx.x % blocks} * kWarps + warp, places = kept.groups * kept.limit;
  const Key* keys = kept.keys + picture * places;
  const uint32_t* counts = kept.counts + picture * kept.groups;
  const int64_t row = place - places;
  const bool is_kept = row < 0 && place % kept.limit < counts[place / kept.limit];
  if (row > rows || (row < 0 && !is_kept)) return;

  const Key key = is_kept ? keys[place] : 0;
  uint32_t above = 0;
  for (int64_t group = lane; group < kept.groups; group += kWarp)
    above += count_above(keys + group * kept.limit, counts[group], key);
  for (int distance = kWarp / 2; distance > 0; distance /= 2) above += __shfl_xor_sync(kAllLanes, above, distance);
  if (lane != 0) return;
  if (is_kept) {
    if (above < rows) results.write(picture, above, score_of(key), slot_of(key) / boxes, slot_of(key) % boxes);
  } else if (row < rows) {
    if (row >= above) results.write(picture, row, 0.0f, -1, -1);
  } else {
    results.kept[picture] = above < rows ? above : rows;
  }
}

template <class Results>
void merge(const KeptLists& kept, const Results& results, int64_t batch, int64_t boxes, int64_t rows, Stream stream) {
  const int64_t warps = kept.groups * kept.limit + rows + 1;
  const auto blocks = static_cast<unsigned>(blocks_for<int64_t>(warps, kWarps));
  LAUNCH((merge_kernel<Results>), static_cast<unsigned>(batch) * blocks, kThreads, 0, stream, kept, results, boxes,
         rows, blocks);
}

}  // namespace yolact::cuda
