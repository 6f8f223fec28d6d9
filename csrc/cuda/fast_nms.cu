// Non-maximum suppression of scored boxes: Fast NMS (section 3.4 of the paper) and the traditional, greedy way.
//
// Launches: across classes, a thread a box finds its best class; then suppress and merge of selection.cuh, a block a
// (picture, class) or a picture.
// Bytes: the scores once where a class has at most kShortList candidates above the threshold; else each digit of the
// radix select reads them again, from L2 as they have just been there: two or three times for 19248 boxes. Boxes are
// read where the score is above the threshold; results are small. Operations: top_k^2 / 2 overlaps of 20 operations a
// class, 0.4 M for top_k 200, over as many multiprocessors as there are classes.
// What makes it fast: two launches and no host in between; nothing is sorted but the few that are ranked; no matrix.
#include "../common/fast_nms.h"
#include "selection.cuh"

namespace yolact::cuda {
namespace {

struct ScoredBoxes {
  const float* boxes;  // [batch, count, 4]
  int64_t box_stride[3];
  const float* scores;  // [batch, groups, count]
  int64_t score_stride[3];
  const int32_t* labels;  // [batch, count] across classes, where a group is no class; else null
  int64_t count;
  Key floor;  // candidates are above it

  struct Group;
  __device__ __forceinline__ Group of(int64_t picture, int64_t group) const;
};

struct ScoredBoxes::Group {
  const ScoredBoxes& all;
  const float *boxes, *scores;
  const int32_t* labels;
  uint32_t first;  // the slot of box 0

  __device__ __forceinline__ Box box_at(int64_t i) const {
    const float* corner = boxes + i * all.box_stride[1];
    const int64_t step = all.box_stride[2];
    return {corner[0], corner[step], corner[2 * step], corner[3 * step]};
  }

  template <class F>
  __device__ __forceinline__ void visit(const F& f) const {
    constexpr int kAtOnce = 8;  // loads that a thread waits for together
    for (int64_t begin = threadIdx.x; begin < all.count; begin += kAtOnce * kThreads) {
      float score[kAtOnce];
      for (int k = 0; k < kAtOnce; ++k) {
        const int64_t i = begin + k * kThreads;
        score[k] = i < all.count ? scores[i * all.score_stride[2]] : NAN;
      }
      for (int k = 0; k < kAtOnce; ++k) {
        const int64_t i = begin + k * kThreads;
        const Key key = key_of(score[k], first + static_cast<uint32_t>(i));
        if (score[k] == score[k] && key > all.floor && !has_nan(box_at(i))) f(key);
      }
    }
  }

  __device__ __forceinline__ Box box(Key key) const { return box_at(slot_of(key) - first); }

  __device__ __forceinline__ Key result_key(Key key) const {
    const uint32_t slot = slot_of(key);
    return labels == nullptr ? key : key_of(score_of(key), static_cast<uint32_t>(labels[slot] * all.count + slot));
  }
};

__device__ __forceinline__ ScoredBoxes::Group ScoredBoxes::of(int64_t picture, int64_t group) const {
  return {*this, boxes + picture * box_stride[0], scores + picture * score_stride[0] + group * score_stride[1],
          labels == nullptr ? nullptr : labels + picture * count, static_cast<uint32_t>(group * count)};
}

// Each box's best score and the class it has it in, the lower one of equals; NaN where every score is NaN.
__global__ void __launch_bounds__(kThreads)
    best_of_classes_kernel(ScoredBoxes a, int64_t batch, int64_t classes, float* best, int32_t* labels) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= batch * a.count) return;
  const float* scores = a.scores + i / a.count * a.score_stride[0] + i % a.count * a.score_stride[2];
  float most = scores[0];
  int32_t label = 0;
  for (int64_t c = 1; c < classes; ++c) {
    const float score = scores[c * a.score_stride[1]];
    if (score > most || most != most) {
      most = score;
      label = static_cast<int32_t>(c);
    }
  }
  best[i] = most;
  labels[i] = label;
}

struct Selected {
  int64_t *index, *label;  // [batch, rows]
  float* score;
  int64_t* kept;  // [batch]
  int64_t rows;

  __device__ __forceinline__ void write(int64_t picture, int64_t row, float score_, int64_t label_,
                                        int64_t index_) const {
    const int64_t at = picture * rows + row;
    index[at] = index_;
    label[at] = label_;
    score[at] = score_;
  }
};

struct Memory {
  Suppression suppression;
  float* best = nullptr;  // [batch, count] across classes
  int32_t* labels = nullptr;
  int64_t bytes;

  Memory(const FastNmsArguments& a, void* memory) {
    Workspace workspace(memory);
    suppression = cuda::suppression(workspace, a.options, a.batch, a.classes, a.count);
    if (a.options.across_classes) {
      best = workspace.take<float>(a.batch * a.count);
      labels = workspace.take<int32_t>(a.batch * a.count);
    }
    bytes = workspace.bytes();
  }
};

}  // namespace

int64_t fast_nms_workspace(const FastNmsArguments& a) { return Memory(a, nullptr).bytes; }

void fast_nms(const FastNmsArguments& a, void* workspace, Stream stream) {
  const Memory memory(a, workspace);
  ScoredBoxes source{};
  source.boxes = a.boxes;
  source.scores = a.scores;
  for (int i = 0; i < 3; ++i) {
    source.box_stride[i] = a.box_stride[i];
    source.score_stride[i] = a.score_stride[i];
  }
  source.count = a.count;
  source.floor = a.score_threshold ? above(*a.score_threshold) : lowest_key();
  if (a.options.across_classes && a.count > 0) {
    LAUNCH(best_of_classes_kernel, static_cast<unsigned>(blocks_for<int64_t>(a.batch * a.count, kThreads)), kThreads, 0,
           stream, source, a.batch, a.classes, memory.best, memory.labels);
    source.scores = memory.best;
    source.score_stride[0] = a.count;
    source.score_stride[2] = 1;
    source.labels = memory.labels;
  }
  suppress(source, memory.suppression, a.batch, stream);
  const Selected results{a.index, a.label, a.score, a.kept, a.options.max_detections};
  merge(memory.suppression.kept, results, a.batch, a.count, a.options.max_detections, stream);
}

}  // namespace yolact::cuda
