// The gan_loss op on CPU tensors: puts each loss together from its two sides.
#include "gan_loss.h"

#include <limits>
#include <tuple>

#include "../include/gan_sides.h"
#include "capability.h"
#include "loss.h"

namespace fastgan {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

GanLossKernel kernel(const Tensor& x) {
  static const GanLossKernel* const table = [] {
#if defined(__x86_64__)
    if (cpu_capability() == Capability::avx512) return avx512::gan_loss_kernels;
    if (cpu_capability() == Capability::avx2) return avx2::gan_loss_kernels;
#endif
    return baseline::gan_loss_kernels;
  }();
  return table[int(storage_of(x))];
}

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // loss, means [4], gradients of real and of fake logits

Result result_of(const GanCall& call, double scalar, std::initializer_list<double> means) {
  return {scalar_of(scalar, call.float64), vector_of(means, call.float64), call.grads[0], call.grads[1]};
}

// The generator's losses ask of each sample what the discriminator's ask of one of the other side.
Result relativistic(const GanCall& call, GanLossKernel run) {
  const GanSide& side = call.sides[0];
  const double count = double(side.count);
  const GanSums sums = run(side, parallel);
  const double right = sums.right / count;
  return result_of(call, sums.term / count, {sums.logged / count, sums.negated / count, right, right});
}

Result relativistic_average(GanCall& call, GanLossKernel run) {
  const double count = double(call.sides[0].count);
  double mean[2], slope[2];
  GanSums sums[2];
  for (int i = 0; i < 2; ++i) {
    GanSide plain = call.sides[i];  // the linear term, whose sums are those of the logits
    plain.term = int(Term::linear);
    plain.grad = nullptr;
    mean[i] = run(plain, parallel).logged / count;
  }
  for (int i = 0; i < 2; ++i) {
    GanSide& side = call.sides[i];
    side.shift = mean[1 - i];
    GanSide only_sums = side;
    only_sums.grad = nullptr;
    sums[i] = run(only_sums, parallel);
    // d sp(x) / dx = sigmoid(x) and d sp(-x) / dx = -sigmoid(-x) are what is logged of x and of -x.
    slope[i] = (side.target == 1 ? -sums[i].negated : sums[i].logged) / count;
  }
  for (int i = 0; i < 2; ++i) {
    call.sides[i].offset = -0.5 * slope[1 - i] / count;  // through the mean that the other side is compared with
    run(call.sides[i], parallel);
  }
  return result_of(call, 0.5 * (sums[0].term + sums[1].term) / count,
                   {sums[0].logged / count, sums[1].logged / count, sums[0].right / count, sums[1].right / count});
}

Result gan_loss_labels(const OptionalTensor& real, const Tensor& fake, int64_t loss, const OptionalTensor& random,
                       double smoothing, double noise, double flips) {
  GanCall call(real, fake, loss, random, smoothing, noise, flips, kCpu);
  const GanLossKernel run = kernel(fake);
  if (call.kind == GanKind::relativistic) return relativistic(call, run);
  if (call.kind == GanKind::relativistic_average) return relativistic_average(call, run);
  double scalar = 0, logged[2] = {kUnknown, kUnknown}, right[2] = {kUnknown, kUnknown};
  for (int i = call.first; i < 2; ++i) {
    const double count = double(call.sides[i].count);
    const GanSums sums = run(call.sides[i], parallel);
    if (call.factor[i] != 0) scalar += call.factor[i] * sums.term / count;
    logged[i] = sums.logged / count;
    if (call.kind != GanKind::wasserstein) right[i] = sums.right / count;
  }
  return result_of(call, scalar, {logged[0], logged[1], right[0], right[1]});
}

Result gan_loss(const OptionalTensor& real, const Tensor& fake, int64_t loss) {
  return gan_loss_labels(real, fake, loss, std::nullopt, 0, 0, 0);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastgan, CPU, m) {
  m.impl("gan_loss", TORCH_BOX(&gan_loss));
  m.impl("gan_loss_labels", TORCH_BOX(&gan_loss_labels));
}

}  // namespace fastgan
