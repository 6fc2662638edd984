// The norm_act ops on CPU tensors: reads the tensors, prepares what a channel needs, runs the kernels.
// Python has validated the arguments and speaks to the user; the checks here only keep memory safe.
#include "norm_act.h"

#include <cmath>
#include <tuple>

#include "../include/norm_act_checks.h"
#include "capability.h"
#include "tensor.h"

namespace fastgan {
namespace {

const NormActKernels& kernels(const Tensor& x) {
  static const NormActKernels* const table = [] {
#if defined(__x86_64__)
    if (cpu_capability() == Capability::avx512) return avx512::norm_act_kernels;
    if (cpu_capability() == Capability::avx2) return avx2::norm_act_kernels;
#endif
    return baseline::norm_act_kernels;
  }();
  return table[int(storage_of(x))];
}

// A NormAct and the memory that its pointers need.
template <class S>
struct Arguments {
  NormAct call{};
  int64_t channels, count;  // count: groups * channels
  std::vector<S> memory;    // bias, slope, weight [C] and scale, grad_offset, grad_inclined [G, C]
  const S *mean, *rstd;
  S *scale, *grad_offset, *grad_inclined;

  Arguments(const Shape& shape, const Tensor& x, const Tensor& statistics, const OptionalTensor& weight,
            const OptionalTensor& bias, const OptionalTensor& slope, int64_t act, double alpha)
      : channels(shape.channels), count(shape.groups * shape.channels), memory(3 * channels + 3 * count) {
    check_statistics(statistics, x, shape, kCpu);
    check_activation(act);
    S* const bias_ = memory.data();
    S* const slope_ = bias_ + channels;
    S* const weight_ = slope_ + channels;
    scale = weight_ + channels;
    grad_offset = scale + count;
    grad_inclined = grad_offset + count;
    mean = static_cast<const S*>(statistics.data_ptr());
    rstd = mean + count;
    copy_values(bias, channels, S(0), bias_);
    copy_values(slope, channels, S(alpha), slope_, true);
    copy_values(weight, channels, S(1), weight_);
    for (int64_t g = 0; g < count; g += channels)
      for (int64_t c = 0; c < channels; ++c) scale[g + c] = rstd[g + c] * weight_[c];
    call = {shape, int(act), x.data_ptr(), nullptr, nullptr, mean, scale, bias_, slope_, grad_offset, grad_inclined};
  }

  // means [>= 2, G, C]: means over the group of g and of g xhat. Left out where the statistics are constants.
  void set_gradient_means(const double* means) {
    for (int64_t i = 0; i < count; ++i) {
      grad_offset[i] = S(scale[i] * means[i]);
      grad_inclined[i] = S(scale[i] * rstd[i] * means[count + i]);
    }
  }

  // Sums over each group of g, of g xhat and of what prelu's slope receives, [3, G, C].
  void backward_sums(const NormActKernels& k, double* sums) const {
    k.backward_sums(call, sums, parallel);
    for (int64_t i = 0; i < count; ++i) sums[count + i] *= double(rstd[i]);
  }
};

template <class S>
void fill_statistics(const Tensor& statistics, const double* mean, const double* var, int64_t count, double eps) {
  S* const out = static_cast<S*>(statistics.data_ptr());
  for (int64_t i = 0; i < count; ++i) {
    out[i] = S(mean[i]);
    out[count + i] = S(1 / std::sqrt(var[i] + eps));
  }
}

// One update for each group, in their order.
void update_running(const Tensor& running, const double* values, const Shape& shape, double momentum) {
  const int64_t step = running.strides()[0];
  with_elements(running, [&](auto* r) {
    using R = std::remove_reference_t<decltype(*r)>;
    for (int64_t i = 0; i < shape.groups * shape.channels; ++i) {
      R& value = r[i % shape.channels * step];
      value = R((1 - momentum) * double(value) + momentum * values[i]);
    }
  });
}

std::tuple<Tensor, Tensor> norm_act(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                                    const OptionalTensor& slope, const OptionalTensor& running_mean,
                                    const OptionalTensor& running_var, int64_t groups, double momentum, double eps,
                                    int64_t act, double alpha) {
  const bool training = groups > 0;
  const Shape shape =
      check_norm_act(x, weight, bias, slope, running_mean, running_var, groups, momentum, eps, act, kCpu);
  const int64_t count = shape.groups * shape.channels;
  const double values = double(shape.batch * shape.space);
  std::vector<double> moments(2 * count);
  double *const mean = moments.data(), *const var = mean + count;
  if (training) {
    kernels(x).statistics(shape, x.data_ptr(), mean, var, parallel);
  } else {
    copy_values(running_mean, count, 0.0, mean);
    copy_values(running_var, count, 0.0, var);
  }
  Tensor statistics = output({2, shape.groups, shape.channels}, is_double(x), kCpu);
  Tensor y = output_like(x, kCpu);
  with_compute_type(x, [&](auto s) {
    using S = decltype(s);
    fill_statistics<S>(statistics, mean, var, count, eps);
    Arguments<S> a(shape, x, statistics, weight, bias, slope, act, alpha);
    a.call.out = y.data_ptr();
    kernels(x).forward(a.call, parallel);
  });
  if (training && running_mean && running_var) {
    for (int64_t i = 0; i < count; ++i) var[i] *= values / (values - 1);  // the running variance is the unbiased one
    update_running(*running_mean, mean, shape, momentum);
    update_running(*running_var, var, shape, momentum);
  }
  return {y, statistics};
}

Tensor norm_act_moments(const Tensor& x, int64_t groups) {
  const Shape shape = shape_of(x, groups);
  Tensor moments = output({2, shape.groups, shape.channels}, true, kCpu);
  double* const mean = static_cast<double*>(moments.data_ptr());
  kernels(x).statistics(shape, x.data_ptr(), mean, mean + shape.groups * shape.channels, parallel);
  return moments;
}

Tensor norm_act_apply(const Tensor& x, const Tensor& statistics, const OptionalTensor& weight,
                      const OptionalTensor& bias, const OptionalTensor& slope, int64_t act, double alpha) {
  const Shape shape = shape_of(x, statistics.size(1));
  Tensor y = output_like(x, kCpu);
  with_compute_type(x, [&](auto s) {
    Arguments<decltype(s)> a(shape, x, statistics, weight, bias, slope, act, alpha);
    a.call.out = y.data_ptr();
    kernels(x).forward(a.call, parallel);
  });
  return y;
}

// The sum over the groups of one row of sums, as the gradient of a parameter; empty where there is no parameter.
Tensor parameter_gradient(const OptionalTensor& parameter, const double* sums, const Shape& shape) {
  if (!parameter) return output({0}, false, kCpu);
  Tensor grad = output_like(*parameter, kCpu);
  with_elements(grad, [&](auto* out) {
    using R = std::remove_reference_t<decltype(*out)>;
    for (int64_t c = 0; c < shape.channels; ++c) {
      double total = 0;
      for (int64_t g = 0; g < shape.groups; ++g) total += sums[g * shape.channels + c];
      out[c] = R(total);
    }
  });
  return grad;
}

std::tuple<Tensor, Tensor, Tensor> norm_act_backward(const Tensor& grad_y, const Tensor& x, const Tensor& statistics,
                                                     const OptionalTensor& weight, const OptionalTensor& bias,
                                                     bool training, int64_t act, double alpha) {
  const Shape shape = shape_of(x, statistics.size(1));
  check_same_layout(grad_y, x, kCpu);
  Tensor grad_x = output_like(x, kCpu);
  const int64_t count = shape.groups * shape.channels;
  std::vector<double> sums(5 * count);  // sums [3, G, C], then means [2, G, C]
  with_compute_type(x, [&](auto s) {
    Arguments<decltype(s)> a(shape, x, statistics, weight, bias, std::nullopt, act, alpha);
    a.call.grad_y = grad_y.data_ptr();
    a.call.out = grad_x.data_ptr();
    a.backward_sums(kernels(x), sums.data());
    if (training) {
      double* const means = sums.data() + 3 * count;
      for (int64_t i = 0; i < 2 * count; ++i) means[i] = sums[i] / double(shape.batch * shape.space);
      a.set_gradient_means(means);
    }
    kernels(x).backward(a.call, parallel);
  });
  return {grad_x, parameter_gradient(weight, sums.data() + count, shape), parameter_gradient(bias, sums.data(), shape)};
}

Tensor norm_act_backward_sums(const Tensor& grad_y, const Tensor& x, const Tensor& statistics,
                              const OptionalTensor& weight, const OptionalTensor& bias, const OptionalTensor& slope,
                              int64_t act, double alpha) {
  const Shape shape = shape_of(x, statistics.size(1));
  check_same_layout(grad_y, x, kCpu);
  Tensor sums = output({3, shape.groups, shape.channels}, true, kCpu);
  with_compute_type(x, [&](auto s) {
    Arguments<decltype(s)> a(shape, x, statistics, weight, bias, slope, act, alpha);
    a.call.grad_y = grad_y.data_ptr();
    a.backward_sums(kernels(x), static_cast<double*>(sums.data_ptr()));
  });
  return sums;
}

Tensor norm_act_backward_apply(const Tensor& grad_y, const Tensor& x, const Tensor& statistics,
                               const OptionalTensor& weight, const OptionalTensor& bias, const OptionalTensor& slope,
                               const Tensor& means, int64_t act, double alpha) {
  const Shape shape = shape_of(x, statistics.size(1));
  check_same_layout(grad_y, x, kCpu);
  check_means(means, shape, kCpu);
  Tensor grad_x = output_like(x, kCpu);
  with_compute_type(x, [&](auto s) {
    Arguments<decltype(s)> a(shape, x, statistics, weight, bias, slope, act, alpha);
    a.call.grad_y = grad_y.data_ptr();
    a.call.out = grad_x.data_ptr();
    a.set_gradient_means(static_cast<const double*>(means.data_ptr()));
    kernels(x).backward(a.call, parallel);
  });
  return grad_x;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("norm_act", TORCH_BOX(&norm_act));
  m.impl("norm_act_backward", TORCH_BOX(&norm_act_backward));
  m.impl("norm_act_moments", TORCH_BOX(&norm_act_moments));
  m.impl("norm_act_apply", TORCH_BOX(&norm_act_apply));
  m.impl("norm_act_backward_sums", TORCH_BOX(&norm_act_backward_sums));
  m.impl("norm_act_backward_apply", TORCH_BOX(&norm_act_backward_apply));
}

}  // namespace fastgan
