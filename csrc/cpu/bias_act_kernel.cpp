// Compiled once for every instruction set; see vec.h for what that forbids here, and plan.h for the order of sums.
#include "bias_act.h"

#include "plan.h"

namespace fastgan::FASTGAN_ISA {
namespace {

template <class T>
struct Kernels {
  using S = typename Compute<T>::Scalar;
  using V = typename Compute<T>::Vector;
  static constexpr int L = kLanes<T>;

  // The parameters of K vectors of channels, or (lanes 0) of one channel in every lane.
  template <int K>
  struct Parameters {
    V bias[K], slope[K], gain, limit;

    Parameters(const BiasAct& a, int64_t c, int lanes) : gain(V{} + S(a.gain)), limit(V{} + S(a.clamp)) {
      for (int k = 0; k < K; ++k) {
        bias[k] = parameter<T>(a.bias, c + k * L, lanes);
        slope[k] = parameter<T>(a.slope, c + k * L, lanes);
      }
    }
  };

  static bool scaled(const BiasAct& a) { return a.gain != 1 || a.clamp != __builtin_inf(); }

  // Scaled: there is a gain or a clamp. Comparisons are written so that a NaN passes through.
  template <Act A, bool Scaled, int K>
  static FASTGAN_INLINE V result(const Parameters<K>& p, int k, V x) {
    V y = activation<A>(x + p.bias[k], p.slope[k]);
    if constexpr (Scaled) {
      y *= p.gain;
      y = select(y > p.limit, p.limit, select(y < -p.limit, -p.limit, y));
    }
    return y;
  }

  template <Act A, bool Scaled>
  static void forward(const BiasAct& a, Parallel parallel) {
    const T* const x = static_cast<const T*>(a.kept);
    T* const y = static_cast<T*>(a.out);
    run(parallel, Plan(a.shape, true), false, [&](const Task& task) {
      over_task<T>(
          a.shape, task,
          [&](int64_t c, auto columns, int lanes, int64_t row, int64_t end) {
            constexpr int K = columns.value;
            const Parameters<K> p(a, c, lanes);
            for (int64_t r = row; r < end; ++r)
              for (int k = 0; k < K; ++k) {
                const int64_t at = r * a.shape.channels + c + k * L;
                store(y + at, result<A, Scaled>(p, k, load(x + at, lanes)), lanes);
              }
          },
          [&](int64_t c, int64_t plane) {
            const Parameters<1> p(a, c, 0);
            over_plane<T>(
                a.shape.space,
                [&](int64_t i, int lanes) {
                  store(y + plane + i, result<A, Scaled>(p, 0, load(x + plane + i, lanes)), lanes);
                },
                [] {});
          });
    });
  }

  // dL/dz, and what prelu's slope receives, of one vector.
  struct Terms {
    V g, slope;
  };
  template <Act A, bool FromResult, bool Scaled, int K>
  static FASTGAN_INLINE Terms terms(const BiasAct& a, const Parameters<K>& p, int k, int64_t at, int lanes) {
    V grad = load(static_cast<const T*>(a.grad_y) + at, lanes);
    if constexpr (Scaled) grad *= p.gain;
    if constexpr (A == Act::none && FromResult) {
      return {grad, V{}};
    } else if constexpr (FromResult) {
      return {through<A>(grad, derivative_from_result<A>(load(static_cast<const T*>(a.kept) + at, lanes), p.slope[k])),
              V{}};
    } else {
      const V z = load(static_cast<const T*>(a.kept) + at, lanes) + p.bias[k];
      Terms t{through<A>(grad, derivative<A>(z, p.slope[k])), V{}};
      if constexpr (Scaled) {
        const V y = activation<A>(z, p.slope[k]) * p.gain, unlimited = broadcast<V>(__builtin_inf());
        // At the clamp itself the gradient passes, as in PyTorch.
        const auto open = ((y >= -p.limit) & (y <= p.limit)) | (p.limit == unlimited);
        grad = select(open, grad, V{});
        t.g = select(open, t.g, V{});
      }
      if constexpr (A == Act::prelu) t.slope = select(z > V{}, V{}, grad * z);
      return t;
    }
  }
  // ReLU stops a gradient that is infinite too, as in PyTorch.
  template <Act A>
  static FASTGAN_INLINE V through(V grad, V derivative) {
    return A == Act::relu ? select(derivative == V{}, V{}, grad) : grad * derivative;
  }

  template <Act A, bool FromResult, bool Scaled>
  static void backward(const BiasAct& a, double* sums, Parallel parallel) {
    const Plan plan(a.shape, true);
    const int64_t channels = a.shape.channels, chunks = plan.chunks;
    constexpr int kSums = A == Act::prelu ? 2 : 1;
    T* const grad_x = static_cast<T*>(a.out);
    Scratch scratch(sums == nullptr ? 1 : chunks * kSums * channels);  // [chunks, kSums, C]
    run(parallel, plan, false, [&](const Task& task) {
      double* const mine = scratch.data + task.chunk * kSums * channels;
      double lane_sums[kBlock][kSums][L] = {};  // contiguous only
      over_task<T>(
          a.shape, task,
          [&](int64_t c, auto columns, int lanes, int64_t row, int64_t end) {
            constexpr int K = columns.value;
            const Parameters<K> p(a, c, lanes);
            V total[kSums][K] = {};
            for (int64_t r = row; r < end; ++r)
              for (int k = 0; k < K; ++k) {
                const int64_t at = r * channels + c + k * L;
                const Terms t = terms<A, FromResult, Scaled>(a, p, k, at, lanes);
                if (grad_x != nullptr) store(grad_x + at, t.g, lanes);
                total[0][k] += t.g;
                if constexpr (kSums == 2) total[1][k] += t.slope;
              }
            if (sums == nullptr) return;
            for (int s = 0; s < kSums; ++s)
              for (int k = 0; k < K; ++k) accumulate(mine + s * channels + c + k * L, total[s][k], lanes);
          },
          [&](int64_t c, int64_t plane) {
            const Parameters<1> p(a, c, 0);
            V total[kSums] = {};
            over_plane<T>(
                a.shape.space,
                [&](int64_t i, int lanes) {
                  // Lanes past the end hold grad_y = 0, and so add nothing.
                  const Terms t = terms<A, FromResult, Scaled>(a, p, 0, plane + i, lanes);
                  if (grad_x != nullptr) store(grad_x + plane + i, t.g, lanes);
                  total[0] += t.g;
                  if constexpr (kSums == 2) total[1] += t.slope;
                },
                [&] {
                  if (sums == nullptr) return;
                  for (int s = 0; s < kSums; ++s) {
                    accumulate(lane_sums[c - task.channel][s], total[s], L);
                    total[s] = V{};
                  }
                });
          });
      if (sums == nullptr || a.shape.channels_last) return;
      for (int64_t c = 0; c < task.channels; ++c)
        for (int s = 0; s < kSums; ++s) mine[s * channels + task.channel + c] = total_of(lane_sums[c][s]);
    });
    if (sums == nullptr) return;
    for (int64_t i = 0; i < kSums * channels; ++i) {
      sums[i] = 0;
      for (int64_t k = 0; k < chunks; ++k) sums[i] += scratch.data[k * kSums * channels + i];
    }
  }

  static constexpr BiasActKernels table() {
    return {
        [](const BiasAct& a, Parallel p) {
          with_activation(
              a.act, [&](auto act) { scaled(a) ? forward<act.value, true>(a, p) : forward<act.value, false>(a, p); });
        },
        [](const BiasAct& a, double* sums, Parallel p) {
          with_activation(a.act, [&](auto act) {
            scaled(a) ? backward<act.value, false, true>(a, sums, p) : backward<act.value, false, false>(a, sums, p);
          });
        },
        [](const BiasAct& a, double* sums, Parallel p) {
          with_activation(a.act, [&](auto act) {
            if constexpr (result_suffices(act.value)) backward<act.value, true, true>(a, sums, p);
          });
        },
    };
  }
};

}  // namespace

extern const BiasActKernels bias_act_kernels[4] = {Kernels<float>::table(), Kernels<double>::table(),
                                                   Kernels<BFloat16>::table(), Kernels<Half>::table()};

}  // namespace fastgan::FASTGAN_ISA
