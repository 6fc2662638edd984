// What CPU ops need of torch's stable ABI: storage types, layouts, outputs, parameters in the compute type, threads.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <initializer_list>
#include <optional>
#include <vector>

#include "norm_act.h"

namespace fastgan {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

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

// A new contiguous tensor of float32 or float64.
inline Tensor output(std::initializer_list<int64_t> sizes, bool float64) {
  int64_t strides[4], stride = 1;
  for (int64_t d = int64_t(sizes.size()) - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= sizes.begin()[d];
  }
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      int64_t(sizes.size()), sizes.begin(), strides, float64 ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(),
      aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

// Same sizes, strides and dtype; t is dense, or a vector.
inline Tensor output_like(const Tensor& t) {
  const int64_t one = 1;
  int32_t dtype;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(t.get(), &dtype));
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(t.dim(), t.sizes().data(),
                                                         t.dim() == 1 ? &one : t.strides().data(), dtype,
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

// Writes `count` values of an optional vector in type S; an absent one is `otherwise`. `repeat`: one value may stand
// for all.
template <class S>
void copy_values(const std::optional<Tensor>& t, int64_t count, S otherwise, S* out, bool repeat = false) {
  if (!t) {
    for (int64_t i = 0; i < count; ++i) out[i] = otherwise;
    return;
  }
  repeat = repeat && t->numel() == 1;
  STD_TORCH_CHECK(t->dim() == 1 && (repeat || t->numel() == count) && t->is_cpu(),
                  "fastgan: a parameter must be a vector of one value a channel");
  const int64_t step = repeat ? 0 : t->strides()[0];
  with_elements(*t, [&](const auto* p) {
    for (int64_t i = 0; i < count; ++i) out[i] = S(p[i * step]);
  });
}

// Work below this many elements is not worth waking a thread for.
constexpr int64_t kSerialElements = 32768;

inline void parallel(int64_t tasks, int64_t elements, ParallelBody body, void* context) {
  if (tasks <= 1 || elements <= kSerialElements) return body(0, tasks, context);
  STABLE_TORCH_ERROR_CODE_CHECK(torch_parallel_for(0, tasks, 1, body, context));
}

}  // namespace fastgan
