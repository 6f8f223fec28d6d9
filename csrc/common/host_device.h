// Marks what kernels of both kinds share: plain functions for the host compiler, host and device ones for nvcc.
#pragma once

// What kernels for the CPU are made of: compiled into its caller, for the processor that the caller is compiled for.
#define YOLACT_INLINE inline __attribute__((always_inline))

#if defined(__CUDACC__)
#define YOLACT_HD __host__ __device__ __forceinline__
#else
#define YOLACT_HD YOLACT_INLINE
#endif
