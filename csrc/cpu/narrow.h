// The three products of a convolution between an image, of at most kMostNarrow channels, and a wide map, one table for
// each instruction set. Free of torch headers: see vec.h.
#pragma once

#include "kernel.h"

namespace fastgan {

constexpr int kMostNarrow = 4, kMostTaps = 16;  // channels, and rows or columns of a kernel

// A convolution between a large map and a small one, as fastgan/convolutions/products.py has it, one of which is
// narrow. Maps are (N, H, W, C) contiguous; what an op has not is null.
struct Narrow {
  int64_t images, narrow, wide;  // channels
  int64_t h, w, height, width;   // of the small and of the large map
  int64_t kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w;
  bool large;   // whether the large map is the narrow one
  int storage;  // float32 or bfloat16, of the maps and of `out`
  const void *wide_map, *narrow_map;
  const float *weight, *bias;  // weight: (kh, kw, narrow, wide), zeros up to `padded` channels; bias: (narrow,)
  const void* zeros;           // one pixel of the wide map
  int64_t padded;              // wide, up to a whole vector
  void* out;                   // the narrow map, or the gradient of the weight as it lies in channels_last
  float* sums;                 // of the gradient: (chunks, kh, kw, narrow, padded)
  int64_t chunks;
};

// Where a wide channel lies in a weight and in sums: whole stretches of 2 `lanes` of bfloat16, `unit` 2, are their even
// channels and then their odd ones.
inline int64_t place_of(int64_t channel, int64_t wide, int64_t unit, int64_t lanes) {
  const int64_t stretch = unit * lanes, within = channel % stretch;
  if (unit == 1 || channel - within + stretch > wide) return channel;
  return channel - within + within % 2 * lanes + within / 2;
}

struct NarrowKernels {
  void (*image)(const Narrow&, Parallel);     // wide map, weight -> narrow map
  void (*gradient)(const Narrow&, Parallel);  // wide map, narrow map -> weight
  int64_t lanes;                              // of a vector
};

namespace baseline {
extern const NarrowKernels narrow_kernels;
}
namespace avx2 {
extern const NarrowKernels narrow_kernels;
}
namespace avx512 {
extern const NarrowKernels narrow_kernels;
}

}  // namespace fastgan
