// What the ops of both devices need of torch's stable ABI: storage types, layouts, checks, outputs.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <string.h>

#include <initializer_list>
#include <optional>

#include "shape.h"

namespace fastgan {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline Storage storage_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return Storage::float32;
    case ScalarType::Double:
      return Storage::float64;
    case ScalarType::BFloat16:
      return Storage::bfloat16;
    case ScalarType::Half:
      return Storage::float16;
    default:
      STD_TORCH_CHECK(false, "fastgan: the dtype must be float32, float64, bfloat16 or float16");
  }
}

// Where an op runs: where its first tensor is, and all others must be there too. Numbers of torch's.
struct Device {
  int32_t type, index;
};
constexpr Device kCpu{0, 0};
inline Device device_of(const Tensor& t) {
  Device d;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(t.get(), &d.type));
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(t.get(), &d.index));
  return d;
}
inline bool is_on(const Tensor& t, const Device& device) {
  const Device own = device_of(t);
  return own.type == device.type && (own.type == kCpu.type || own.index == device.index);
}

// Calls body(pointer) with the tensor's elements in their own type.
template <class Body>
void with_elements(const Tensor& t, const Body& body) {
  void* const data = t.data_ptr();
  switch (storage_of(t)) {
    case Storage::float32:
      return body(static_cast<float*>(data));
    case Storage::float64:
      return body(static_cast<double*>(data));
    case Storage::bfloat16:
      return body(static_cast<torch::headeronly::BFloat16*>(data));
    case Storage::float16:
      return body(static_cast<torch::headeronly::Half*>(data));
  }
}

// (N, C, *) with the channel innermost and no gaps.
inline bool is_channels_last(const Tensor& t) {
  const auto sizes = t.sizes(), strides = t.strides();
  if (sizes[1] != 1 && strides[1] != 1) return false;
  int64_t expected = sizes[1];
  for (int64_t d = t.dim() - 1; d > 1; --d) {
    if (sizes[d] != 1 && strides[d] != expected) return false;
    expected *= sizes[d];
  }
  return sizes[0] == 1 || strides[0] == expected;
}

// A filled dense tensor (N, C, *) as a kernel sees it, cut into so many groups along the batch.
inline Shape shape_of(const Tensor& x, int64_t groups) {
  const auto sizes = x.sizes();
  STD_TORCH_CHECK(x.dim() >= 2 && x.numel() > 0, "fastgan: x must be a filled tensor (N, C, *)");
  STD_TORCH_CHECK(groups > 0 && sizes[0] % groups == 0, "fastgan: the groups must divide the batch");
  Shape s{groups, sizes[0] / groups, sizes[1], x.numel() / (sizes[0] * sizes[1]), false};
  const bool contiguous = x.is_contiguous();
  // With one element a channel the two layouts are the same memory, and rows of channels are the faster view of it.
  s.channels_last = contiguous ? s.space == 1 : true;
  STD_TORCH_CHECK(contiguous || is_channels_last(x), "fastgan: x must be contiguous or channels_last");
  return s;
}

// On the device, all of one dtype: float32, or that of x; for float64 only float64.
inline void check_parameters(const Tensor& x, const Device& device,
                             std::initializer_list<const OptionalTensor*> parameters) {
  const Tensor* first = nullptr;
  for (const OptionalTensor* p : parameters) {
    if (!*p) continue;
    STD_TORCH_CHECK((*p)->dim() == 1 && is_on(**p, device), "fastgan: parameters must be vectors, on the device of x");
    const ScalarType type = (*p)->scalar_type();
    STD_TORCH_CHECK(type == x.scalar_type() || (type == ScalarType::Float && x.scalar_type() != ScalarType::Double),
                    "fastgan: parameters must be float32 or have the dtype of x");
    STD_TORCH_CHECK(first == nullptr || first->scalar_type() == type, "fastgan: parameters must share one dtype");
    first = &**p;
  }
}

inline void check_same_layout(const Tensor& grad_y, const Tensor& x, const Device& device) {
  bool same = grad_y.dim() == x.dim() && grad_y.scalar_type() == x.scalar_type() && is_on(grad_y, device);
  for (int64_t d = 0; same && d < x.dim(); ++d) same = grad_y.size(d) == x.size(d);
  same = same && (x.is_contiguous() ? grad_y.is_contiguous() : is_channels_last(grad_y));
  STD_TORCH_CHECK(same, "fastgan: the gradient must have the shape, dtype and layout of the input");
}

inline bool is_double(const Tensor& x) { return x.scalar_type() == ScalarType::Double; }

// Runs body(S()) with S the compute type of x: double for float64, else float.
template <class Body>
auto with_compute_type(const Tensor& x, const Body& body) {
  return is_double(x) ? body(double()) : body(float());
}

inline int32_t dtype_of(const Tensor& t) {
  int32_t dtype;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(t.get(), &dtype));
  return dtype;
}

// A new tensor. Under emulation it starts as NaN, so that an element that no kernel wrote shows.
inline Tensor new_tensor(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                         const Device& device) {
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(dim, sizes, strides, dtype, device.type, device.index, &handle));
  Tensor t(handle);
#if defined(FASTGAN_EMULATED)
  if (t.numel() > 0) memset(t.data_ptr(), 0xff, t.numel() * t.element_size());
#endif
  return t;
}

// (N, C, H, W) in channels_last, uninitialised
inline Tensor new_map(int32_t dtype, int64_t images, int64_t channels, int64_t height, int64_t width,
                      const Device& device) {
  const int64_t sizes[4] = {images, channels, height, width};
  const int64_t strides[4] = {height * width * channels, 1, width * channels, channels};
  return new_tensor(4, sizes, strides, dtype, device);
}

// A new contiguous tensor; the dtype is a number of torch's.
inline Tensor output(std::initializer_list<int64_t> sizes, int32_t dtype, const Device& device) {
  int64_t strides[4], stride = 1;
  for (int64_t d = int64_t(sizes.size()) - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= sizes.begin()[d];
  }
  return new_tensor(int64_t(sizes.size()), sizes.begin(), strides, dtype, device);
}

inline Tensor output(std::initializer_list<int64_t> sizes, bool float64, const Device& device) {
  return output(sizes, float64 ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(), device);
}

// Same sizes, strides and dtype; t is dense, or a vector.
inline Tensor output_like(const Tensor& t, const Device& device) {
  const int64_t one = 1;
  return new_tensor(t.dim(), t.sizes().data(), t.dim() == 1 ? &one : t.strides().data(), dtype_of(t), device);
}

}  // namespace fastgan
