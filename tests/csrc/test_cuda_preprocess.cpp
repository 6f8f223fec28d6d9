// csrc/cuda/preprocess.cu under simt gives the CPU kernel's bits, in every order of threads and blocks.
#include <random>
#include <vector>

#include "../../csrc/common/preprocess.h"
#include "check.h"
#include "schedules.h"

namespace yolact {
namespace {

void compare(int64_t batch, int64_t height, int64_t width, int64_t out_height, int64_t out_width, bool flipped,
             bool round) {
  std::mt19937 random(static_cast<unsigned>(height * width + out_height));
  std::vector<uint8_t> pictures(batch * height * width * 3);
  for (uint8_t& value : pictures) value = static_cast<uint8_t>(random());
  PreprocessArguments a{};
  a.pictures = pictures.data();
  const int64_t stride[4] = {height * width * 3, flipped ? 1 : width * 3, flipped ? height : 3,
                             flipped ? height * width : 1};
  for (int i = 0; i < 4; ++i) a.stride[i] = stride[i];
  a.batch = batch;
  a.height = height;
  a.width = width;
  a.out_height = out_height;
  a.out_width = out_width;
  for (int c = 0; c < 3; ++c) {
    a.mean[c] = 100.0f + static_cast<float>(c);
    a.std[c] = 57.0f + static_cast<float>(c);
  }
  a.round_to_uint8 = round;
  std::vector<float> expected(batch * 3 * out_height * out_width), output;
  a.output = expected.data();
  cpu::preprocess(a, serial());
  for (const simt::Schedule& order : schedules()) {
    simt::schedule() = order;
    output.assign(expected.size(), -1e30f);
    a.output = output.data();
    cuda::preprocess(a, nullptr);
    CHECK(output == expected);
  }
}

}  // namespace
}  // namespace yolact

int main() {
  yolact::compare(1, 5, 7, 9, 4, false, false);
  yolact::compare(2, 17, 3, 16, 33, true, true);
  yolact::compare(3, 1, 1, 20, 20, false, false);
  yolact::compare(1, 40, 60, 1, 1, true, true);
  yolact::compare(1, 6, 6, 150, 5, false, false);  // blocks by the one size do not cover the other
  yolact::compare(1, 6, 6, 5, 150, false, false);
  return failures();
}
