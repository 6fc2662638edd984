// The gan_loss op on CUDA tensors. One kernel sums over the logits of both sides and writes their gradients, and its
// last block makes the loss of the sums; relativistic_average needs it three times.
#include <tuple>

#include "../include/gan_sides.h"
#include "reduce.cuh"
// After vec.cuh, whose functions it takes.
#include "../include/gan_loss.h"

namespace fastgan::FASTGAN_ISA {
namespace {

constexpr int kSums = 4;  // terms, what is logged of x and of -x, how many are on their right side
constexpr int64_t kLogitsOfABlock = 8192;

// What a kernel of relativistic_average is for; all other losses are done in the last.
enum Pass : int { means_of_logits, slopes, gradients };

struct Call {
  GanKind kind;
  GanSide sides[2];
  double factor[2];
  int first, pass, last_pass;
  double* parts;  // [blocks, 2, kSums], and after them what one pass leaves to the next: [2, kSums]
  double* state;
  int* counter;
  void *scalar, *means;  // of the compute type
};

template <Term K, class T>
__device__ void sum_side(const GanSide& side, double (&total)[kSums]) {
  using S = Scalar<T>;
  const int64_t stride = int64_t(gridDim.x) * kThreads;
  const S shift = S(side.shift), scale = S(side.scale), offset = S(side.offset), threshold = S(side.threshold);
  S part[kSums] = {};
  int stretch = 0;
  for (int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x; at < side.count; at += stride) {
    S x = S(static_cast<const T*>(side.x)[at]);
    if (side.against != nullptr) x -= S(static_cast<const T*>(side.against)[at]);
    x -= shift;
    S t = S(side.target);
    if (side.random != nullptr) t = target(side.real, S(side.random[at]), S(side.noise[at]), side.labels);
    const Evaluated<S> e = evaluate<K>(x, t);
    if (side.grad != nullptr) {
      const S grad = scale * e.derivative + offset;
      static_cast<S*>(side.grad)[at] = grad;
      if (side.grad_against != nullptr) static_cast<S*>(side.grad_against)[at] = -grad;
    }
    part[0] += e.term;
    part[1] += e.logged;
    part[2] += e.negated;
    part[3] += side.real ? x > threshold : x < threshold;
    if (++stretch == kStretch) {
      for (int k = 0; k < kSums; ++k) total[k] += double(part[k]);
      for (int k = 0; k < kSums; ++k) part[k] = 0;
      stretch = 0;
    }
  }
  for (int k = 0; k < kSums; ++k) total[k] += double(part[k]);
}

template <class T>
__device__ void sum_any_side(const GanSide& side, double (&total)[kSums]) {
  switch (Term(side.term)) {
    case Term::cross_entropy:
      return sum_side<Term::cross_entropy, T>(side, total);
    case Term::least_squares:
      return sum_side<Term::least_squares, T>(side, total);
    case Term::hinge:
      return sum_side<Term::hinge, T>(side, total);
    case Term::linear:
      return sum_side<Term::linear, T>(side, total);
  }
}

// The side as this pass of relativistic_average sees it, from what the ones before have left in `state`.
__device__ inline GanSide prepared(const Call& call, int i, int pass) {
  GanSide side = call.sides[i];
  if (call.kind != GanKind::relativistic_average) return side;
  const double count = double(side.count);
  if (pass == means_of_logits) {
    side.term = int(Term::linear);
  } else {
    side.shift = call.state[1 - i];
  }
  if (pass == gradients) {
    // Through the mean that the other side is compared with: d sp(x) / dx = sigmoid(x) and d sp(-x) / dx = -sigmoid(-x)
    // are what is logged of x and of -x.
    side.offset = -0.5 * call.state[2 + (1 - i)] / count;
  } else {
    side.grad = nullptr;
  }
  return side;
}

// One thread makes of the sums [2, kSums] what the pass is for.
template <class S>
__device__ void finish(const Call& call, const double* sums, int pass) {
  const double unknown = NAN;
  double mean[2][kSums];
  for (int i = 0; i < 2; ++i)
    for (int k = 0; k < kSums; ++k)
      mean[i][k] = i < call.first || call.sides[i].count == 0 ? unknown : sums[i * kSums + k] / call.sides[i].count;
  if (pass == means_of_logits) {
    for (int i = 0; i < 2; ++i) call.state[i] = mean[i][1];
    return;
  }
  if (pass == slopes)
    for (int i = 0; i < 2; ++i) call.state[2 + i] = call.sides[i].target == 1 ? -mean[i][2] : mean[i][1];
  if (pass != call.last_pass && pass != slopes) return;
  double logged[2] = {mean[0][1], mean[1][1]}, right[2] = {mean[0][3], mean[1][3]}, scalar = 0;
  for (int i = 0; i < 2; ++i)
    if (call.factor[i] != 0) scalar += call.factor[i] * mean[i][0];
  if (call.kind == GanKind::relativistic) {
    logged[1] = mean[0][2];
    right[1] = right[0];
  }
  if (call.kind == GanKind::wasserstein) right[0] = right[1] = unknown;
  *static_cast<S*>(call.scalar) = S(scalar);
  const double means[4] = {logged[0], logged[1], right[0], right[1]};
  for (int k = 0; k < 4; ++k) static_cast<S*>(call.means)[k] = S(means[k]);
}

// One block does all passes itself.
template <class T>
__global__ void __launch_bounds__(kThreads) gan_loss_kernel(Call call) {
  const int t = threadIdx.x;
  for (int pass = call.pass; pass <= (gridDim.x == 1 ? call.last_pass : call.pass); ++pass) {
    double* const mine = call.parts + blockIdx.x * 2 * kSums;
    for (int i = call.first; i < 2; ++i) {
      if (call.sides[i].x == nullptr) continue;
      double total[kSums] = {};
      sum_any_side<T>(prepared(call, i, pass), total);
      if (pass == gradients && call.kind == GanKind::relativistic_average) continue;
      sum_slices(1, kThreads, total);
      if (t == 0)
        for (int k = 0; k < kSums; ++k) mine[i * kSums + k] = total[k];
    }
    if (pass == gradients && call.kind == GanKind::relativistic_average) return;
    if (!is_last(call.counter, gridDim.x)) return;
    // The blocks' sums, [gridDim.x, 2 * kSums]: a column each, over as many slices as threads permit.
    constexpr int columns = 2 * kSums, slices = kThreads / columns;
    double total[1] = {};
    const int column = t % columns;
    const GanSide& side = call.sides[column / kSums];
    if (column / kSums >= call.first && side.x != nullptr)
      for (int block = t / columns; block < int(gridDim.x); block += slices)
        total[0] += read_fresh(call.parts + block * columns + column);
    sum_slices(columns, slices, total);
    __shared__ double sums[columns];
    if (t < columns) sums[t] = total[0];
    __syncthreads();
    if (t == 0) finish<Scalar<T>>(call, sums, pass);
    __syncthreads();
  }
}

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // loss, means [4], gradients of real and of fake logits

Result gan_loss_labels(const OptionalTensor& real, const Tensor& fake, int64_t loss, const OptionalTensor& random,
                       double smoothing, double noise, double flips) {
  const Queue queue(fake);
  const GanCall sides(real, fake, loss, random, smoothing, noise, flips, queue.device);
  const Tensor scalar = output({}, sides.float64, queue.device), means = output({4}, sides.float64, queue.device);
  const bool average = sides.kind == GanKind::relativistic_average;
  Call call = {};
  call.kind = sides.kind;
  call.first = sides.first;
  int64_t count = 0;
  for (int i = 0; i < 2; ++i) {
    call.sides[i] = sides.sides[i];
    call.factor[i] = sides.factor[i];
    count = std::max(count, call.sides[i].count);
  }
  if (sides.kind == GanKind::relativistic) call.sides[1] = {};  // the first side has both
  const int64_t blocks =
      std::min({(count + kLogitsOfABlock - 1) / kLogitsOfABlock, 2 * queue.multiprocessors(), kMostBlocks});
  const Tensor parts = scratch((blocks + 1) * 2 * kSums, queue);
  const Counters counters(queue, blocks > 1 ? 1 : 0);
  call.parts = static_cast<double*>(parts.data_ptr());
  call.state = call.parts + blocks * 2 * kSums;
  call.counter = counters.data;
  call.scalar = scalar.data_ptr();
  call.means = means.data_ptr();
  call.pass = average ? means_of_logits : gradients;
  call.last_pass = gradients;
  with_storage(fake, [&](auto t) {
    for (; call.pass <= gradients; ++call.pass) {
      queue.launch(gan_loss_kernel<decltype(t)>, blocks, call);
      if (blocks == 1) break;
    }
  });
  return {scalar, means, sides.grads[0], sides.grads[1]};
}

Result gan_loss(const OptionalTensor& real, const Tensor& fake, int64_t loss) {
  return gan_loss_labels(real, fake, loss, std::nullopt, 0, 0, 0);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, FASTGAN_DEVICE, m) {
  m.impl("gan_loss", TORCH_BOX(&gan_loss));
  m.impl("gan_loss_labels", TORCH_BOX(&gan_loss_labels));
}

}  // namespace fastgan::FASTGAN_ISA
