// The loss of assembled masks (YOLACT, section 3.3): what a pixel costs, and which pixels a positive pays for.
#pragma once

#include <cmath>
#include <cstdint>

#include "half.h"
#include "math.h"
#include "parallel.h"
#include "span.h"
#include "stream.h"

namespace yolact {

struct MaskLossArguments {
  const void* prototypes;  // [batch, height, width, channels], element strides below
  FloatType prototype_type;
  int64_t prototype_stride[4];
  const void* coefficients;  // [positives, channels], element strides below
  FloatType coefficient_type;
  int64_t coefficient_stride[2];
  bool is_double;          // both are float64, whatever their types say, and so are all outputs; on the CPU alone
  const int64_t* picture;  // [positives]
  const int64_t* truth;    // [positives]
  const float* boxes;      // [truths, 4] xyxy, fractions
  const uint8_t* masks;    // [truths, height, width], 0 or 1, element strides below
  int64_t mask_stride[3];
  int64_t batch, height, width, channels, positives, truths;
  float padding;  // in prototype pixels

  // The outputs: forward the first, backward, from what the losses' gradients are, the others.
  void* loss;                 // [positives] float
  const void* loss_gradient;  // [positives] float
  void* prototype_gradient;   // as the prototypes, element strides below
  int64_t prototype_gradient_stride[4];
  void* coefficient_gradient;  // [positives, channels], of the coefficients' type
};

// What a positive is compared with, and where.
struct Positive {
  int64_t picture, truth;
  Span x, y;   // the pixels inside the box of its truth, padded; y is empty where there are none, or no such truth
  float area;  // of that box in prototype pixels; 0 where there is none, which makes a loss of 0 / 0: NaN
};

YOLACT_HD Positive positive_of(const MaskLossArguments& a, int64_t m) {
  Positive positive{a.picture[m], a.truth[m], {}, {}, 0.0f};
  if (positive.picture < 0 || positive.picture >= a.batch || positive.truth < 0 || positive.truth >= a.truths)
    return positive;
  const float* box = a.boxes + 4 * positive.truth;
  const float width = static_cast<float>(a.width), height = static_cast<float>(a.height);
  const float x1 = box[0] * width, y1 = box[1] * height, x2 = box[2] * width, y2 = box[3] * height;
  positive.x = pixels_between(x1, x2, a.padding, width);
  if (!positive.x.empty()) positive.y = pixels_between(y1, y2, a.padding, height);
  positive.area = std::fabs(x2 - x1) * std::fabs(y2 - y1);
  return positive;
}

// Both kernels go by tiles of a picture, and all tiles of a band before the next. What a positive has in a band is
// added up by place: by row and column modulo these, or by the latter. Then places are added by halves, which is the
// same wherever a tile begins, as what is added is as far apart; and then bands, the top one first. So all backends
// give the same bits.
constexpr int kBandRows = 16, kBandLanes = 16;

// The bands that rows lie in.
YOLACT_HD Span bands_of(Span rows) {
  if (rows.empty()) return {};
  return {rows.begin / kBandRows, (rows.end - 1) / kBandRows + 1};
}

// A wrong logit from here on has a probability, computed as 1 / (1 + e^-x), of exactly 1, as e^-x is at most half of
// one's last place; or, where the truth is 1, of exactly 0, as e^-x is infinite.
template <class T>
struct Certain {
  static constexpr T kIsOne = static_cast<T>(16.635532333438686), kIsZero = static_cast<T>(88.722839355468750);
};
template <>
struct Certain<double> {
  static constexpr double kIsOne = 36.73680056967711, kIsZero = 709.7827128933841;
};

template <class T>
YOLACT_HD bool is_certain_and_wrong(T logit, bool truth) {
  return (truth ? -logit : logit) >= (truth ? Certain<T>::kIsZero : Certain<T>::kIsOne);
}

YOLACT_HD double log1p_of_fraction(double t) { return std::log1p(t); }

// The binary cross entropy of a pixel's probability, sigmoid(logit), with the truth. One that is certain and wrong
// costs 100, as it does where logarithms are clamped at -100; its gradient is 0.
template <class T>
YOLACT_HD T mask_entropy(T logit, bool truth) {
  const T wrong = truth ? -logit : logit;
  const T entropy = (wrong > 0 ? wrong : T{0}) + log1p_of_fraction(exponential(-std::fabs(logit)));
  return is_certain_and_wrong(logit, truth) ? T{100} : entropy;
}

// Its derivative by the logit.
template <class T>
YOLACT_HD T mask_entropy_gradient(T logit, bool truth) {
  const T derivative = T{1} / (T{1} + exponential(-logit)) - (truth ? T{1} : T{0});
  return is_certain_and_wrong(logit, truth) ? T{0} : derivative;
}

namespace cpu {
void mask_loss(const MaskLossArguments& arguments, const Parallel& parallel);
void mask_loss_backward(const MaskLossArguments& arguments, const Parallel& parallel);
}  // namespace cpu

namespace cuda {
void mask_loss(const MaskLossArguments& arguments, Stream stream);
void mask_loss_backward(const MaskLossArguments& arguments, Stream stream);
}  // namespace cuda

}  // namespace yolact
