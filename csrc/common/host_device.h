// Marks what kernels of both kinds share: plain functions for the host compiler, host and device ones for nvcc.
#pragma once

#if defined(__CUDACC__)
#define YOLACT_HD __host__ __device__ __forceinline__
#else
#define YOLACT_HD inline __attribute__((always_inline))
#endif
