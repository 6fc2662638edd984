// What a function needs to be compiled for both devices.
#pragma once

#if defined(__CUDACC__)
#define FASTGAN_INLINE __host__ __device__ __forceinline__
#else
#define FASTGAN_INLINE inline __attribute__((always_inline))
#endif
