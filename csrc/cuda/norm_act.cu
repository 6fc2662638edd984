// The norm_act ops on CUDA tensors, in two kernels each way: sums, whose last block makes of them what the channels
// need, and the pass that applies it.
//
// Variances are taken about a pivot, a mean of a few values of the channel, which makes the sums of all blocks simply
// add up: a large mean costs no accuracy.
#include <tuple>

#include "../include/norm_act_checks.h"
#include "activations.cuh"
#include "reduce.cuh"

namespace fastgan::FASTGAN_ISA {
namespace {

constexpr int kPivotValues = 8;

struct Moments {
  Walk walk;
  Merging merging;
  const void* x;
  double* pivots;    // [G, C]
  double* moments;   // [2, G, C]: mean and biased variance
  void* statistics;  // [2, G, C] of the compute type: mean and 1 / sqrt(var + eps). Or null
  double eps, momentum;
  Written running_mean, running_var;
};

// Of the columns of a thread, from values that all blocks pick alike.
template <class T, int W>
__device__ void pick_pivots(const Walk& w, const Place& p, const void* x, Scalar<T> (&pivot)[W]) {
  using S = Scalar<T>;
  const int picked = w.values < kPivotValues ? int(w.values) : kPivotValues;
  const int64_t apart = quotient(w.values, picked);
  S total[W] = {};
  for (int i = 0; i < picked; ++i) {
    const Cursor cursor(w, p, i * apart);
    if (w.fold == 1) {
      const Pack<T, W> pack = load<W, T>(x, cursor.at);
#pragma unroll
      for (int k = 0; k < W; ++k) total[k] += S(pack.values[k]);
    } else {  // the first of a channel's columns stands for all
#pragma unroll
      for (int k = 0; k < W; ++k)
        total[k] += S(static_cast<const T*>(x)[cursor.at - p.column + (p.column + k) % w.channels]);
    }
  }
  if (!w.channels_last) {
    S all = 0;
    for (int k = 0; k < W; ++k) all += total[k];
    for (int k = 0; k < W; ++k) total[k] = all / S(W);
  }
#pragma unroll
  for (int k = 0; k < W; ++k) pivot[k] = total[k] / S(picked);
}

__device__ inline void finish_moments(const Moments& call, int64_t group, int64_t channel, const double (&sums)[2],
                                      bool float64) {
  const Walk& w = call.walk;
  const int64_t at = group * w.channels + channel, count = w.groups * w.channels;
  const double values = double(w.elements_of_a_channel()), shift = sums[0] / values;
  const double mean = read_fresh(call.pivots + at) + shift;
  double var = sums[1] / values - shift * shift;
  if (var < 0) var = 0;
  call.moments[at] = mean;
  call.moments[count + at] = var;
  if (call.statistics == nullptr) return;
  const double rstd = 1 / sqrt(var + call.eps);
  if (float64) {
    static_cast<double*>(call.statistics)[at] = mean;
    static_cast<double*>(call.statistics)[count + at] = rstd;
  } else {
    static_cast<float*>(call.statistics)[at] = float(mean);
    static_cast<float*>(call.statistics)[count + at] = float(rstd);
  }
}

// One update for each group, in their order.
__device__ inline void update_running(const Moments& call, const Scope& scope) {
  const Walk& w = call.walk;
  const int64_t count = w.groups * w.channels;
  const double values = double(w.elements_of_a_channel());
  const double unbiased = values / (values - 1), kept = 1 - call.momentum;
  for (int64_t c = scope.channel + threadIdx.x; c < scope.end_channel; c += kThreads)
    for (int64_t g = 0; g < w.groups; ++g) {
      const double* const mean = call.moments + g * w.channels + c;
      call.running_mean.set(c, kept * call.running_mean.value(c) + call.momentum * mean[0]);
      call.running_var.set(c, kept * call.running_var.value(c) + call.momentum * unbiased * mean[count]);
    }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads, 2) moments_kernel(Moments call) {
  using S = Scalar<T>;
  const Walk& w = call.walk;
  __shared__ Totals<2, W> totals;
  for (int64_t item = blockIdx.x; item < w.items(); item += gridDim.x) {
    const Place p = place_of(w, item, threadIdx.x);
    S pivot[W];
    pick_pivots<T, W>(w, p, call.x, pivot);
    Sums<S, 2, W> sums(totals);
    over_values<4>(
        w, p, [&](int64_t at) { return load<W, T>(call.x, at); },
        [&](const Pack<T, W>& x, int64_t) {
#pragma unroll
          for (int k = 0; k < W; ++k) {
            const S d = S(x.values[k]) - pivot[k];
            sums.part[0][k] += d;
            sums.part[1][k] += d * d;
          }
        },
        [&] { sums.flush(); });
    if (p.chunk == 0 && int(threadIdx.x) < w.lanes && p.begin < p.end)
      for (int k = 0; k < W; ++k)
        if (w.channels_last ? p.column + k < w.channels : k == 0)
          call.pivots[p.group * w.channels + p.channel(w, k)] = double(pivot[k]);
    sum_item(w, p, totals, call.merging.parts);
    const Scope scope = call.merging.scope_of(w, p);
    if (!is_last(scope.counter, scope.items)) continue;
    merge<2>(w, scope, call.merging.parts, [&](int64_t g, int64_t c, const double (&v)[2]) {
      finish_moments(call, g, c, v, sizeof(T) == sizeof(double));
    });
    if (call.running_mean.data != nullptr) update_running(call, scope);
  }
}

struct NormAct {
  Walk walk;
  int act;
  const void *x, *grad_y;
  void* out;         // y, or the gradient of x
  void* statistics;  // [2, G, C]
  Parameter weight, bias, slope;
  // Forward only: where these are given the statistics are made of them.
  Parameter running_mean, running_var;
  double eps;
  // Backward only: means times `values` over a group of g = dL/dz and of g xhat, [2, G, C]. Null: the statistics are
  // constants.
  const double* means;
  double values;
};

// z = (x - mean) scale + bias, of the columns of a thread.
template <class S, int W, unsigned among>
struct Columns {
  static constexpr bool kSlopes = (among & kPrelu) != 0;  // else one number serves all channels
  S mean[W], scale[W], bias[W], slopes[kSlopes ? W : 1];
  S offset[W], inclined[W];  // dL/dx = g scale - offset - (x - mean) inclined

  __device__ __forceinline__ S slope(int k) const { return slopes[kSlopes ? k : 0]; }

  __device__ __forceinline__ Columns(const NormAct& call, const Place& p, bool backward) {
    const Walk& w = call.walk;
    const int64_t count = w.groups * w.channels;
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (k > 0 && !w.channels_last) {
        mean[k] = mean[0], scale[k] = scale[0], bias[k] = bias[0];
        if constexpr (kSlopes) slopes[k] = slopes[0];
        offset[k] = offset[0], inclined[k] = inclined[0];
        continue;
      }
      const int64_t c = p.channel(w, k), at = p.group * w.channels + c;
      S* const statistics = static_cast<S*>(call.statistics);
      S rstd;
      if (call.running_mean.data == nullptr) {
        mean[k] = statistics[at];
        rstd = statistics[count + at];
      } else {
        mean[k] = call.running_mean.value<S>(c);
        rstd = S(1) / sqrt(call.running_var.value<S>(c) + S(call.eps));
        if (p.chunk == 0 && int(threadIdx.x) < w.lanes && p.begin < p.end) {
          statistics[at] = mean[k];
          statistics[count + at] = rstd;
        }
      }
      scale[k] = rstd * call.weight.value<S>(c);
      bias[k] = call.bias.value<S>(c);
      if (kSlopes || k == 0) slopes[kSlopes ? k : 0] = call.slope.value<S>(c);
      offset[k] = inclined[k] = 0;
      if (backward && call.means != nullptr) {
        offset[k] = S(double(scale[k]) * (call.means[at] / call.values));
        inclined[k] = S(double(scale[k] * rstd) * (call.means[count + at] / call.values));
      }
    }
  }
};

// The second pass over a tensor starts where the first one ended: that part is still in the cache.
__device__ inline int64_t from_the_end(const Walk& w, int64_t item) { return w.items() - 1 - item; }

template <class T, int W, unsigned among>
__global__ void __launch_bounds__(kThreads) apply_kernel(NormAct call) {
  using S = Scalar<T>;
  const Walk& w = call.walk;
  for (int64_t item = blockIdx.x; item < w.items(); item += gridDim.x) {
    const Place p = place_of(w, from_the_end(w, item), threadIdx.x);
    const Columns<S, W, among> c(call, p, false);
    over_values<2>(
        w, p, [&](int64_t at) { return load<W, T>(call.x, at); },
        [&](const Pack<T, W>& x, int64_t at) {
          Pack<T, W> y;
          with_activation<among>(call.act, [&](auto act) {
#pragma unroll
            for (int k = 0; k < W; ++k) {
              const S z = (S(x.values[k]) - c.mean[k]) * c.scale[k] + c.bias[k];
              y.values[k] = T(activation<act.value>(z, c.slope(k)));
            }
          });
          store(call.out, at, y);
        },
        [] {});
  }
}

template <class T, int W>
struct Loaded {
  Pack<T, W> grad, x;
};

// g = dL/dz, (x - mean), and what prelu's slope receives, of one element.
template <class S>
struct Terms {
  S g, centred, slope;
};
template <Act A, class T, int W, class S, unsigned among>
__device__ __forceinline__ Terms<S> terms_of(const Loaded<T, W>& loaded, const Columns<S, W, among>& c, int k) {
  const S grad = S(loaded.grad.values[k]), centred = S(loaded.x.values[k]) - c.mean[k];
  const S z = centred * c.scale[k] + c.bias[k];
  Terms<S> t{grad * derivative<A>(z, c.slope(k)), centred, S(0)};
  if constexpr (A == Act::prelu) t.slope = z > S(0) ? S(0) : grad * z;
  return t;
}

struct BackwardSums {
  NormAct norm;
  Merging merging;
  double* sums;  // [3, G, C]: of g, of g xhat, and of what prelu's slope receives
  Written grad_weight, grad_bias;
};

template <class T, int W, unsigned among>
__global__ void __launch_bounds__(kThreads, 2) backward_sums_kernel(BackwardSums call) {
  using S = Scalar<T>;
  constexpr int K = (among & kPrelu) != 0 ? 3 : 2;
  const NormAct& norm = call.norm;
  const Walk& w = norm.walk;
  const int64_t count = w.groups * w.channels;
  __shared__ Totals<K, W> totals;
  for (int64_t item = blockIdx.x; item < w.items(); item += gridDim.x) {
    const Place p = place_of(w, item, threadIdx.x);
    Sums<S, K, W> sums(totals);
    {
      const Columns<S, W, among> c(norm, p, false);
      constexpr int loads = W == 8 ? 1 : 2;  // more would not fit into the registers
      over_values<loads>(
          w, p, [&](int64_t at) { return Loaded<T, W>{load<W, T>(norm.grad_y, at), load<W, T>(norm.x, at)}; },
          [&](const Loaded<T, W>& loaded, int64_t) {
            with_activation<among>(norm.act, [&](auto act) {
#pragma unroll
              for (int k = 0; k < W; ++k) {
                const Terms<S> t = terms_of<act.value>(loaded, c, k);
                sums.part[0][k] += t.g;
                sums.part[1][k] += t.g * t.centred;
                if constexpr (K == 3) sums.part[2][k] += t.slope;
              }
            });
          },
          [&] { sums.flush(); });
    }
    sum_item(w, p, totals, call.merging.parts);
    const Scope scope = call.merging.scope_of(w, p);
    if (!is_last(scope.counter, scope.items)) continue;
    merge<K>(w, scope, call.merging.parts, [&](int64_t g, int64_t c, const double (&v)[K]) {
      const int64_t at = g * w.channels + c;
      call.sums[at] = v[0];
      call.sums[count + at] = v[1] * double(static_cast<const S*>(norm.statistics)[count + at]);
      call.sums[2 * count + at] = K == 3 ? v[K - 1] : 0.;
    });
    for (int64_t c = scope.channel + threadIdx.x; c < scope.end_channel; c += kThreads) {
      double weight = 0, bias = 0;
      for (int64_t g = 0; g < w.groups && (call.grad_weight.data != nullptr || call.grad_bias.data != nullptr); ++g) {
        bias += call.sums[g * w.channels + c];
        weight += call.sums[count + g * w.channels + c];
      }
      if (call.grad_weight.data != nullptr) call.grad_weight.set(c, weight);
      if (call.grad_bias.data != nullptr) call.grad_bias.set(c, bias);
    }
  }
}

template <class T, int W, unsigned among>
__global__ void __launch_bounds__(kThreads) backward_apply_kernel(NormAct call) {
  using S = Scalar<T>;
  const Walk& w = call.walk;
  for (int64_t item = blockIdx.x; item < w.items(); item += gridDim.x) {
    const Place p = place_of(w, from_the_end(w, item), threadIdx.x);
    const Columns<S, W, among> c(call, p, true);
    over_values<2>(
        w, p, [&](int64_t at) { return Loaded<T, W>{load<W, T>(call.grad_y, at), load<W, T>(call.x, at)}; },
        [&](const Loaded<T, W>& loaded, int64_t at) {
          Pack<T, W> out;
          with_activation<among>(call.act, [&](auto act) {
#pragma unroll
            for (int k = 0; k < W; ++k) {
              const Terms<S> t = terms_of<act.value>(loaded, c, k);
              out.values[k] = T(t.g * c.scale[k] - c.offset[k] - t.centred * c.inclined[k]);
            }
          });
          store(call.out, at, out);
        },
        [] {});
  }
}

// A tensor cut for sums, or for a pass that applies something.
Walk cut(const Tensor& x, const Shape& shape, bool sums, bool aligned, const Queue& queue, int wide = 0) {
  const int64_t items = (sums ? 2 : 8) * queue.multiprocessors();
  if (wide == 0) wide = int(16 / x.element_size());
  return walk_of(shape, wide, aligned, kThreads, items, sums ? 16 : 4);
}

// moments [2, G, C]; statistics and running statistics where they are given.
void compute_moments(const Tensor& x, const Shape& shape, const Tensor& moments, const OptionalTensor& statistics,
                     const OptionalTensor& running_mean, const OptionalTensor& running_var, double momentum, double eps,
                     const Queue& queue) {
  const Walk walk = cut(x, shape, true, is_aligned(x.data_ptr()), queue);
  const Reduction reduction(walk, 2, running_mean.has_value(), queue);
  const Tensor pivots = scratch(shape.groups * shape.channels, queue);
  Moments call{walk,
               reduction.merging(),
               x.data_ptr(),
               static_cast<double*>(pivots.data_ptr()),
               static_cast<double*>(moments.data_ptr()),
               statistics ? statistics->data_ptr() : nullptr,
               eps,
               momentum,
               written(running_mean),
               written(running_var)};
  with_storage(x, [&](auto t) {
    using T = decltype(t);
    queue.launch(walk.width == 1 ? moments_kernel<T, 1> : moments_kernel<T, kWide<T>>, walk.items(), call);
  });
}

// What the passes have in common. The walk and the tensors beside x are still to come.
NormAct call_of(const Shape& shape, const Tensor& x, const Tensor& statistics, const OptionalTensor& weight,
                const OptionalTensor& bias, const OptionalTensor& slope, int64_t act, double alpha,
                const Queue& queue) {
  check_statistics(statistics, x, shape, queue.device);
  check_activation(act);
  NormAct call = {};
  call.act = int(act);
  call.x = x.data_ptr();
  call.statistics = statistics.data_ptr();
  call.weight = parameter(weight, shape.channels, 1, queue);
  call.bias = parameter(bias, shape.channels, 0, queue);
  call.slope = parameter(slope, shape.channels, alpha, queue, true);
  return call;
}

void apply(const Shape& shape, const Tensor& x, const Tensor& y, NormAct& call, const Queue& queue) {
  call.out = y.data_ptr();
  call.walk = cut(x, shape, false, is_aligned(call.x) && is_aligned(call.out), queue);
  with_storage(x, [&](auto t) {
    using T = decltype(t);
    with_family<T, false>(call.walk, call.act, [&](auto width, auto among) {
      queue.launch(apply_kernel<T, width.value, among.value>, call.walk.items(), call);
    });
  });
}

void sum_backward(const Shape& shape, const Tensor& grad_y, const Tensor& x, NormAct& call, const Tensor& sums,
                  const OptionalTensor& grad_weight, const OptionalTensor& grad_bias, const Queue& queue) {
  call.grad_y = grad_y.data_ptr();
  const bool prelu = Act(call.act) == Act::prelu;
  const int wide = int(prelu ? std::min<size_t>(kMostWideOfPrelu, 16 / x.element_size()) : 16 / x.element_size());
  call.walk = cut(x, shape, true, is_aligned(call.x) && is_aligned(call.grad_y), queue, wide);
  const Reduction reduction(call.walk, prelu ? 3 : 2, grad_weight || grad_bias, queue);
  const BackwardSums all{call, reduction.merging(), static_cast<double*>(sums.data_ptr()), written(grad_weight),
                         written(grad_bias)};
  with_storage(x, [&](auto t) {
    using T = decltype(t);
    with_family<T, true>(call.walk, call.act, [&](auto width, auto among) {
      queue.launch(backward_sums_kernel<T, width.value, among.value>, call.walk.items(), all);
    });
  });
}

void apply_backward(const Shape& shape, const Tensor& grad_y, const Tensor& x, const Tensor& grad_x, NormAct& call,
                    const Queue& queue) {
  call.grad_y = grad_y.data_ptr();
  call.out = grad_x.data_ptr();
  const bool aligned = is_aligned(call.x) && is_aligned(call.grad_y) && is_aligned(call.out);
  call.walk = cut(x, shape, false, aligned, queue);
  with_storage(x, [&](auto t) {
    using T = decltype(t);
    with_family<T, false>(call.walk, call.act, [&](auto width, auto among) {
      queue.launch(backward_apply_kernel<T, width.value, among.value>, call.walk.items(), call);
    });
  });
}

std::tuple<Tensor, Tensor> norm_act(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                                    const OptionalTensor& slope, const OptionalTensor& running_mean,
                                    const OptionalTensor& running_var, int64_t groups, double momentum, double eps,
                                    int64_t act, double alpha) {
  const Queue queue(x);
  const Shape shape =
      check_norm_act(x, weight, bias, slope, running_mean, running_var, groups, momentum, eps, act, queue.device);
  const Tensor statistics = output({2, shape.groups, shape.channels}, is_double(x), queue.device);
  const Tensor y = output_like(x, queue.device);
  NormAct call = call_of(shape, x, statistics, weight, bias, slope, act, alpha, queue);
  if (groups > 0) {
    const Tensor moments = scratch(2 * shape.groups * shape.channels, queue);
    compute_moments(x, shape, moments, statistics, running_mean, running_var, momentum, eps, queue);
  } else {
    call.running_mean = parameter(running_mean, shape.channels, 0, queue);
    call.running_var = parameter(running_var, shape.channels, 0, queue);
    call.eps = eps;
  }
  apply(shape, x, y, call, queue);
  return {y, statistics};
}

std::tuple<Tensor, Tensor, Tensor> norm_act_backward(const Tensor& grad_y, const Tensor& x, const Tensor& statistics,
                                                     const OptionalTensor& weight, const OptionalTensor& bias,
                                                     bool training, int64_t act, double alpha) {
  const Queue queue(x);
  const Shape shape = shape_of(x, statistics.size(1));
  check_same_layout(grad_y, x, queue.device);
  NormAct call = call_of(shape, x, statistics, weight, bias, std::nullopt, act, alpha, queue);
  const auto gradient = [&](const OptionalTensor& p) {
    return p ? output_like(*p, queue.device) : output({0}, false, queue.device);
  };
  const Tensor grad_x = output_like(x, queue.device), grad_weight = gradient(weight), grad_bias = gradient(bias);
  const Tensor sums = scratch(3 * shape.groups * shape.channels, queue);
  if (training || weight || bias) sum_backward(shape, grad_y, x, call, sums, grad_weight, grad_bias, queue);
  if (training) {
    call.means = static_cast<const double*>(sums.data_ptr());
    call.values = double(shape.batch * shape.space);
  }
  apply_backward(shape, grad_y, x, grad_x, call, queue);
  return {grad_x, grad_weight, grad_bias};
}

Tensor norm_act_moments(const Tensor& x, int64_t groups) {
  const Queue queue(x);
  const Shape shape = shape_of(x, groups);
  const Tensor moments = output({2, shape.groups, shape.channels}, true, queue.device);
  compute_moments(x, shape, moments, std::nullopt, std::nullopt, std::nullopt, 0, 0, queue);
  return moments;
}

Tensor norm_act_apply(const Tensor& x, const Tensor& statistics, const OptionalTensor& weight,
                      const OptionalTensor& bias, const OptionalTensor& slope, int64_t act, double alpha) {
  const Queue queue(x);
  const Shape shape = shape_of(x, statistics.size(1));
  const Tensor y = output_like(x, queue.device);
  NormAct call = call_of(shape, x, statistics, weight, bias, slope, act, alpha, queue);
  apply(shape, x, y, call, queue);
  return y;
}

Tensor norm_act_backward_sums(const Tensor& grad_y, const Tensor& x, const Tensor& statistics,
                              const OptionalTensor& weight, const OptionalTensor& bias, const OptionalTensor& slope,
                              int64_t act, double alpha) {
  const Queue queue(x);
  const Shape shape = shape_of(x, statistics.size(1));
  check_same_layout(grad_y, x, queue.device);
  const Tensor sums = output({3, shape.groups, shape.channels}, true, queue.device);
  NormAct call = call_of(shape, x, statistics, weight, bias, slope, act, alpha, queue);
  sum_backward(shape, grad_y, x, call, sums, std::nullopt, std::nullopt, queue);
  return sums;
}

Tensor norm_act_backward_apply(const Tensor& grad_y, const Tensor& x, const Tensor& statistics,
                               const OptionalTensor& weight, const OptionalTensor& bias, const OptionalTensor& slope,
                               const Tensor& means, int64_t act, double alpha) {
  const Queue queue(x);
  const Shape shape = shape_of(x, statistics.size(1));
  check_same_layout(grad_y, x, queue.device);
  check_means(means, shape, queue.device);
  const Tensor grad_x = output_like(x, queue.device);
  NormAct call = call_of(shape, x, statistics, weight, bias, slope, act, alpha, queue);
  call.means = static_cast<const double*>(means.data_ptr());
  call.values = 1;
  apply_backward(shape, grad_y, x, grad_x, call, queue);
  return grad_x;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, FASTGAN_DEVICE, m) {
  m.impl("norm_act", TORCH_BOX(&norm_act));
  m.impl("norm_act_backward", TORCH_BOX(&norm_act_backward));
  m.impl("norm_act_moments", TORCH_BOX(&norm_act_moments));
  m.impl("norm_act_apply", TORCH_BOX(&norm_act_apply));
  m.impl("norm_act_backward_sums", TORCH_BOX(&norm_act_backward_sums));
  m.impl("norm_act_backward_apply", TORCH_BOX(&norm_act_backward_apply));
}

}  // namespace fastgan::FASTGAN_ISA
