// The class_loss op on CUDA tensors: a warp takes a row, and the last block makes the loss of all sums.
#include <stdio.h>

#include <tuple>

#include "../include/class_rows.h"
#include "reduce.cuh"
// After vec.cuh, whose functions it takes.
#include "../include/gan_loss.h"

namespace fastgan::FASTGAN_ISA {
namespace {

constexpr int kKinds = 3;  // of rows
constexpr int kSums = 3;   // of a kind: terms, D, how many have their largest logit at their label
constexpr int kWarp = 32, kWarps = kThreads / kWarp;
constexpr int64_t kRowsOfABlock = 4 * kWarps;

struct Call {
  ClassRows rows[kKinds];
  double factor[kKinds];
  double* parts;  // [blocks, kKinds, kSums]
  int* counter;
  void *scalar, *means;  // of the compute type
};

// Z = pivot + log(sum of e^(x - pivot)) of a row, where the pivot is the largest logit, or 0 where that is infinite.
template <class S>
struct LogSumExp {
  S pivot;
  double sum;
  int at;  // of the largest logit, the first of them

  template <class T>
  __device__ LogSumExp(const T* x, int classes, int lane) {
    S largest = S(-INFINITY);
    at = 0;
    for (int k = lane; k < classes; k += kWarp)
      if (S(x[k]) > largest) largest = S(x[k]), at = k;
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      const S other = __shfl_xor_sync(~0u, largest, mask);
      const int other_at = __shfl_xor_sync(~0u, at, mask);
      if (other > largest || (other == largest && other_at < at)) largest = other, at = other_at;
    }
    pivot = largest - largest == S(0) ? largest : S(0);
    sum = 0;
    for (int k = lane; k < classes; k += kWarp) sum += double(exponential(S(x[k]) - pivot));
    for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
  }
  __device__ S log_sum() const { return S(log(sum)); }
  // exp(-|Z|), without the rounding of Z.
  __device__ S exponential_of_minus_absolute(S z) const {
    const S above = exponential(pivot > S(0) ? -pivot : S(0)),
            below = exponential(pivot < S(0) ? pivot : S(0)) * S(sum);
    return z > S(0) ? above / below : below;
  }
};

template <class T>
__device__ void add_row(const ClassRows& r, int64_t row, int lane, double (&sums)[kSums]) {
  using S = Scalar<T>;
  const int classes = int(r.classes);
  const T* const x = static_cast<const T*>(r.x) + row * r.classes;
  const LogSumExp<S> z(x, classes, lane);
  const S log_sum = z.log_sum(), total = z.pivot + log_sum;
  const Evaluated<S> unlabelled = cross_entropy(total, S(r.target), z.exponential_of_minus_absolute(total));
  S term = unlabelled.term, factor = unlabelled.derivative * S(r.scale);
  int64_t label = -1;
  if (r.labels != nullptr) {
    label = r.labels[row];
    if (label < 0 || label >= classes) {
      if (lane == 0)
        printf("class_loss: label %lld of row %lld, but there are %d classes\n", (long long)label, (long long)row,
               classes);
      __trap();
    }
    term = z.pivot - S(x[label]) + log_sum;
    factor = S(r.scale);
  }
  if (lane == 0) {
    sums[0] += double(term);
    sums[1] += double(unlabelled.logged);
    sums[2] += z.at == label;
  }
  if (r.grad == nullptr) return;
  S* const grad = static_cast<S*>(r.grad) + row * r.classes;
  const S factor_of_exponential = factor / S(z.sum);
  for (int k = lane; k < classes; k += kWarp)
    grad[k] = exponential(S(x[k]) - z.pivot) * factor_of_exponential - (k == label ? S(r.scale) : S(0));
}

template <class S>
__device__ void finish(const Call& call, const double* sums) {
  double loss = 0, accuracy[kKinds], probability[kKinds];
  for (int i = 0; i < kKinds; ++i) {
    const ClassRows& r = call.rows[i];
    accuracy[i] = probability[i] = NAN;
    if (r.x == nullptr) continue;
    const double* const own = sums + i * kSums;
    if (call.factor[i] != 0) loss += call.factor[i] * own[0] / r.rows;
    if (r.labels != nullptr) accuracy[i] = own[2] / r.rows;
    probability[i] = own[1] / r.rows;
  }
  *static_cast<S*>(call.scalar) = S(loss);
  const double means[4] = {accuracy[0], accuracy[2], probability[1], probability[2]};
  for (int k = 0; k < 4; ++k) static_cast<S*>(call.means)[k] = S(means[k]);
}

template <class T>
__global__ void __launch_bounds__(kThreads) class_loss_kernel(Call call) {
  const int t = threadIdx.x, lane = t % kWarp;
  constexpr int columns = kKinds * kSums, slices = kThreads / columns;
  double* const mine = call.parts + int64_t(blockIdx.x) * columns;
  for (int i = 0; i < kKinds; ++i) {
    const ClassRows& r = call.rows[i];
    double sums[kSums] = {};
    for (int64_t row = int64_t(blockIdx.x) * kWarps + t / kWarp; row < r.rows; row += int64_t(gridDim.x) * kWarps)
      add_row<T>(r, row, lane, sums);
    sum_slices(1, kThreads, sums);
    if (t == 0)
      for (int k = 0; k < kSums; ++k) mine[i * kSums + k] = sums[k];
  }
  if (!is_last(call.counter, gridDim.x)) return;
  double total[1] = {};
  if (t / columns < slices)
    for (int block = t / columns; block < int(gridDim.x); block += slices)
      total[0] += read_fresh(call.parts + block * columns + t % columns);
  sum_slices(columns, slices, total);
  __shared__ double sums[columns];
  if (t < columns) sums[t] = total[0];
  __syncthreads();
  if (t == 0) finish<Scalar<T>>(call, sums);
}

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Result class_loss(const OptionalTensor& real, const OptionalTensor& real_labels, const OptionalTensor& unlabelled,
                  const OptionalTensor& fake, const OptionalTensor& fake_labels, bool generator) {
  STD_TORCH_CHECK(real || unlabelled || fake, "fastgan: class_loss needs logits");
  const Tensor& some = real ? *real : unlabelled ? *unlabelled : *fake;
  const Queue queue(some);
  const ClassCall kinds(real, real_labels, unlabelled, fake, fake_labels, generator, queue.device);
  const Tensor scalar = output({}, kinds.float64, queue.device), means = output({4}, kinds.float64, queue.device);
  Call call = {};
  int64_t most = 0;
  for (int i = 0; i < kKinds; ++i) {
    call.rows[i] = kinds.rows[i];
    call.factor[i] = kinds.factor[i];
    most = std::max(most, call.rows[i].rows);
  }
  const int64_t blocks =
      std::min({(most + kRowsOfABlock - 1) / kRowsOfABlock, 4 * queue.multiprocessors(), kMostBlocks});
  const Tensor parts = scratch(blocks * kKinds * kSums, queue);
  const Counters counters(queue, blocks > 1 ? 1 : 0);
  call.parts = static_cast<double*>(parts.data_ptr());
  call.counter = counters.data;
  call.scalar = scalar.data_ptr();
  call.means = means.data_ptr();
  with_storage(some, [&](auto t) { queue.launch(class_loss_kernel<decltype(t)>, blocks, call); });
  return {scalar, means, kinds.grads[0], kinds.grads[1], kinds.grads[2]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, FASTGAN_DEVICE, m) { m.impl("class_loss", TORCH_BOX(&class_loss)); }

}  // namespace fastgan::FASTGAN_ISA
