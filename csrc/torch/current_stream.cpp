#include "support.h"

// The only symbol of torch's CUDA part that is used. A CPU build of torch lacks it, so it is weak, and one binary loads
// under both.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                                   void** ret_stream);

namespace yolact {

Stream current_stream(int32_t device) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr,
                  "the torch that is installed is a CPU build: it has no CUDA stream to run on; install a CUDA build");
  void* stream = nullptr;
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == AOTI_TORCH_SUCCESS,
                  "torch has no current stream on cuda:", device, ": is there such a GPU, and a driver for it?");
  return static_cast<Stream>(stream);
}

namespace {

int64_t current_stream_number(int64_t device) {
  return reinterpret_cast<int64_t>(current_stream(static_cast<int32_t>(device)));
}

}  // namespace
}  // namespace yolact

YOLACT_STABLE_IMPL(YOLACT_LIBRARY, CompositeExplicitAutograd, m) {
  m.impl("current_stream", TORCH_BOX(&yolact::current_stream_number));
}
