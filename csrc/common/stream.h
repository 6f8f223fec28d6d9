// A CUDA stream by its name alone, so that what passes one on needs no header of CUDA.
#pragma once

struct CUstream_st;

namespace yolact {

using Stream = CUstream_st*;  // cudaStream_t

}  // namespace yolact
