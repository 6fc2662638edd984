// A call of gan_loss made ready for the kernels of either device: its checks, its two sides, its gradients.
// Python has validated the arguments and speaks to the user; the checks here only keep memory safe.
#pragma once

#include "gan_kind.h"
#include "gan_side.h"
#include "tensor.h"

namespace fastgan {

// Whether the tensor fills its memory, in whatever order of its dimensions.
inline bool is_dense(const Tensor& x) {
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

inline bool same_shape(const Tensor& a, const Tensor& b) {
  bool same = a.dim() == b.dim();
  for (int64_t d = 0; same && d < a.dim(); ++d) same = a.size(d) == b.size(d);
  return same;
}

inline bool same_order(const Tensor& a, const Tensor& b) {
  bool same = true;
  for (int64_t d = 0; same && d < a.dim(); ++d) same = a.size(d) == 1 || a.stride(d) == b.stride(d);
  return same;
}

inline Term term_of(GanKind kind) {
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

// The sides of the relativistic kinds: of relativistic only the first, which compares each real logit with its fake
// one; of relativistic_average both, whose shift, offset and scale come of sums over the other.
struct GanCall {
  GanKind kind;
  bool generator, float64;
  int first;         // 1 without real logits: they have no side
  GanSide sides[2];  // real, fake
  double factor[2];  // of the mean of a side's terms in the loss; where it is 0 there is no gradient
  Tensor grads[2];   // of the strides of the logits and the type of the arithmetic; empty where there is none

  GanCall(const OptionalTensor& real, const Tensor& fake, int64_t loss, const OptionalTensor& random, double smoothing,
          double noise, double flips, const Device& device)
      : kind(GanKind(loss / 2)),
        generator(loss % 2 == 1),
        float64(is_double(fake)),
        first(real ? 0 : 1),
        sides{},
        factor{},
        grads{output({0}, float64, device), output({0}, float64, device)} {
    const bool relative = kind >= GanKind::relativistic, labels = random || smoothing != 0;
    STD_TORCH_CHECK(loss >= 0 && loss < 2 * kGanKinds, "fastgan: unknown loss");
    STD_TORCH_CHECK(real || generator, "fastgan: the discriminator's loss needs real logits");
    STD_TORCH_CHECK(!real || real->scalar_type() == fake.scalar_type(), "fastgan: logits must share one dtype");
    STD_TORCH_CHECK(!relative || (real && !labels && same_shape(*real, fake)),
                    "fastgan: the relativistic losses need real logits of the shape of the fake ones, and no labels");
    STD_TORCH_CHECK(kind != GanKind::relativistic || same_order(*real, fake),
                    "fastgan: relativistic needs logits of one memory order");
    STD_TORCH_CHECK(!labels || !generator, "fastgan: the generator's losses have no labels");
    STD_TORCH_CHECK(
        !random || (random->is_contiguous() && is_on(*random, device) && random->scalar_type() == ScalarType::Float &&
                    random->numel() == 2 * (real->numel() + fake.numel())),
        "fastgan: random must be float32 [2, logits]");
    for (int i = first; i < 2; ++i) {
      const Tensor& x = i == 0 ? *real : fake;
      STD_TORCH_CHECK(is_on(x, device) && x.numel() > 0 && is_dense(x),
                      "fastgan: gan_loss needs filled dense logits on one device");
      if (i == 1 || relative || !generator) grads[i] = gradient_of(x, device);
      GanSide& side = sides[i];
      side.term = int(generator && kind == GanKind::hinge ? Term::linear : term_of(kind));
      side.real = i == 0;
      side.count = x.numel();
      side.x = x.data_ptr();
      side.threshold = kind == GanKind::least_squares ? 0.5 : 0;
      if (relative) {
        factor[i] = kind == GanKind::relativistic ? 1 - i : 0.5;
        side.target = side.real != generator ? 1 : 0;
      } else {
        factor[i] = !generator ? 1 : i == 0 ? 0 : kind == GanKind::minimax ? -1 : 1;
        side.target = generator ? (kind == GanKind::minimax ? 0 : 1) : side.real ? 1 - smoothing : 0;
      }
      if (random) {
        side.random = static_cast<const float*>(random->data_ptr()) + (i == 0 ? 0 : real->numel());
        side.noise = side.random + random->numel() / 2;
        side.labels = {flips, smoothing, noise};
      }
      if (factor[i] == 0) continue;
      side.grad = grads[i].data_ptr();
      side.scale = factor[i] / double(side.count);
    }
    if (kind != GanKind::relativistic) return;
    sides[0].against = fake.data_ptr();
    sides[0].grad_against = grads[1].data_ptr();
  }

 private:
  Tensor gradient_of(const Tensor& x, const Device& device) const {
    return new_tensor(x.dim(), x.sizes().data(), x.strides().data(),
                      float64 ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(), device);
  }
};

}  // namespace fastgan
