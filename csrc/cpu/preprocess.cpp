// Resizes, normalises and transposes uint8 pictures in one pass: for each output row two input rows are blended as
// they lie, channels side by side, and the result is stretched to the output's columns, a channel after the other.
// Bytes moved: the picture once, the output once.
#include "../common/preprocess.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "../common/interpolation.h"
#include "level.h"

namespace yolact::cpu {
namespace {

constexpr int64_t kChannels = 3;

// The taps of all columns; indices of the first channel in a row of pixels.
struct Columns {
  std::vector<int32_t> index0, index1;
  std::vector<float> weight0, weight1;

  Columns(int64_t in, int64_t out) {
    const float scale = static_cast<float>(in) / static_cast<float>(out);
    for (int64_t x = 0; x < out; ++x) {
      const Tap t = tap(x, in, scale);
      index0.push_back(t.index0 * kChannels);
      index1.push_back(t.index1 * kChannels);
      weight0.push_back(t.weight0);
      weight1.push_back(t.weight1);
    }
  }
};

YOLACT_INLINE void blend_rows(const uint8_t* __restrict row0, const uint8_t* __restrict row1, const Tap& y,
                              int64_t width, int64_t pixel_stride, int64_t channel_stride, float* __restrict line) {
  const float weight0 = y.weight0, weight1 = y.weight1;
  if (channel_stride == 1 && pixel_stride == kChannels) {
    for (int64_t i = 0; i < width * kChannels; ++i) line[i] = weight0 * row0[i] + weight1 * row1[i];
    return;
  }
  for (int64_t x = 0; x < width; ++x) {
    for (int64_t c = 0; c < kChannels; ++c) {
      const int64_t i = x * pixel_stride + c * channel_stride;
      line[x * kChannels + c] = weight0 * row0[i] + weight1 * row1[i];
    }
  }
}

YOLACT_INLINE void stretch_line(const float* __restrict line, const Columns& columns, int64_t width, bool round,
                                float mean, float scale, float* __restrict output) {
  const int32_t *index0 = columns.index0.data(), *index1 = columns.index1.data();
  const float *weight0 = columns.weight0.data(), *weight1 = columns.weight1.data();
  if (round) {
    for (int64_t x = 0; x < width; ++x)
      output[x] = (std::nearbyintf(weight0[x] * line[index0[x]] + weight1[x] * line[index1[x]]) - mean) * scale;
  } else {
    for (int64_t x = 0; x < width; ++x)
      output[x] = (weight0[x] * line[index0[x]] + weight1[x] * line[index1[x]] - mean) * scale;
  }
}

}  // namespace

void preprocess(const PreprocessArguments& a, const Parallel& parallel) {
  constexpr int64_t kRows = 16;  // a task: about 100 kB of output
  const Columns columns(a.width, a.out_width);
  const float scale_y = static_cast<float>(a.height) / static_cast<float>(a.out_height);
  const int64_t plane = a.out_height * a.out_width, tasks = (a.out_height + kRows - 1) / kRows;
  std::vector<std::vector<float>> lines(workers_for(parallel, a.batch * tasks),
                                        std::vector<float>(a.width * kChannels));
  for_each_on_worker(parallel, a.batch * tasks, [&](int64_t task, int64_t worker) {
    const int64_t b = task / tasks, begin = task % tasks * kRows;
    const uint8_t* picture = a.pictures + b * a.stride[0];
    float* line = lines[worker].data();
    for (int64_t y = begin; y < std::min(begin + kRows, a.out_height); ++y) {
      const Tap row = tap(y, a.height, scale_y);
      at_level<blend_rows>(picture + row.index0 * a.stride[1], picture + row.index1 * a.stride[1], row, a.width,
                           a.stride[2], a.stride[3], line);
      float* output = a.output + b * kChannels * plane + y * a.out_width;
      for (int64_t c = 0; c < kChannels; ++c)
        at_level<stretch_line>(line + c, columns, a.out_width, a.round_to_uint8, a.mean[c], 1.0f / a.std[c],
                               output + c * plane);
    }
  });
}

}  // namespace yolact::cpu
