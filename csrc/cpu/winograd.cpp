// The Winograd ops on CPU tensors: reads the tensors, prepares memory, runs the kernels.
// Python has validated the arguments and speaks to the user; the checks here only keep memory safe.
#include "winograd.h"

#include <utility>

#include "capability.h"
#include "tensor.h"

namespace fastgan {
namespace {

const WinogradKernels& kernels() {
  static const WinogradKernels& table = []() -> const WinogradKernels& {
#if defined(__x86_64__)
    if (cpu_capability() == Capability::avx512) return avx512::winograd_kernels;
    if (cpu_capability() == Capability::avx2) return avx2::winograd_kernels;
#endif
    return baseline::winograd_kernels;
  }();
  return table;
}

int64_t step(const Tensor& t, int64_t d) { return t.strides()[d]; }

const float* floats(const Tensor& t, bool map) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float && t.dim() == 4 && t.numel() > 0 && is_on(t, kCpu) &&
                      (!map || is_channels_last(t)),
                  "fastgan: winograd needs filled float32 tensors of four dimensions, maps in channels_last");
  return static_cast<const float*>(t.data_ptr());
}

Tensor map_of(int64_t images, int64_t channels, int64_t height, int64_t width) {
  return new_map(aoti_torch_dtype_float32(), images, channels, height, width, kCpu);
}

Winograd call_of(int64_t images, int64_t stride, int64_t kernel, int64_t padding_h, int64_t padding_w) {
  const bool parts = stride == 1 && kernel == 4;
  STD_TORCH_CHECK(stride > 0 && (kernel == 2 * stride || kernel == 3 * stride || parts) && padding_h >= 0 &&
                      padding_w >= 0 && padding_h < kernel && padding_w < kernel,
                  "fastgan: winograd needs a kernel of two or three strides, or of 4 with stride 1, and a smaller "
                  "padding");
  Winograd a = {};
  uint32_t threads;
  STABLE_TORCH_ERROR_CODE_CHECK(torch_get_num_threads(&threads));
  a.images = images;
  a.stride = stride;
  a.places = parts ? 2 : stride;
  a.taps = kernel / a.places;
  a.padding_h = padding_h;
  a.padding_w = padding_w;
  a.threads = threads;
  return a;
}

void read_weight(Winograd& a, const Tensor& weight, const OptionalTensor& bias, int64_t channels) {
  a.weight = floats(weight, false);
  STD_TORCH_CHECK(weight.size(3) == weight.size(2), "fastgan: winograd needs a square kernel");
  a.small = weight.size(0);
  a.large = weight.size(1);
  a.step_small = step(weight, 0);
  a.step_large = step(weight, 1);
  a.step_row = step(weight, 2);
  a.step_column = step(weight, 3);
  STD_TORCH_CHECK(!bias || (bias->dim() == 1 && bias->is_contiguous() && bias->numel() == channels &&
                            bias->scalar_type() == ScalarType::Float && is_on(*bias, kCpu)),
                  "fastgan: the bias must be a contiguous float32 vector of one value a channel");
  a.bias = bias ? static_cast<const float*>(bias->data_ptr()) : nullptr;
}

// Exchanges the large and the small map, and reads the weight from its last tap to its first.
void turn(Winograd& a, int64_t kernel) {
  std::swap(a.small, a.large);
  std::swap(a.step_small, a.step_large);
  std::swap(a.h, a.height);
  std::swap(a.w, a.width);
  a.weight += (kernel - 1) * (a.step_row + a.step_column);
  a.step_row = -a.step_row;
  a.step_column = -a.step_column;
  a.padding_h = kernel - 1 - a.padding_h;
  a.padding_w = kernel - 1 - a.padding_w;
}

// Apart from one another: what malloc returns of more than 32 MB is new to the process at each call.
struct Memory {
  Tensor transformed, scratch;
  Memory(Winograd& a, int64_t transformed, int64_t block)
      : transformed(output({transformed}, false, kCpu)), scratch(output({a.threads * block}, false, kCpu)) {
    a.transformed = static_cast<float*>(this->transformed.data_ptr());
    a.scratch = static_cast<float*>(scratch.data_ptr());
  }
};

Tensor winograd_correlate(const Tensor& large, const Tensor& weight, const OptionalTensor& bias, int64_t stride,
                          int64_t padding_h, int64_t padding_w) {
  const float* const from = floats(large, true);
  Winograd a = call_of(large.size(0), stride, weight.size(2), padding_h, padding_w);
  read_weight(a, weight, bias, weight.size(0));
  a.height = large.size(2);
  a.width = large.size(3);
  a.h = (a.height + 2 * padding_h - weight.size(2)) / stride + 1;
  a.w = (a.width + 2 * padding_w - weight.size(2)) / stride + 1;
  STD_TORCH_CHECK(large.size(1) == a.large && a.height + 2 * padding_h >= weight.size(2) &&
                      a.width + 2 * padding_w >= weight.size(2),
                  "fastgan: the map does not fit the weight");
  const Tensor small = map_of(a.images, a.small, a.h, a.w);
  a.large_map = from;
  a.out = static_cast<float*>(small.data_ptr());
  const Memory memory(a, kernels().transformed(a, true), kernels().block(a, true));
  kernels().correlate(a, parallel);
  return small;
}

Tensor winograd_spread(const Tensor& small, const Tensor& weight, const OptionalTensor& bias, int64_t stride,
                       int64_t padding_h, int64_t padding_w, int64_t height, int64_t width) {
  const float* const from = floats(small, true);
  Winograd a = call_of(small.size(0), stride, weight.size(2), padding_h, padding_w);
  read_weight(a, weight, bias, weight.size(1));
  a.h = small.size(2);
  a.w = small.size(3);
  a.height = height;
  a.width = width;
  STD_TORCH_CHECK(small.size(1) == a.small && height > 0 && width > 0, "fastgan: the map does not fit the weight");
  const Tensor large = map_of(a.images, a.large, height, width);
  a.out = static_cast<float*>(large.data_ptr());
  if (a.places != a.stride) {  // of stride 1, and so a correlation with the kernel turned round
    turn(a, weight.size(2));
    a.large_map = from;
    const Memory memory(a, kernels().transformed(a, true), kernels().block(a, true));
    kernels().correlate(a, parallel);
    return large;
  }
  a.small_map = from;
  const Memory memory(a, kernels().transformed(a, false), kernels().block(a, false));
  kernels().spread(a, parallel);
  return large;
}

Tensor winograd_weight_gradient(const Tensor& small, const Tensor& large, int64_t stride, int64_t kernel,
                                int64_t padding_h, int64_t padding_w) {
  Winograd a = call_of(small.size(0), stride, kernel, padding_h, padding_w);
  a.small_map = floats(small, true);
  a.large_map = floats(large, true);
  STD_TORCH_CHECK(large.size(0) == a.images, "fastgan: the maps must have as many images");
  a.small = small.size(1);
  a.large = large.size(1);
  a.h = small.size(2);
  a.w = small.size(3);
  a.height = large.size(2);
  a.width = large.size(3);
  const Tensor weight = map_of(a.small, a.large, kernel, kernel);
  a.out = static_cast<float*>(weight.data_ptr());
  const Memory memory(a, 0, kernels().gradient_block(a));
  kernels().weight_gradient(a, parallel);
  return weight;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("winograd_correlate", TORCH_BOX(&winograd_correlate));
  m.impl("winograd_spread", TORCH_BOX(&winograd_spread));
  m.impl("winograd_weight_gradient", TORCH_BOX(&winograd_weight_gradient));
}

}  // namespace fastgan
