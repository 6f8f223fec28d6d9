// The mask loss and its gradients against one plain loop over pixels that adds up in the order that is promised, on
// buffers of exactly their size: the bits must agree.
#include <cstdio>

#include "check.h"
#include "mask_loss_case.h"

namespace yolact {
namespace {

float sum_by_halves(std::vector<float> values) {
  for (size_t half = values.size() / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i) values[i] += values[i + half];
  return values[0];
}

float prototype(const MaskLossArguments& a, const Positive& p, int64_t y, int64_t x, int64_t k) {
  const int64_t* s = a.prototype_stride;
  return load_float(a.prototypes, p.picture * s[0] + y * s[1] + x * s[2] + k * s[3], a.prototype_type);
}

float coefficient(const MaskLossArguments& a, int64_t m, int64_t k) {
  return load_float(a.coefficients, m * a.coefficient_stride[0] + k * a.coefficient_stride[1], a.coefficient_type);
}

float logit(const MaskLossArguments& a, const Positive& p, int64_t m, int64_t y, int64_t x) {
  float sum = 0.0f;
  for (int64_t k = 0; k < a.channels; ++k) sum += prototype(a, p, y, x, k) * coefficient(a, m, k);
  return sum;
}

bool truth(const MaskLossArguments& a, const Positive& p, int64_t y, int64_t x) {
  return a.masks[p.truth * a.mask_stride[0] + y * a.mask_stride[1] + x * a.mask_stride[2]] != 0;
}

// Calls f(lane, y, x) for the pixels of a positive in a band, with the place at which what comes of it is added up.
template <class F>
void visit(const Positive& p, int64_t band, const F& f) {
  for (int64_t left = p.x.begin / kBandLanes * kBandLanes; left < p.x.end; left += kBandLanes)
    for (int64_t y = band * kBandRows; y < (band + 1) * kBandRows; ++y)
      for (int64_t x = left; x < left + kBandLanes; ++x)
        if (p.y.begin <= y && y < p.y.end && p.x.begin <= x && x < p.x.end)
          f(y % kBandRows * kBandLanes + x - left, y, x);
}

void naive_forward(const MaskLossArguments& a) {
  for (int64_t m = 0; m < a.positives; ++m) {
    const Positive p = positive_of(a, m);
    float total = 0.0f;
    for (int64_t band = 0; band * kBandRows < a.height; ++band) {
      std::vector<float> sums(kBandRows * kBandLanes);
      visit(p, band, [&](int64_t lane, int64_t y, int64_t x) {
        sums[lane] += mask_entropy(logit(a, p, m, y, x), truth(a, p, y, x));
      });
      total += sum_by_halves(sums);
    }
    static_cast<float*>(a.loss)[m] = total / p.area;
  }
}

void naive_backward(const MaskLossArguments& a) {
  std::vector<float> prototypes(a.batch * a.height * a.width * a.channels);
  for (int64_t m = 0; m < a.positives; ++m) {
    const Positive p = positive_of(a, m);
    const float weight = static_cast<const float*>(a.loss_gradient)[m] / p.area;
    std::vector<float> total(a.channels);
    for (int64_t band = 0; band * kBandRows < a.height; ++band) {
      std::vector<std::vector<float>> sums(a.channels, std::vector<float>(kBandLanes));
      visit(p, band, [&](int64_t lane, int64_t y, int64_t x) {
        const float derivative = mask_entropy_gradient(logit(a, p, m, y, x), truth(a, p, y, x)) * weight;
        for (int64_t k = 0; k < a.channels; ++k) {
          sums[k][lane % kBandLanes] += derivative * prototype(a, p, y, x, k);
          prototypes[((p.picture * a.height + y) * a.width + x) * a.channels + k] += derivative * coefficient(a, m, k);
        }
      });
      for (int64_t k = 0; k < a.channels; ++k) total[k] += sum_by_halves(sums[k]);
    }
    for (int64_t k = 0; k < a.channels; ++k)
      store_float(a.coefficient_gradient, m * a.channels + k, a.coefficient_type, total[k]);
  }
  const int64_t *s = a.prototype_gradient_stride, rows = a.batch * a.height, k = a.channels;
  for (int64_t i = 0; i < rows * a.width * k; ++i) {
    const int64_t row = i / k / a.width;
    store_float(a.prototype_gradient,
                row / a.height * s[0] + row % a.height * s[1] + i / k % a.width * s[2] + i % k * s[3], a.prototype_type,
                prototypes[i]);
  }
}

// Two workers, one after the other: every workspace is used, and by more than one item.
Parallel two_workers() {
  return {2, [](int64_t count, int64_t, const Range& body) {
            for (int64_t i = 0; i < count; ++i) body(i, i + 1);
          }};
}

void test_bits(uint32_t seed) {
  MaskLossCase c(seed);
  const Parallel parallel = seed % 2 ? serial() : two_workers();
  const auto found = c.results([&](const auto& a) { cpu::mask_loss(a, parallel); },
                               [&](const auto& a) { cpu::mask_loss_backward(a, parallel); });
  const bool same = found == c.results(naive_forward, naive_backward);
  if (!same) std::fprintf(stderr, "seed %u:\n", seed);
  CHECK(same);
}

// Where the probability rounds to 0 or 1 it does so for the rule, too, and where it does not, it does not.
void test_certain() {
  CHECK(sigmoid(Certain<float>::kIsOne) == 1.0f);
  CHECK(sigmoid(std::nextafter(Certain<float>::kIsOne, 0.0f)) < 1.0f);
  CHECK(sigmoid(-Certain<float>::kIsZero) == 0.0f);
  CHECK(sigmoid(std::nextafter(-Certain<float>::kIsZero, 0.0f)) > 0.0f);
  const auto in_double = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  CHECK(in_double(Certain<double>::kIsOne) == 1.0);
  CHECK(in_double(std::nextafter(Certain<double>::kIsOne, 0.0)) < 1.0);
  CHECK(in_double(-Certain<double>::kIsZero) == 0.0);
  CHECK(in_double(std::nextafter(-Certain<double>::kIsZero, 0.0)) > 0.0);
}

// Against the definitions, in double.
void test_entropy() {
  double entropy_error = 0.0, gradient_error = 0.0;
  for (float x = -88.0f; x < 16.0f; x += 0.0123f) {
    const double exact = std::fmax(x, 0.0f) + std::log1p(std::exp(-std::fabs(static_cast<double>(x))));
    const double probability = 1.0 / (1.0 + std::exp(-static_cast<double>(x)));
    entropy_error = std::fmax(entropy_error, std::fabs(mask_entropy(x, false) / exact - 1.0));
    entropy_error = std::fmax(entropy_error, std::fabs(mask_entropy(-x, true) / exact - 1.0));
    gradient_error = std::fmax(gradient_error, std::fabs(mask_entropy_gradient(x, false) / probability - 1.0));
    gradient_error = std::fmax(gradient_error, std::fabs(mask_entropy_gradient(x, true) - (probability - 1.0)));
  }
  CHECK(entropy_error < 4e-7 && gradient_error < 4e-7);
  for (const bool truth : {false, true}) {
    CHECK(std::isnan(mask_entropy(std::nanf(""), truth)) && std::isnan(mask_entropy_gradient(std::nanf(""), truth)));
    for (const float logit : {INFINITY, -INFINITY}) {
      CHECK(mask_entropy(logit, truth) == ((logit > 0) == truth ? 0.0f : 100.0f));
      CHECK(mask_entropy_gradient(logit, truth) == 0.0f);
    }
  }
}

}  // namespace
}  // namespace yolact

int main() {
  yolact::test_certain();
  yolact::test_entropy();
  for (uint32_t seed = 0; seed < 300; ++seed) yolact::test_bits(seed);
  return failures() != 0;
}
