// Resizes, normalises and transposes uint8 pictures in one pass: each output row blends two input rows, whose
// pixels are read as the columns need them. Bytes moved: the picture once, the output once.
#include "../common/preprocess.h"

#include <cmath>
#include <vector>

#include "../common/clones.h"
#include "../common/interpolation.h"

namespace yolact::cpu {
namespace {

// One output row of the three channels: row0 and row1 are the input rows to blend.
YOLACT_CLONES void preprocess_row(const PreprocessArguments& a, const uint8_t* row0, const uint8_t* row1, Tap y,
                                  const Tap* taps, float* output) {
  const int64_t plane = a.out_height * a.out_width;
  for (int64_t c = 0; c < 3; ++c) {
    const uint8_t* top = row0 + c * a.stride[3];
    const uint8_t* bottom = row1 + c * a.stride[3];
    float* out = output + c * plane;
    for (int64_t x = 0; x < a.out_width; ++x) {
      const Tap t = taps[x];
      const int64_t left = t.index0 * a.stride[2], right = t.index1 * a.stride[2];
      float value = y.weight0 * (t.weight0 * top[left] + t.weight1 * top[right]) +
                    y.weight1 * (t.weight0 * bottom[left] + t.weight1 * bottom[right]);
      if (a.round_to_uint8) value = std::nearbyintf(value);
      out[x] = (value - a.mean[c]) / a.std[c];
    }
  }
}

}  // namespace

void preprocess(const PreprocessArguments& a, const Parallel& parallel) {
  const float scale_y = static_cast<float>(a.height) / static_cast<float>(a.out_height);
  const float scale_x = static_cast<float>(a.width) / static_cast<float>(a.out_width);
  std::vector<Tap> taps(a.out_width);
  for (int64_t x = 0; x < a.out_width; ++x) taps[x] = tap(x, a.width, scale_x);

  constexpr int64_t kRowsPerTask = 16;  // about 100 kB of output
  parallel.ranges(a.batch * a.out_height, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / a.out_height, y = i % a.out_height;
      const Tap row = tap(y, a.height, scale_y);
      const uint8_t* picture = a.pictures + b * a.stride[0];
      preprocess_row(a, picture + row.index0 * a.stride[1], picture + row.index1 * a.stride[1], row, taps.data(),
                     a.output + (b * 3 * a.out_height + y) * a.out_width);
    }
  });
}

}  // namespace yolact::cpu
