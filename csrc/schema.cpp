// Every op's schema, once. Python gives each its shape function (fastgan/ops/<stem>.py).
//
// `statistics` is [2, G, C]: mean and 1 / sqrt(var + eps), in float32 (float64 for float64 input). G is the number of
// groups, parts of the batch with statistics of their own; groups = 0 takes the running statistics instead.
// `act` is a number of csrc/include/act.h, `slope` the weight of prelu, `alpha` the parameter of the others.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fastgan, m) {
  // `clamp` infinite: none.
  m.def("bias_act(Tensor x, Tensor? bias, Tensor? slope, int act, float alpha, float gain, float clamp) -> Tensor y");
  m.def("bias_act_(Tensor(a!) x, Tensor? bias, int act, float alpha) -> ()");
  m.def(
      "bias_act_backward(Tensor grad_y, Tensor x, Tensor? bias, Tensor? slope, int act, float alpha, float gain, "
      "float clamp) -> (Tensor grad_x, Tensor grad_bias, Tensor grad_slope)");
  // The same from the result, where that suffices. Without y the activation is none, and grad_x, which is then
  // grad_y * gain, is left out. Without a dtype grad_bias is.
  m.def(
      "bias_act_backward_from_result(Tensor grad_y, Tensor? y, int act, float alpha, float gain, "
      "ScalarType? bias_dtype) -> (Tensor grad_x, Tensor grad_bias)");

  m.def(
      "norm_act(Tensor x, Tensor? weight, Tensor? bias, Tensor? slope, Tensor(a!)? running_mean, "
      "Tensor(b!)? running_var, int groups, float momentum, float eps, int act, float alpha) "
      "-> (Tensor y, Tensor statistics)");
  m.def(
      "norm_act_backward(Tensor grad_y, Tensor x, Tensor statistics, Tensor? weight, Tensor? bias, bool training, "
      "int act, float alpha) -> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)");

  // The same in two halves: a process group sums over its ranks between them, and prelu needs the third sum.
  // moments [2, G, C] float64: mean and biased variance of a group.
  // sums, means [3, G, C] float64: over a group, of g = dL/dz, of g xhat, and of what prelu's slope receives.
  m.def("norm_act_moments(Tensor x, int groups) -> Tensor moments");
  m.def(
      "norm_act_apply(Tensor x, Tensor statistics, Tensor? weight, Tensor? bias, Tensor? slope, int act, float alpha) "
      "-> Tensor y");
  m.def(
      "norm_act_backward_sums(Tensor grad_y, Tensor x, Tensor statistics, Tensor? weight, Tensor? bias, "
      "Tensor? slope, int act, float alpha) -> Tensor sums");
  m.def(
      "norm_act_backward_apply(Tensor grad_y, Tensor x, Tensor statistics, Tensor? weight, Tensor? bias, "
      "Tensor? slope, Tensor means, int act, float alpha) -> Tensor grad_x");

  // loss: 2 GanKind (csrc/include/gan_kind.h) + 1 for the generator's.
  // means [4]: D(real), D(fake), the shares of real and of fake logits on their right side. The gradients are those of
  // the scalar, in the type of the arithmetic, and empty where there is none.
  // random [2, real and then fake logits] float32, uniform in [0, 1), in the memory order of the logits, decides the
  // flip and the noise of each label. A schema of its own, because every argument costs a quarter of a microsecond.
  m.def(
      "gan_loss(Tensor? real, Tensor fake, int loss) -> (Tensor scalar, Tensor means, Tensor grad_real, "
      "Tensor grad_fake)");
  m.def(
      "gan_loss_labels(Tensor? real, Tensor fake, int loss, Tensor? random, float smoothing, float noise, float flips) "
      "-> (Tensor scalar, Tensor means, Tensor grad_real, Tensor grad_fake)");

  // The same for rows of class logits. means [4]: accuracy on the labelled real and fake rows, D of the unlabelled and
  // of the fake rows.
  m.def(
      "class_loss(Tensor? real, Tensor? real_labels, Tensor? unlabelled, Tensor? fake, Tensor? fake_labels, "
      "bool generator) -> (Tensor scalar, Tensor means, Tensor grad_real, Tensor grad_unlabelled, Tensor grad_fake)");

  // Convolutions of float32 maps (N, C, H, W) in channels_last by Winograd's method, as
  // fastgan/convolutions/products.py has them: the weight (small, large, k, k) in any layout, k two or three strides.
  m.def(
      "winograd_correlate(Tensor large, Tensor weight, Tensor? bias, int stride, int padding_h, int padding_w) "
      "-> Tensor small");
  m.def(
      "winograd_spread(Tensor small, Tensor weight, Tensor? bias, int stride, int padding_h, int padding_w, int "
      "height, "
      "int width) -> Tensor large");
  m.def(
      "winograd_weight_gradient(Tensor small, Tensor large, int stride, int kernel, int padding_h, int padding_w) "
      "-> Tensor weight");

  // The same of float32 or bfloat16 maps of which one has at most four channels, of any kernel up to 16x16. The result
  // has the dtype of the maps.
  m.def(
      "narrow_correlate(Tensor large, Tensor weight, Tensor? bias, int stride_h, int stride_w, int padding_h, "
      "int padding_w) -> Tensor small");
  m.def(
      "narrow_spread(Tensor small, Tensor weight, Tensor? bias, int stride_h, int stride_w, int padding_h, "
      "int padding_w, int height, int width) -> Tensor large");
  m.def(
      "narrow_weight_gradient(Tensor small, Tensor large, int kernel_h, int kernel_w, int stride_h, int stride_w, "
      "int padding_h, int padding_w) -> Tensor weight");
}
