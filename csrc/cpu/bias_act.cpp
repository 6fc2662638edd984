// The bias_act ops on CPU tensors: reads the tensors, prepares what a channel needs, runs the kernels.
// Python has validated the arguments and speaks to the user; the checks here only keep memory safe and numbers sane.
#include "bias_act.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "../include/bias_act_checks.h"
#include "capability.h"
#include "tensor.h"

namespace fastgan {
namespace {

const BiasActKernels& kernels(const Tensor& x) {
  static const BiasActKernels* const table = [] {
#if defined(__x86_64__)
    if (cpu_capability() == Capability::avx512) return avx512::bias_act_kernels;
    if (cpu_capability() == Capability::avx2) return avx2::bias_act_kernels;
#endif
    return baseline::bias_act_kernels;
  }();
  return table[int(storage_of(x))];
}

// The rows that a kernel walks. Column i of a row belongs to channel i % period / spread.
//
// Few channels leave most of a vector empty, so as many rows as fill whole vectors of 16 lanes, the most there are, are
// taken as one. Small contiguous planes do as well, and restart their sums at every channel: there a row is a sample.
struct Rows {
  int64_t channels, spread = 1, fold = 1;

  explicit Rows(const Shape& s) : channels(s.channels) {
    constexpr int64_t lanes = 16, planes = 64, enough_samples = 8;
    if (!s.channels_last && s.space < planes && s.batch >= enough_samples) spread = s.space;
    if ((s.channels_last || spread > 1) && period() < 4 * lanes) fold = lanes / std::gcd(period(), lanes);
  }
  int64_t period() const { return channels * spread; }
  int64_t columns() const { return period() * fold; }

  Shape of(Shape s) const {
    if (columns() == channels) return s;
    const int64_t elements = s.batch * s.channels * s.space;
    return {1, 1, columns(), elements / columns(), true, elements % columns()};
  }

  // The values of the channels [C] at [0, C), to all columns.
  template <class S>
  void expand(S* values) const {
    for (int64_t c = channels - 1; spread > 1 && c >= 0; --c) std::fill_n(values + c * spread, spread, S(values[c]));
    for (int64_t i = period(); i < columns(); ++i) values[i] = values[i - period()];
  }

  // Sums of the columns at [0, columns), to sums of the channels at [0, C).
  void merge(double* sums) const {
    for (int64_t row = period(); row < columns(); row += period())
      for (int64_t i = 0; i < period(); ++i) sums[i] += sums[row + i];
    for (int64_t c = 0; spread > 1 && c < channels; ++c) {
      double total = 0;
      for (int64_t i = 0; i < spread; ++i) total += sums[c * spread + i];
      sums[c] = total;
    }
  }
};

// A BiasAct and the memory that its pointers need.
template <class S>
struct Arguments {
  const Rows rows;
  BiasAct call;
  std::vector<S> memory;  // bias, slope [columns]

  Arguments(const Tensor& x, const OptionalTensor& bias, const OptionalTensor& slope, int64_t act, double alpha,
            double gain, double clamp)
      : Arguments(shape_of(x, 1), x, bias, slope, act, alpha, gain, clamp) {}

 private:
  Arguments(const Shape& shape, const Tensor& x, const OptionalTensor& bias, const OptionalTensor& slope, int64_t act,
            double alpha, double gain, double clamp)
      : rows(shape), memory(2 * rows.columns()) {
    check_bias_act(x, bias, slope, act, gain, clamp, kCpu);
    S* const bias_ = memory.data();
    S* const slope_ = bias_ + rows.columns();
    copy_values(bias, rows.channels, S(0), bias_);
    copy_values(slope, rows.channels, S(alpha), slope_, true);
    rows.expand(bias_);
    rows.expand(slope_);
    call = {rows.of(shape), int(act), x.data_ptr(), nullptr, nullptr, bias_, slope_, gain, clamp};
  }
};

// The sums of the backward pass, merged to channels.
struct Sums {
  std::vector<double> values;  // [2, columns], merged to their first C
  const double *bias = nullptr, *slope = nullptr;

  Sums(const Rows& rows, const BiasAct& call, void (*kernel)(const BiasAct&, double*, Parallel), bool wanted) {
    if (wanted) values.resize((Act(call.act) == Act::prelu ? 2 : 1) * rows.columns());
    kernel(call, wanted ? values.data() : nullptr, parallel);
    for (size_t at = 0; at < values.size(); at += rows.columns()) rows.merge(values.data() + at);
    if (!wanted) return;
    bias = values.data();
    slope = bias + rows.columns();
  }
};

// Writes `count` values, or where there is one, their sum.
Tensor parameter_gradient(int32_t dtype, int64_t count, const double* sums, int64_t channels) {
  Tensor grad = output({count}, dtype, kCpu);
  with_elements(grad, [&](auto* out) {
    using R = std::remove_reference_t<decltype(*out)>;
    for (int64_t c = 0; c < count; ++c)
      out[c] = R(count == channels ? sums[c] : std::accumulate(sums, sums + channels, 0.0));
  });
  return grad;
}

Tensor bias_act(const Tensor& x, const OptionalTensor& bias, const OptionalTensor& slope, int64_t act, double alpha,
                double gain, double clamp) {
  return with_compute_type(x, [&](auto s) {
    Arguments<decltype(s)> a(x, bias, slope, act, alpha, gain, clamp);
    Tensor y = output_like(x, kCpu);
    a.call.out = y.data_ptr();
    kernels(x).forward(a.call, parallel);
    return y;
  });
}

void bias_act_(Tensor x, const OptionalTensor& bias, int64_t act, double alpha) {
  with_compute_type(x, [&](auto s) {
    Arguments<decltype(s)> a(x, bias, std::nullopt, act, alpha, 1, kNoClamp);
    a.call.out = x.data_ptr();
    kernels(x).forward(a.call, parallel);
  });
}

std::tuple<Tensor, Tensor, Tensor> bias_act_backward(const Tensor& grad_y, const Tensor& x, const OptionalTensor& bias,
                                                     const OptionalTensor& slope, int64_t act, double alpha,
                                                     double gain, double clamp) {
  check_same_layout(grad_y, x, kCpu);
  return with_compute_type(x, [&](auto s) {
    Arguments<decltype(s)> a(x, bias, slope, act, alpha, gain, clamp);
    Tensor grad_x = output_like(x, kCpu);
    a.call.grad_y = grad_y.data_ptr();
    a.call.out = grad_x.data_ptr();
    const Sums sums(a.rows, a.call, kernels(x).backward, bias || slope);
    const auto gradient = [&](const OptionalTensor& p, const double* from) {
      return p ? parameter_gradient(dtype_of(*p), p->numel(), from, a.rows.channels) : output({0}, false, kCpu);
    };
    return std::make_tuple(grad_x, gradient(bias, sums.bias), gradient(slope, sums.slope));
  });
}

std::tuple<Tensor, Tensor> bias_act_backward_from_result(const Tensor& grad_y, const OptionalTensor& y, int64_t act,
                                                         double alpha, double gain,
                                                         std::optional<ScalarType> bias_dtype) {
  check_from_result(grad_y, y, act, bias_dtype, kCpu);
  return with_compute_type(grad_y, [&](auto s) {
    Arguments<decltype(s)> a(grad_y, std::nullopt, std::nullopt, act, alpha, gain, kNoClamp);
    Tensor grad_x = y ? output_like(*y, kCpu) : output({0}, dtype_of(grad_y), kCpu);
    a.call.grad_y = grad_y.data_ptr();
    a.call.kept = y ? y->data_ptr() : nullptr;
    a.call.out = y ? grad_x.data_ptr() : nullptr;
    const Sums sums(a.rows, a.call, kernels(grad_y).backward_from_result, bias_dtype.has_value());
    if (!bias_dtype) return std::make_tuple(grad_x, output({0}, false, kCpu));
    const int32_t dtype = *bias_dtype == grad_y.scalar_type() ? dtype_of(grad_y) : aoti_torch_dtype_float32();
    return std::make_tuple(grad_x, parameter_gradient(dtype, a.rows.channels, sums.bias, a.rows.channels));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("bias_act", TORCH_BOX(&bias_act));
  m.impl("bias_act_", TORCH_BOX(&bias_act_));
  m.impl("bias_act_backward", TORCH_BOX(&bias_act_backward));
  m.impl("bias_act_backward_from_result", TORCH_BOX(&bias_act_backward_from_result));
}

}  // namespace fastgan
