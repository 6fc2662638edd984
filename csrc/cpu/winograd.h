// The three products of a convolution in float32 by Winograd's method, one table for each instruction set. Free of
// torch headers: see vec.h.
#pragma once

#include "kernel.h"

namespace fastgan {

// A convolution between a large map and a small one, as fastgan/convolutions/products.py has it. The kernel is square,
// of places * taps pixels on an axis, and a sum of convolutions of `taps` taps, one a place. With as many places as the
// stride, a place is one in the stride, and its taps lie a stride apart. Else the stride is 1, and a place is a part of
// the kernel, of taps side by side.
struct Winograd {
  int64_t images, small, large;                           // small, large: channels of these maps
  int64_t h, w, height, width;                            // of the small and of the large map
  int64_t stride, places, taps, padding_h, padding_w;     // taps 2 or 3
  int64_t step_small, step_large, step_row, step_column;  // of the weight, in elements
  int64_t threads;
  const float *small_map, *large_map, *weight, *bias;  // maps (N, H, W, C) contiguous; what an op has not is null
  float* out;                                          // a map, or the gradient of the weight (small, kh, kw, large)
  float *transformed, *scratch;                        // of so many floats as the functions below say
};

struct WinogradKernels {
  void (*correlate)(const Winograd&, Parallel);             // large, weight -> small
  void (*spread)(const Winograd&, Parallel);                // small, weight -> large
  void (*weight_gradient)(const Winograd&, Parallel);       // small, large -> weight
  int64_t (*transformed)(const Winograd&, bool correlate);  // floats that the first two write there
  // Floats of `scratch` for each thread: of the first two, and of the third.
  int64_t (*block)(const Winograd&, bool correlate);
  int64_t (*gradient_block)(const Winograd&);
};

namespace baseline {
extern const WinogradKernels winograd_kernels;
}
namespace avx2 {
extern const WinogradKernels winograd_kernels;
}
namespace avx512 {
extern const WinogradKernels winograd_kernels;
}

}  // namespace fastgan
