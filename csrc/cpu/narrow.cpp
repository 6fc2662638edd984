// The ops between an image and a wide map on CPU tensors: reads the tensors, prepares memory, runs the kernels.
// Python has validated the arguments and speaks to the user; the checks here only keep memory safe.
#include "narrow.h"

#include "capability.h"
#include "tensor.h"

namespace fastgan {
namespace {

constexpr int64_t kMostChunks = 32, kMostSums = 1 << 21;  // floats of all chunks of a gradient

const NarrowKernels& kernels() {
  static const NarrowKernels& table = []() -> const NarrowKernels& {
#if defined(__x86_64__)
    if (cpu_capability() == Capability::avx512) return avx512::narrow_kernels;
    if (cpu_capability() == Capability::avx2) return avx2::narrow_kernels;
#endif
    return baseline::narrow_kernels;
  }();
  return table;
}

void check_map(const Tensor& t) {
  STD_TORCH_CHECK((t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::BFloat16) && t.dim() == 4 &&
                      t.numel() > 0 && is_on(t, kCpu) && is_channels_last(t),
                  "fastgan: narrow needs filled float32 or bfloat16 maps of four dimensions in channels_last");
}

// All but the maps, the weight and what is written.
Narrow call_of(int64_t small, int64_t large, int64_t kernel_h, int64_t kernel_w, int64_t stride_h, int64_t stride_w,
               int64_t padding_h, int64_t padding_w) {
  Narrow a = {};
  a.large = large <= kMostNarrow;
  a.narrow = a.large ? large : small;
  a.wide = a.large ? small : large;
  STD_TORCH_CHECK(a.narrow <= kMostNarrow, "fastgan: narrow needs a map of at most four channels");
  STD_TORCH_CHECK(kernel_h > 0 && kernel_w > 0 && kernel_h <= kMostTaps && kernel_w <= kMostTaps && stride_h > 0 &&
                      stride_w > 0 && padding_h >= 0 && padding_w >= 0,
                  "fastgan: narrow needs a kernel of at most 16x16, strides from 1 and paddings from 0");
  a.kernel_h = kernel_h;
  a.kernel_w = kernel_w;
  a.stride_h = stride_h;
  a.stride_w = stride_w;
  a.padding_h = padding_h;
  a.padding_w = padding_w;
  a.padded = (a.wide + kernels().lanes - 1) / kernels().lanes * kernels().lanes;
  return a;
}

void read_sizes(Narrow& a, const Tensor& small, const Tensor& large) {
  a.images = small.size(0);
  a.h = small.size(2);
  a.w = small.size(3);
  a.height = large.size(2);
  a.width = large.size(3);
  a.storage = int(storage_of(large));
}

Tensor floats(int64_t count, bool zero) {
  Tensor t = output({count}, false, kCpu);
  if (zero) memset(t.data_ptr(), 0, count * sizeof(float));
  return t;
}

// The weight and the bias as the kernel reads them, and one pixel of zeros.
struct Parameters {
  Tensor weight, bias, zeros;

  Parameters(Narrow& a, const Tensor& given, const OptionalTensor& given_bias, const Tensor& map)
      : weight(floats(a.kernel_h * a.kernel_w * a.narrow * a.padded, true)),
        bias(floats(a.narrow, true)),
        zeros(floats(a.padded, true)) {
    STD_TORCH_CHECK(given.scalar_type() == map.scalar_type() && given.dim() == 4 && is_on(given, kCpu),
                    "fastgan: the weight must have four dimensions and the dtype of the map");
    const auto s = given.strides();
    const int64_t to_narrow = s[a.large ? 1 : 0], to_wide = s[a.large ? 0 : 1];
    const int64_t unit = map.scalar_type() == ScalarType::BFloat16 ? 2 : 1;
    float* to = static_cast<float*>(weight.data_ptr());
    with_elements(given, [&](const auto* from) {
      for (int64_t i = 0; i < a.kernel_h; ++i)
        for (int64_t j = 0; j < a.kernel_w; ++j)
          for (int64_t b = 0; b < a.narrow; ++b, to += a.padded)
            for (int64_t c = 0; c < a.wide; ++c)
              to[place_of(c, a.wide, unit, kernels().lanes)] =
                  float(from[i * s[2] + j * s[3] + b * to_narrow + c * to_wide]);
    });
    copy_values(given_bias, a.narrow, 0.f, static_cast<float*>(bias.data_ptr()));
    a.weight = static_cast<const float*>(weight.data_ptr());
    a.bias = static_cast<const float*>(bias.data_ptr());
    a.zeros = zeros.data_ptr();
  }
};

Tensor image(Narrow& a, const Tensor& wide, const Tensor& out, const Tensor& weight, const OptionalTensor& bias) {
  read_sizes(a, a.large ? wide : out, a.large ? out : wide);
  const Parameters parameters(a, weight, bias, wide);
  a.wide_map = wide.data_ptr();
  a.out = out.data_ptr();
  kernels().image(a, parallel);
  return out;
}

Tensor narrow_correlate(const Tensor& large, const Tensor& weight, const OptionalTensor& bias, int64_t stride_h,
                        int64_t stride_w, int64_t padding_h, int64_t padding_w) {
  check_map(large);
  Narrow a =
      call_of(weight.size(0), weight.size(1), weight.size(2), weight.size(3), stride_h, stride_w, padding_h, padding_w);
  const int64_t h = (large.size(2) + 2 * padding_h - a.kernel_h) / stride_h + 1;
  const int64_t w = (large.size(3) + 2 * padding_w - a.kernel_w) / stride_w + 1;
  STD_TORCH_CHECK(!a.large && large.size(1) == a.wide && large.size(2) + 2 * padding_h >= a.kernel_h &&
                      large.size(3) + 2 * padding_w >= a.kernel_w,
                  "fastgan: the map does not fit the weight, or it is the narrow one");
  const Tensor small = new_map(dtype_of(large), large.size(0), a.narrow, h, w, kCpu);
  return image(a, large, small, weight, bias);
}

Tensor narrow_spread(const Tensor& small, const Tensor& weight, const OptionalTensor& bias, int64_t stride_h,
                     int64_t stride_w, int64_t padding_h, int64_t padding_w, int64_t height, int64_t width) {
  check_map(small);
  Narrow a =
      call_of(weight.size(0), weight.size(1), weight.size(2), weight.size(3), stride_h, stride_w, padding_h, padding_w);
  STD_TORCH_CHECK(a.large && small.size(1) == a.wide && height > 0 && width > 0,
                  "fastgan: the map does not fit the weight, or it is the narrow one");
  const Tensor large = new_map(dtype_of(small), small.size(0), a.narrow, height, width, kCpu);
  return image(a, small, large, weight, bias);
}

Tensor narrow_weight_gradient(const Tensor& small, const Tensor& large, int64_t kernel_h, int64_t kernel_w,
                              int64_t stride_h, int64_t stride_w, int64_t padding_h, int64_t padding_w) {
  check_map(small);
  check_map(large);
  Narrow a = call_of(small.size(1), large.size(1), kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w);
  STD_TORCH_CHECK(small.size(0) == large.size(0) && small.scalar_type() == large.scalar_type(),
                  "fastgan: the maps must have as many images, and one dtype");
  read_sizes(a, small, large);
  const Tensor weight = new_map(dtype_of(small), small.size(1), large.size(1), kernel_h, kernel_w, kCpu);
  const int64_t each = kernel_h * kernel_w * a.narrow * a.padded, rows = a.images * a.h;
  a.chunks = kMostSums / each < kMostChunks ? kMostSums / each : kMostChunks;
  a.chunks = a.chunks < rows ? a.chunks : rows;
  a.chunks = a.chunks > 1 ? a.chunks : 1;
  const Tensor sums = floats(a.chunks * each, false);
  a.sums = static_cast<float*>(sums.data_ptr());
  a.wide_map = (a.large ? small : large).data_ptr();
  a.narrow_map = (a.large ? large : small).data_ptr();
  a.out = weight.data_ptr();
  kernels().gradient(a, parallel);
  return weight;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("narrow_correlate", TORCH_BOX(&narrow_correlate));
  m.impl("narrow_spread", TORCH_BOX(&narrow_spread));
  m.impl("narrow_weight_gradient", TORCH_BOX(&narrow_weight_gradient));
}

}  // namespace fastgan
