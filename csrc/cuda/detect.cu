// Raw outputs of the network to detections: softmax, threshold, decoding, Fast NMS (section 3.4 of the paper), for a
// whole batch.
//
// Launches, none of which waits for the host, and no atomics outside shared memory:
//   screen    a warp four priors. Reads the logits, all of the four at once (kChunks x 32 classes: 12 loads in
//             flight a lane). A prior whose best foreground logit does not lead the background's by the margin that the
//             threshold takes is out, without an exponential; for the few others, eight lanes a prior, the exact
//             softmax and the decoded box.
//   limit     a block a (picture, level), where pre_nms_top_k asks for it: survivors past the best lose their scores.
//   suppress  a block a (picture, class), or a picture across classes: see selection.cuh. Scores are computed again
//             from the logits where they are looked at, so no [classes, priors] matrix exists. Candidates above the
//             threshold are ranked first: a lower one never suppresses a better one. Where a picture keeps enough of
//             them it is done; else, unless second_threshold, the same launch again ranks all.
//   merge     a warp a kept candidate.
// Bytes, for 19248 priors, 80 classes and 1200 survivors: the logits once, 6.2 MB in float32 (1.5 us at the 4.3 TB/s of
// an H200); for each survivor the class's logits again, from L2, 32 bytes each, 3 MB over all blocks; 32 bytes a
// survivor written. Operations: 4 a logit in screen; a class of m candidates takes 2 m^2 comparisons and at most m^2 /
// 2 overlaps of 20 operations: nothing for the tens that are above the threshold, 0.4 M for 200. Where the time should
// go: each launch is a handful of dependent waits for memory (logits, survivor, logit; bits, sum, survivor and logit;
// counts, keys) of about half a microsecond, and the launch itself about one.
#include <cmath>

#include "../common/detect.h"
#include "../common/math.h"
#include "survivors.cuh"

namespace yolact::cuda {
namespace {

constexpr int kRows = 4;               // priors a warp
constexpr int kShare = kWarp / kRows;  // lanes a prior for those that need a softmax
constexpr int kChunks = 3;             // 96 classes at once: the 80 of COCO and background without a second step
constexpr int kScreenBlocks = 4;       // on a multiprocessor: of the 602 for 19248 priors, an H200 holds 528 at once
static_assert(kWarps * kRows == kWord, "a block of screen fills a word of bits");
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Screen {
  FloatView box_deltas, class_logits, priors;
  int64_t count, classes;
  float margin, score_threshold;
  bool across_classes;
  DecodeOptions decode;
  unsigned blocks;      // a picture
  uint32_t* bits;       // [batch, blocks]
  Survivor* survivors;  // [batch, count]
};

__device__ __forceinline__ Box decode_prior(const Screen& s, int64_t picture, int64_t prior) {
  float delta[4], at[4];
  const int64_t row = picture * s.box_deltas.stride[0] + prior * s.box_deltas.stride[1];
  for (int i = 0; i < 4; ++i) {
    delta[i] = load_float(s.box_deltas.data, row + i * s.box_deltas.stride[2], s.box_deltas.type);
    at[i] = load_float(s.priors.data, prior * s.priors.stride[0] + i * s.priors.stride[1], s.priors.type);
  }
  return decode(delta, at, s.decode);
}

// The exact softmax and the box of one prior, by the kShare lanes of a group, each with its `lane` of it.
// The sum is of doubles and rounded once, as on the CPU, so that classes that change places do not change it.
template <FloatType kType>
__device__ __forceinline__ Survivor score(const Screen& s, int64_t picture, int64_t prior, int lane) {
  const int64_t row = picture * s.class_logits.stride[0] + prior * s.class_logits.stride[1];
  const auto logit = [&](int64_t column) {
    return load_float(s.class_logits.data, row + column * s.class_logits.stride[2], kType);
  };
  Survivor survivor{};
  float highest = -kInfinity;  // NaN does not count here, but shows in the sum
  for (int64_t column = lane; column <= s.classes; column += kShare) highest = fmaxf(highest, logit(column));
  for (int distance = 1; distance < kShare; distance *= 2)
    highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, distance));

  double sum = 0.0;
  float most = 0.0f;
  for (int64_t column = lane; column <= s.classes; column += kShare) {
    const float power = exponential(logit(column) - highest);
    sum += static_cast<double>(power);
    if (column > 0) most = fmaxf(most, power);
  }
  for (int distance = 1; distance < kShare; distance *= 2) {
    sum += __shfl_xor_sync(kAllLanes, sum, distance);
    most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, distance));
  }
  survivor.highest = highest;
  survivor.sum = static_cast<float>(sum);
  survivor.best = most / survivor.sum;

  if (s.across_classes) {
    int label = static_cast<int>(s.classes);
    for (int column = static_cast<int>(s.classes) - lane; column > 0; column -= kShare)
      if (exponential(logit(column) - highest) / survivor.sum == survivor.best) label = column - 1;
    for (int distance = 1; distance < kShare; distance *= 2) {
      const int other = __shfl_xor_sync(kAllLanes, label, distance);
      label = other < label ? other : label;
    }
    survivor.label = label;
  }
  survivor.box = decode_prior(s, picture, prior);
  return survivor;
}

template <FloatType kType>
__global__ void __launch_bounds__(kThreads, kScreenBlocks) screen_kernel(Screen s) {
  const unsigned picture = blockIdx.x / s.blocks, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t first = int64_t{blockIdx.x % s.blocks} * kWord + warp * kRows;
  const auto logit = [&](int row, int64_t column) {
    const int64_t prior = first + row < s.count ? first + row : s.count - 1;  // past the last: read in vain
    return load_float(
        s.class_logits.data,
        picture * s.class_logits.stride[0] + prior * s.class_logits.stride[1] + column * s.class_logits.stride[2],
        kType);
  };
  float ahead[kRows][kChunks];
  for (int row = 0; row < kRows; ++row)
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int64_t column = chunk * kWarp + lane;
      ahead[row][chunk] = logit(row, column < s.classes ? column : s.classes);  // past the last: the last, once more
    }
  float background[kRows], best[kRows];
  for (int row = 0; row < kRows; ++row) {
    background[row] = __shfl_sync(kAllLanes, ahead[row][0], 0);
    best[row] = lane == 0 ? -kInfinity : ahead[row][0];
    for (int chunk = 1; chunk < kChunks; ++chunk) best[row] = fmaxf(best[row], ahead[row][chunk]);
  }
  for (int64_t column = kChunks * kWarp + lane; column <= s.classes; column += kWarp)
    for (int row = 0; row < kRows; ++row) best[row] = fmaxf(best[row], logit(row, column));
  unsigned passing = 0;
  for (int row = 0; row < kRows; ++row) {
    const bool leads = !(best[row] - background[row] <= s.margin);  // a NaN passes: the softmax drops it
    if (__any_sync(kAllLanes, leads) && first + row < s.count) passing |= 1u << row;
  }

  unsigned surviving = 0;
  if (passing != 0) {
    const unsigned row = lane / kShare;
    const int64_t prior = first + row < s.count ? first + row : s.count - 1;
    const Survivor survivor = score<kType>(s, picture, prior, lane % kShare);
    const bool survives = (passing >> row & 1) && survivor.best > s.score_threshold && !has_nan(survivor.box);
    if (survives && lane % kShare == 0) s.survivors[picture * s.count + prior] = survivor;
    const bool of_row = __shfl_sync(kAllLanes, survives, lane % kRows * kShare);  // from the first lane of each row
    surviving = __ballot_sync(kAllLanes, of_row && lane < kRows);
  }
  SHARED(unsigned, survivors_of_warp, kWarps);
  if (lane == 0) survivors_of_warp[warp] = surviving;
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned word = 0;
    for (int i = 0; i < kWarps; ++i) word |= survivors_of_warp[i] << i * kRows;
    s.bits[blockIdx.x] = word;
  }
}

// The end of each level among the priors.
struct LevelEnds {
  uint32_t end[kMaxLevels];
};

struct BestScores {
  Survivor* survivors;
  __device__ __forceinline__ float fetch(uint32_t prior) const { return survivors[prior].best; }
  __device__ __forceinline__ Key key(float best, uint32_t prior) const { return key_of(best, prior); }
};

// Takes the scores from all survivors of a level but the pre_nms_top_k of the best scores, ties to the lower prior.
__global__ void __launch_bounds__(kThreads)
    limit_kernel(const uint32_t* bits, Survivor* survivors, int64_t words, int64_t count, LevelEnds levels,
                 unsigned level_count, uint32_t most) {
  SHARED(uint32_t, counter, 1);
  const unsigned picture = blockIdx.x / level_count, level = blockIdx.x % level_count;
  const uint32_t begin = level == 0 ? 0 : levels.end[level - 1], end = levels.end[level];
  bits += picture * words;
  survivors += picture * count;
  const auto every_survivor = [&](const auto& f) { visit_survivors(bits, begin, end, BestScores{survivors}, f); };
  const uint32_t found = collect(every_survivor, 0, static_cast<Key*>(nullptr), 0, counter);
  if (found <= most) return;
  const Key bound = find_bound(every_survivor, most, most);
  every_survivor([&](Key key) {
    if (key < bound) survivors[slot_of(key)].best = survivors[slot_of(key)].sum = NAN;
  });
}

// The candidates of a picture: its survivors in every class, or each in its best.
template <FloatType kType>
struct SurvivorScores {
  const uint32_t* bits;  // [batch, words]
  const Survivor* survivors;
  FloatView logits;
  int64_t words, count;
  bool across_classes;
  Key floor;  // candidates are above it

  struct Group;
  __device__ __forceinline__ Group of(int64_t picture, int64_t group) const {
    return {*this, bits + picture * words, survivors + picture * count,
            picture * logits.stride[0] + (1 + group) * logits.stride[2], static_cast<uint32_t>(group * count)};
  }
};

template <FloatType kType>
struct SurvivorScores<kType>::Group {
  const SurvivorScores& all;
  const uint32_t* bits;
  const Survivor* survivors;
  int64_t logit;   // the class's, of prior 0
  uint32_t first;  // the slot of prior 0

  struct Fetched {
    float best, highest, sum, logit;
  };
  __device__ __forceinline__ Fetched fetch(uint32_t prior) const {
    const Survivor& survivor = survivors[prior];
    return {survivor.best, survivor.highest, survivor.sum,
            load_float(all.logits.data, logit + prior * all.logits.stride[1], kType)};
  }
  __device__ __forceinline__ Key key(const Fetched& of, uint32_t prior) const {
    const float score = all.across_classes ? of.best : exponential(of.logit - of.highest) / of.sum;
    const Key found = key_of(score, first + prior);
    return score == score && found > all.floor ? found : 0;  // NaN: its level had no room for it
  }

  template <class F>
  __device__ __forceinline__ void visit(const F& f) const {
    visit_survivors(bits, 0, static_cast<uint32_t>(all.count), *this, f);
  }

  __device__ __forceinline__ Box box(Key key) const { return survivors[slot_of(key) - first].box; }

  __device__ __forceinline__ Key result_key(Key key) const {
    const uint32_t slot = slot_of(key);
    if (!all.across_classes) return key;
    return key_of(score_of(key), static_cast<uint32_t>(survivors[slot].label * all.count + slot));
  }
};

struct Detected {
  float* boxes;  // [batch, rows, 4]
  int64_t *label, *prior;
  float* score;
  int64_t* kept;  // [batch]
  int64_t rows;
  const Survivor* survivors;
  int64_t count;

  __device__ __forceinline__ void write(int64_t picture, int64_t row, float score_, int64_t label_,
                                        int64_t prior_) const {
    const int64_t at = picture * rows + row;
    const Box box = prior_ < 0 ? Box{0.0f, 0.0f, 0.0f, 0.0f} : survivors[picture * count + prior_].box;
    boxes[4 * at] = box.x1;
    boxes[4 * at + 1] = box.y1;
    boxes[4 * at + 2] = box.x2;
    boxes[4 * at + 3] = box.y2;
    label[at] = label_;
    score[at] = score_;
    prior[at] = prior_;
  }
};

struct Memory {
  Suppression suppression;
  unsigned blocks;          // of screen, a picture
  uint32_t *bits, *counts;  // [batch, blocks], [batch, groups] of the second ranking
  Survivor* survivors;
  int64_t bytes;

  Memory(const DetectArguments& a, void* memory) {
    Workspace workspace(memory);
    suppression = cuda::suppression(workspace, a.options, a.batch, a.classes, a.count);
    blocks = static_cast<unsigned>(blocks_for<int64_t>(a.count, kWord));
    bits = workspace.take<uint32_t>(a.batch * blocks);
    counts = workspace.take<uint32_t>(a.batch * suppression.kept.groups);
    survivors = workspace.take<Survivor>(a.batch * a.count);
    bytes = workspace.bytes();
  }
};

template <FloatType kType>
void screen(const DetectArguments& a, const Memory& memory, Stream stream) {
  Screen s{};
  s.box_deltas = a.box_deltas;
  s.class_logits = a.class_logits;
  s.priors = a.priors;
  s.count = a.count;
  s.classes = a.classes;
  s.margin = safe_margin(a.score_threshold);
  s.score_threshold = a.score_threshold;
  s.across_classes = a.options.across_classes;
  s.decode = a.decode;
  s.blocks = memory.blocks;
  s.bits = memory.bits;
  s.survivors = memory.survivors;
  LAUNCH(screen_kernel<kType>, static_cast<unsigned>(a.batch) * s.blocks, kThreads, 0, stream, s);
}

void limit_levels(const DetectArguments& a, const Memory& memory, Stream stream) {
  LevelEnds ends{};
  uint32_t end = 0;
  for (int64_t level = 0; level < a.levels; ++level)
    ends.end[level] = end += static_cast<uint32_t>(a.level_sizes[level]);
  LAUNCH(limit_kernel, static_cast<unsigned>(a.batch * a.levels), kThreads, 0, stream, memory.bits, memory.survivors,
         memory.blocks, a.count, ends, static_cast<unsigned>(a.levels), static_cast<uint32_t>(a.pre_nms_top_k));
}

template <FloatType kType>
void run(const DetectArguments& a, const Memory& memory, Stream stream) {
  if (a.count > 0) screen<kType>(a, memory, stream);
  if (a.pre_nms_top_k < a.count) limit_levels(a, memory, stream);

  SurvivorScores<kType> source{};
  source.bits = memory.bits;
  source.survivors = memory.survivors;
  source.logits = a.class_logits;
  source.words = memory.blocks;
  source.count = a.count;
  source.across_classes = a.options.across_classes;
  source.floor = above(a.score_threshold);
  Suppression s = memory.suppression;
  suppress(source, s, a.batch, stream);
  if (!a.second_threshold && !a.options.across_classes) {
    source.floor = lowest_key();
    s.earlier_counts = s.kept.counts;
    s.enough = a.options.max_detections;
    s.kept.counts = memory.counts;
    suppress(source, s, a.batch, stream);
  }
  const Detected results{a.boxes,          a.label, a.prior, a.score, a.kept, a.options.max_detections,
                         memory.survivors, a.count};
  merge(s.kept, results, a.batch, a.count, a.options.max_detections, stream);
}

}  // namespace

int64_t detect_workspace(const DetectArguments& a) { return Memory(a, nullptr).bytes; }

void detect(const DetectArguments& a, void* workspace, Stream stream) {
  const Memory memory(a, workspace);
  switch (a.class_logits.type) {
    case FloatType::kFloat32:
      return run<FloatType::kFloat32>(a, memory, stream);
    case FloatType::kFloat16:
      return run<FloatType::kFloat16>(a, memory, stream);
    case FloatType::kBFloat16:
      return run<FloatType::kBFloat16>(a, memory, stream);
  }
}

}  // namespace yolact::cuda
