// Dense masks to COCO strings. The pixels are read once, in the order in which they lie, and become bits; the
// string is made of those (bit_rows.h). So a row-major mask is never transposed, and bytes moved are the masks once.
#include "../common/encode_run_lengths.h"

#include <memory>

#include "bit_rows.h"

namespace yolact::cpu {
namespace {

int64_t encode(const uint8_t* pixels, int64_t height, int64_t width, int64_t stride_y, int64_t stride_x,
               uint8_t* output, int64_t capacity) {
  if (height == 0 || width == 0) return RunWriter(output, capacity).finish(0);
  const auto distance = [](int64_t stride) { return stride < 0 ? -stride : stride; };
  if (stride_x == 1 || (stride_y != 1 && distance(stride_x) < distance(stride_y))) {
    std::unique_ptr<uint64_t[]> bits(new uint64_t[height * words_of(width)]);
    pack_rows(pixels, height, width, stride_y, stride_x, bits.get());
    return write_bit_rows(bits.get(), {0, 0, width, height, width, height}, output, capacity);
  }
  if (stride_y == 1 && stride_x == height) {  // one long column
    height *= width;
    width = 1;
  }
  std::unique_ptr<uint64_t[]> bits(new uint64_t[width * words_of(height)]);
  pack_rows(pixels, width, height, stride_x, stride_y, bits.get());
  return write_bit_columns(bits.get(), width, height, output, capacity);
}

}  // namespace

void encode_run_lengths(const EncodeRunLengthsArguments& a, const Parallel& parallel) {
  for_each(parallel, a.count, [&](int64_t i) {
    uint8_t* output = a.data + i * a.capacity;
    const int64_t needed =
        encode(a.masks + i * a.stride[0], a.height, a.width, a.stride[1], a.stride[2], output, a.capacity);
    finish_row(needed, a.capacity, output, &a.length[i], &a.needed[i]);
    a.size[2 * i] = a.height;
    a.size[2 * i + 1] = a.width;
  });
}

}  // namespace yolact::cpu
