// The bias_act ops on CUDA tensors: one kernel forward, and one backward, whose last block adds up the sums.
#include <limits>
#include <tuple>

#include "../include/bias_act_checks.h"
#include "activations.cuh"
#include "reduce.cuh"

namespace fastgan::FASTGAN_ISA {
namespace {

// y = clamp(activation(x + bias) * gain, -clamp, clamp).
struct BiasAct {
  Walk walk;
  int act;
  const void* kept;    // x, or y where the derivative comes from the result; null where it needs neither
  const void* grad_y;  // backward only
  void* out;           // y, or the gradient of x. Null: not wanted
  Parameter bias, slope;
  double gain, clamp;  // clamp infinite: none
};

// The parameters of the columns of a thread.
template <class S, int W>
struct Columns {
  S bias[W], slope[W], gain, limit;

  __device__ __forceinline__ Columns(const BiasAct& call, const Place& p) : gain(S(call.gain)), limit(S(call.clamp)) {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (k > 0 && !call.walk.channels_last) {
        bias[k] = bias[0], slope[k] = slope[0];
        continue;
      }
      const int64_t c = p.channel(call.walk, k);
      bias[k] = call.bias.value<S>(c);
      slope[k] = call.slope.value<S>(c);
    }
  }
};

// Comparisons are written so that a NaN passes through.
template <class S>
FASTGAN_INLINE S limited(S y, S limit) {
  return y > limit ? limit : y < -limit ? -limit : y;
}

template <class T, int W, unsigned among>
__global__ void __launch_bounds__(kThreads) forward_kernel(BiasAct call) {
  using S = Scalar<T>;
  const Walk& w = call.walk;
  for (int64_t item = blockIdx.x; item < w.items(); item += gridDim.x) {
    const Place p = place_of(w, item, threadIdx.x);
    const Columns<S, W> c(call, p);
    over_values<2>(
        w, p, [&](int64_t at) { return load<W, T>(call.kept, at); },
        [&](const Pack<T, W>& x, int64_t at) {
          Pack<T, W> y;
          with_activation<among>(call.act, [&](auto act) {
#pragma unroll
            for (int k = 0; k < W; ++k) {
              const S a = activation<act.value>(S(x.values[k]) + c.bias[k], c.slope[k]);
              y.values[k] = T(limited(a * c.gain, c.limit));
            }
          });
          store(call.out, at, y);
        },
        [] {});
  }
}

template <class T, int W>
struct Loaded {
  Pack<T, W> grad, kept;
};

// dL/dz, z = x + bias, and what prelu's slope receives, of one element.
template <class S>
struct Terms {
  S g, slope;
};
// ReLU stops a gradient that is infinite too, as in PyTorch.
template <Act A, class S>
FASTGAN_INLINE S through(S grad, S derivative) {
  return A == Act::relu ? (derivative == S(0) ? S(0) : grad) : grad * derivative;
}
template <Act A, bool from_result, class T, int W, class S>
__device__ __forceinline__ Terms<S> terms_of(const Loaded<T, W>& loaded, const Columns<S, W>& c, int k) {
  S grad = S(loaded.grad.values[k]) * c.gain;
  if constexpr (from_result && A == Act::none) {
    return {grad, S(0)};
  } else if constexpr (from_result) {
    return {through<A>(grad, derivative_from_result<A>(S(loaded.kept.values[k]), c.slope[k])), S(0)};
  } else {
    const S z = S(loaded.kept.values[k]) + c.bias[k], y = activation<A>(z, c.slope[k]) * c.gain;
    // At the clamp itself the gradient passes, as in PyTorch.
    const bool open = (y >= -c.limit && y <= c.limit) || isinf(c.limit);
    grad = open ? grad : S(0);
    Terms<S> t{open ? through<A>(grad, derivative<A>(z, c.slope[k])) : S(0), S(0)};
    if constexpr (A == Act::prelu) t.slope = z > S(0) ? S(0) : grad * z;
    return t;
  }
}

struct Backward {
  BiasAct bias_act;
  Merging merging;
  bool sums;           // whether any are wanted
  bool one_slope;      // a slope that is shared by all channels
  double* slope_sums;  // [C], for that
  Written grad_bias, grad_slope;
};

template <class T, int W, unsigned among, bool from_result>
__global__ void __launch_bounds__(kThreads, 2) backward_kernel(Backward call) {
  using S = Scalar<T>;
  constexpr int K = (among & kPrelu) != 0 ? 2 : 1;
  const BiasAct& bias_act = call.bias_act;
  const Walk& w = bias_act.walk;
  __shared__ Totals<K, W> totals;
  for (int64_t item = blockIdx.x; item < w.items(); item += gridDim.x) {
    const Place p = place_of(w, item, threadIdx.x);
    Sums<S, K, W> sums(totals);
    {
      const Columns<S, W> c(bias_act, p);
      over_values<2>(
          w, p,
          [&](int64_t at) {
            Loaded<T, W> loaded;
            loaded.grad = load<W, T>(bias_act.grad_y, at);
            if (!from_result || bias_act.kept != nullptr) loaded.kept = load<W, T>(bias_act.kept, at);
            return loaded;
          },
          [&](const Loaded<T, W>& loaded, int64_t at) {
            Pack<T, W> out;
            with_activation<among>(bias_act.act, [&](auto act) {
#pragma unroll
              for (int k = 0; k < W; ++k) {
                const Terms<S> t = terms_of<act.value, from_result>(loaded, c, k);
                out.values[k] = T(t.g);
                sums.part[0][k] += t.g;
                if constexpr (K == 2) sums.part[1][k] += t.slope;
              }
            });
            if (bias_act.out != nullptr) store(bias_act.out, at, out);
          },
          [&] { sums.flush(); });
    }
    if (!call.sums) continue;
    sum_item(w, p, totals, call.merging.parts);
    const Scope scope = call.merging.scope_of(w, p);
    if (!is_last(scope.counter, scope.items)) continue;
    merge<K>(w, scope, call.merging.parts, [&](int64_t, int64_t c, const double (&v)[K]) {
      if (call.grad_bias.data != nullptr) call.grad_bias.set(c, v[0]);
      if constexpr (K == 2) {
        if (call.one_slope) {
          call.slope_sums[c] = v[1];
        } else {
          call.grad_slope.set(c, v[1]);
        }
      }
    });
    if constexpr (K == 2) {
      if (!call.one_slope) continue;
      double total[1] = {};
      for (int64_t c = threadIdx.x; c < w.channels; c += kThreads) total[0] += call.slope_sums[c];
      sum_slices(1, kThreads, total);
      if (threadIdx.x == 0) call.grad_slope.set(0, total[0]);
    }
  }
}

BiasAct call_of(const Shape& shape, const Tensor& x, const OptionalTensor& bias, const OptionalTensor& slope,
                int64_t act, double alpha, double gain, double clamp, const Queue& queue) {
  check_bias_act(x, bias, slope, act, gain, clamp, queue.device);
  BiasAct call = {};
  call.act = int(act);
  call.kept = x.data_ptr();
  call.bias = parameter(bias, shape.channels, 0, queue);
  call.slope = parameter(slope, shape.channels, alpha, queue, true);
  call.gain = gain;
  call.clamp = clamp;
  return call;
}

// `sums`: a tensor is cut for sums.
Walk cut(const Tensor& x, const Shape& shape, const BiasAct& call, bool sums, const Queue& queue) {
  const bool aligned = is_aligned(call.kept) && is_aligned(call.grad_y) && is_aligned(call.out);
  const int wide = int(16 / x.element_size());
  const bool prelu = call.grad_y != nullptr && Act(call.act) == Act::prelu;
  return walk_of(shape, prelu ? std::min(wide, kMostWideOfPrelu) : wide, aligned, kThreads,
                 (sums ? 2 : 8) * queue.multiprocessors(), sums ? 16 : 4);
}

void run_forward(const Shape& shape, const Tensor& x, const Tensor& y, BiasAct& call, const Queue& queue) {
  call.out = y.data_ptr();
  call.walk = cut(x, shape, call, false, queue);
  with_storage(x, [&](auto t) {
    using T = decltype(t);
    with_family<T, false>(call.walk, call.act, [&](auto width, auto among) {
      queue.launch(forward_kernel<T, width.value, among.value>, call.walk.items(), call);
    });
  });
}

template <bool from_result>
void run_backward(const Shape& shape, const Tensor& grad_y, BiasAct& call, const OptionalTensor& grad_bias,
                  const OptionalTensor& grad_slope, const Queue& queue) {
  const bool sums = grad_bias || grad_slope;
  call.grad_y = grad_y.data_ptr();
  call.walk = cut(grad_y, shape, call, sums, queue);
  const bool one_slope = grad_slope && grad_slope->numel() == 1;
  const Reduction reduction(call.walk, sums ? (Act(call.act) == Act::prelu ? 2 : 1) : 0, false, queue, one_slope);
  const Tensor slope_sums = scratch(one_slope ? shape.channels : 0, queue);
  const Backward all{call,
                     reduction.merging(),
                     sums,
                     one_slope,
                     static_cast<double*>(slope_sums.data_ptr()),
                     written(grad_bias),
                     written(grad_slope)};
  with_storage(grad_y, [&](auto t) {
    using T = decltype(t);
    with_family<T, true>(call.walk, call.act, [&](auto width, auto among) {
      // The result does not have the derivatives of prelu and silu.
      constexpr unsigned known = from_result ? among.value & ~(kPrelu | 1u << int(Act::silu)) : among.value;
      if constexpr (known != 0)
        queue.launch(backward_kernel<T, width.value, known, from_result>, call.walk.items(), all);
    });
  });
}

Tensor bias_act(const Tensor& x, const OptionalTensor& bias, const OptionalTensor& slope, int64_t act, double alpha,
                double gain, double clamp) {
  const Queue queue(x);
  const Shape shape = shape_of(x, 1);
  BiasAct call = call_of(shape, x, bias, slope, act, alpha, gain, clamp, queue);
  const Tensor y = output_like(x, queue.device);
  run_forward(shape, x, y, call, queue);
  return y;
}

void bias_act_(Tensor x, const OptionalTensor& bias, int64_t act, double alpha) {
  const Queue queue(x);
  const Shape shape = shape_of(x, 1);
  BiasAct call = call_of(shape, x, bias, std::nullopt, act, alpha, 1, kNoClamp, queue);
  run_forward(shape, x, x, call, queue);
}

std::tuple<Tensor, Tensor, Tensor> bias_act_backward(const Tensor& grad_y, const Tensor& x, const OptionalTensor& bias,
                                                     const OptionalTensor& slope, int64_t act, double alpha,
                                                     double gain, double clamp) {
  const Queue queue(x);
  const Shape shape = shape_of(x, 1);
  check_same_layout(grad_y, x, queue.device);
  BiasAct call = call_of(shape, x, bias, slope, act, alpha, gain, clamp, queue);
  const auto gradient = [&](const OptionalTensor& p) -> OptionalTensor {
    if (!p) return std::nullopt;
    return output({p->numel()}, dtype_of(*p), queue.device);
  };
  const auto or_empty = [&](const OptionalTensor& t) { return t ? *t : output({0}, false, queue.device); };
  const Tensor grad_x = output_like(x, queue.device);
  const OptionalTensor grad_bias = gradient(bias), grad_slope = gradient(slope);
  call.out = grad_x.data_ptr();
  run_backward<false>(shape, grad_y, call, grad_bias, grad_slope, queue);
  return {grad_x, or_empty(grad_bias), or_empty(grad_slope)};
}

std::tuple<Tensor, Tensor> bias_act_backward_from_result(const Tensor& grad_y, const OptionalTensor& y, int64_t act,
                                                         double alpha, double gain,
                                                         std::optional<ScalarType> bias_dtype) {
  const Queue queue(grad_y);
  check_from_result(grad_y, y, act, bias_dtype, queue.device);
  const Shape shape = shape_of(grad_y, 1);
  BiasAct call = call_of(shape, grad_y, std::nullopt, std::nullopt, act, alpha, gain, kNoClamp, queue);
  const Tensor grad_x = y ? output_like(*y, queue.device) : output({0}, dtype_of(grad_y), queue.device);
  const bool same = bias_dtype && *bias_dtype == grad_y.scalar_type();
  const Tensor grad_bias =
      output({bias_dtype ? shape.channels : 0}, same ? dtype_of(grad_y) : aoti_torch_dtype_float32(), queue.device);
  call.kept = y ? y->data_ptr() : nullptr;
  call.out = y ? grad_x.data_ptr() : nullptr;
  if (y || bias_dtype)
    run_backward<true>(shape, grad_y, call, bias_dtype ? OptionalTensor(grad_bias) : std::nullopt, std::nullopt, queue);
  return {grad_x, grad_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, FASTGAN_DEVICE, m) {
  m.impl("bias_act", TORCH_BOX(&bias_act));
  m.impl("bias_act_", TORCH_BOX(&bias_act_));
  m.impl("bias_act_backward", TORCH_BOX(&bias_act_backward));
  m.impl("bias_act_backward_from_result", TORCH_BOX(&bias_act_backward_from_result));
}

}  // namespace fastgan::FASTGAN_ISA
