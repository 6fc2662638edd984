// The gan_loss op on CPU tensors: puts each loss together from its two sides.
// Python has validated the arguments and speaks to the user; the checks here only keep memory safe.
#include "gan_loss.h"

#include <limits>
#include <tuple>

#include "../include/gan_kind.h"
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

// Whether the tensor fills its memory, in whatever order of its dimensions.
bool is_dense(const Tensor& x) {
  if (x.is_contiguous()) return true;
  const auto sizes = x.sizes(), strides = x.strides();
  int64_t covered = 1;
  for (int64_t found = 1; found != 0 && covered < x.numel(); covered *= found) {
    found = 0;  // the size of the dimension that comes next
    for (int64_t d = 0; d < x.dim(); ++d)
      if (sizes[d] != 1 && strides[d] == covered) found = sizes[d];
  }
  return covered == x.numel();
}

bool same_shape(const Tensor& a, const Tensor& b) {
  bool same = a.dim() == b.dim();
  for (int64_t d = 0; same && d < a.dim(); ++d) same = a.size(d) == b.size(d);
  return same;
}

bool same_order(const Tensor& a, const Tensor& b) {
  bool same = true;
  for (int64_t d = 0; same && d < a.dim(); ++d) same = a.size(d) == 1 || a.stride(d) == b.stride(d);
  return same;
}

// The linear term of a side, whose sums are those of the logits.
GanSide side_of(const Tensor& x, bool real) {
  STD_TORCH_CHECK(x.is_cpu() && x.numel() > 0 && is_dense(x), "fastgan: gan_loss needs filled dense CPU tensors");
  GanSide side = {};
  side.term = int(Term::linear);
  side.real = real;
  side.count = x.numel();
  side.x = x.data_ptr();
  return side;
}

// Of the shape and strides of x, in the type of its arithmetic.
Tensor gradient_of(const Tensor& x) {
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(x.dim(), x.sizes().data(), x.strides().data(),
                               is_double(x) ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(),
                               aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

Term term_of(GanKind kind) {
  switch (kind) {
    case GanKind::least_squares:
      return Term::least_squares;
    case GanKind::hinge:
      return Term::hinge;
    case GanKind::wasserstein:
      return Term::linear;
    default:
      return Term::cross_entropy;
  }
}

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // loss, means [4], gradients of real and of fake logits

// The generator's losses ask of each sample what the discriminator's ask of one of the other side.
Result relativistic(const Tensor& real, const Tensor& fake, bool generator) {
  STD_TORCH_CHECK(same_order(real, fake), "fastgan: relativistic needs logits of one memory order");
  const Tensor grad_real = gradient_of(real), grad_fake = gradient_of(fake);
  GanSide side = side_of(real, true);
  const double count = double(side.count);
  side.term = int(Term::cross_entropy);
  side.against = fake.data_ptr();
  side.target = generator ? 0 : 1;
  side.grad = grad_real.data_ptr();
  side.grad_against = grad_fake.data_ptr();
  side.scale = 1 / count;
  const GanSums sums = kernel(real)(side, parallel);
  const double right = sums.right / count;
  return {scalar_of(sums.term / count, is_double(real)),
          vector_of({sums.logged / count, sums.negated / count, right, right}, is_double(real)), grad_real, grad_fake};
}

Result relativistic_average(const Tensor& real, const Tensor& fake, bool generator) {
  const Tensor grads[2] = {gradient_of(real), gradient_of(fake)};
  const GanLossKernel run = kernel(real);
  const double count = double(real.numel());
  GanSide sides[2] = {side_of(real, true), side_of(fake, false)};
  double mean[2], slope[2];
  GanSums sums[2];
  for (int i = 0; i < 2; ++i) mean[i] = run(sides[i], parallel).logged / count;
  for (int i = 0; i < 2; ++i) {
    sides[i].term = int(Term::cross_entropy);
    sides[i].shift = mean[1 - i];
    sides[i].target = sides[i].real != generator ? 1 : 0;
    sums[i] = run(sides[i], parallel);
    // d sp(x) / dx = sigmoid(x) and d sp(-x) / dx = -sigmoid(-x) are what is logged of x and of -x.
    slope[i] = (sides[i].target == 1 ? -sums[i].negated : sums[i].logged) / count;
  }
  for (int i = 0; i < 2; ++i) {
    sides[i].grad = grads[i].data_ptr();
    sides[i].scale = 0.5 / count;
    sides[i].offset = -0.5 * slope[1 - i] / count;  // through the mean that the other side is compared with
    run(sides[i], parallel);
  }
  const double means[4] = {sums[0].logged / count, sums[1].logged / count, sums[0].right / count,
                           sums[1].right / count};
  return {scalar_of(0.5 * (sums[0].term + sums[1].term) / count, is_double(real)),
          vector_of({means[0], means[1], means[2], means[3]}, is_double(real)), grads[0], grads[1]};
}

Result gan_loss_labels(const OptionalTensor& real, const Tensor& fake, int64_t loss, const OptionalTensor& random,
                       double smoothing, double noise, double flips) {
  STD_TORCH_CHECK(loss >= 0 && loss < 2 * kGanKinds, "fastgan: unknown loss");
  const GanKind kind = GanKind(loss / 2);
  const bool generator = loss % 2 == 1, labels = random || smoothing != 0;
  STD_TORCH_CHECK(real || generator, "fastgan: the discriminator's loss needs real logits");
  STD_TORCH_CHECK(!real || real->scalar_type() == fake.scalar_type(), "fastgan: logits must share one dtype");
  if (kind >= GanKind::relativistic) {
    STD_TORCH_CHECK(real && !labels && same_shape(*real, fake),
                    "fastgan: the relativistic losses need real logits of the shape of the fake ones, and no labels");
    return (kind == GanKind::relativistic ? relativistic : relativistic_average)(*real, fake, generator);
  }
  STD_TORCH_CHECK(!labels || !generator, "fastgan: the generator's losses have no labels");
  STD_TORCH_CHECK(
      !random || (random->is_contiguous() && random->is_cpu() && random->scalar_type() == ScalarType::Float &&
                  random->numel() == 2 * (real->numel() + fake.numel())),
      "fastgan: random must be float32 [2, logits]");
  const bool float64 = is_double(fake), minimax = kind == GanKind::minimax;
  const Tensor grads[2] = {generator ? output({0}, float64) : gradient_of(*real), gradient_of(fake)};
  double scalar = 0, logged[2] = {kUnknown, kUnknown}, right[2] = {kUnknown, kUnknown};
  for (int i = real ? 0 : 1; i < 2; ++i) {
    const Tensor& x = i == 0 ? *real : fake;
    GanSide side = side_of(x, i == 0);
    side.term = int(generator && kind == GanKind::hinge ? Term::linear : term_of(kind));
    side.threshold = kind == GanKind::least_squares ? 0.5 : 0;
    const double count = double(side.count), factor = !generator ? 1 : i == 0 ? 0 : minimax ? -1 : 1;
    if (generator) {
      side.target = minimax ? 0 : 1;
    } else {
      side.target = side.real ? 1 - smoothing : 0;
    }
    if (random) {
      side.random = static_cast<const float*>(random->data_ptr()) + (i == 0 ? 0 : real->numel());
      side.noise = side.random + random->numel() / 2;
      side.labels = {flips, smoothing, noise};
    }
    if (factor != 0) {
      side.grad = grads[i].data_ptr();
      side.scale = factor / count;
    }
    const GanSums sums = kernel(x)(side, parallel);
    if (factor != 0) scalar += factor * sums.term / count;
    logged[i] = sums.logged / count;
    if (kind != GanKind::wasserstein) right[i] = sums.right / count;
  }
  return {scalar_of(scalar, float64), vector_of({logged[0], logged[1], right[0], right[1]}, float64), grads[0],
          grads[1]};
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
