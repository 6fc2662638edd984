// Every op's schema, once. Python gives each its shape function (fastgan/ops/<stem>.py).
//
// `statistics` is [2, G, C]: mean and 1 / sqrt(var + eps), in float32 (float64 for float64 input). G is the number of
// groups, parts of the batch with statistics of their own; groups = 0 takes the running statistics instead.
// `act` is a number of csrc/include/act.h, `slope` the weight of prelu, `alpha` the parameter of the others.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fastgan, m) {
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
}
