// Rows of COCO strings, side by side, straight into memory of the host: pinned memory has an address on the device too,
// so the strings need no copy of their own after this, only the wait for the stream.
//
// Launch: a block a row. It sums the lengths of the rows before, which tells where its string goes, and copies it.
// Bytes over the bus: those that count, 50 KB for 100 usual masks of 400 KB capacity; whole words, for each store is a
// packet of its own. Bound by the bus and the launch.
#include "../common/gather_run_lengths.h"
#include "launch.cuh"
#include "scan.cuh"

namespace yolact::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) gather_rows(GatherRunLengthsArguments a) {
  const int64_t row = blockIdx.x, length = bytes_of(a, row);
  int64_t sum = 0, begin;
  for (int64_t i = threadIdx.x; i < row; i += kThreads) sum += round_to_four(bytes_of(a, i));
  block_exclusive_sum<kThreads>(sum, &begin);
  const uint8_t* text = a.data + row * a.capacity;
  uint32_t* output = reinterpret_cast<uint32_t*>(a.output + a.count * sizeof(RunRecord) + begin);
  for (int64_t i = threadIdx.x; 4 * i < length; i += kThreads) {
    uint32_t word = 0;
    for (int64_t at = 4 * i; at < 4 * i + 4 && at < length; ++at) word |= uint32_t{text[at]} << at % 4 * 8;
    output[i] = word;
  }
  if (threadIdx.x == 0)
    reinterpret_cast<RunRecord*>(a.output)[row] = {begin, length, a.needed[row], a.size[2 * row], a.size[2 * row + 1]};
}

}  // namespace

void gather_run_lengths(const GatherRunLengthsArguments& a, Stream stream) {
  GatherRunLengthsArguments there = a;
  there.output = device_address(a.output);
  LAUNCH(gather_rows, a.count, kThreads, 0, stream, there);
}

}  // namespace yolact::cuda
