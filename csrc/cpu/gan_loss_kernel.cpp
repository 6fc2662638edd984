// Compiled once for every instruction set; see vec.h for what that forbids here.
//
// Every result is independent of the number of threads: the logits are cut into tasks by their count alone, each task
// sums in a fixed order, and the tasks' sums are added in a fixed order. A sum runs in float over a short stretch
// (kStretch vectors) and then joins a double, so that the error does not grow with the count.
#include "gan_loss.h"

#include "vec.h"
// After vec.h, whose functions it takes.
#include "../include/gan_loss.h"

namespace fastgan::FASTGAN_ISA {
namespace {

constexpr int kStretch = 16;
constexpr int64_t kTaskElements = 16384;
constexpr int64_t kMostTasks = 64;
constexpr int kSums = 4;

template <class T>
struct Kernel {
  using S = typename Compute<T>::Scalar;
  using V = typename Compute<T>::Vector;
  static constexpr int L = kLanes<T>;

  static FASTGAN_INLINE V load_random(const float* p, int lanes) {
    if constexpr (sizeof(S) == sizeof(float)) return load(p, lanes);
    V v = {};
    for (int i = 0; i < lanes; ++i) v[i] = p[i];
    return v;
  }

  static FASTGAN_INLINE V only_first(V v, int lanes) {
    for (int i = lanes; i < L; ++i) v[i] = 0;
    return v;
  }

  template <Term K>
  static FASTGAN_INLINE void add_vector(const GanSide& side, int64_t at, int lanes, V (&sums)[kSums]) {
    V x = load(static_cast<const T*>(side.x) + at, lanes);
    if (side.against != nullptr) x -= load(static_cast<const T*>(side.against) + at, lanes);
    x -= broadcast<V>(side.shift);
    V t = broadcast<V>(side.target);
    if (side.random != nullptr)
      t = target(side.real, load_random(side.random + at, lanes), load_random(side.noise + at, lanes), side.labels);
    const Evaluated<V> e = evaluate<K>(x, t);
    if (side.grad != nullptr) {
      const V grad = broadcast<V>(side.scale) * e.derivative + broadcast<V>(side.offset);
      store(static_cast<S*>(side.grad) + at, grad, lanes);
      if (side.grad_against != nullptr) store(static_cast<S*>(side.grad_against) + at, -grad, lanes);
    }
    const V threshold = broadcast<V>(side.threshold), one = broadcast<V>(1);
    const V right = side.real ? select(x > threshold, one, V{}) : select(x < threshold, one, V{});
    const V terms[kSums] = {e.term, e.logged, e.negated, right};
    for (int k = 0; k < kSums; ++k) sums[k] += lanes == L ? terms[k] : only_first(terms[k], lanes);
  }

  // A copy of the side, so that no store can be taken to change it.
  template <Term K>
  static GanSums sums_of(const GanSide side, int64_t begin, int64_t end) {
    double totals[kSums][L] = {};
    while (begin < end) {
      V sums[kSums] = {};
      for (int i = 0; i < kStretch && begin + L <= end; ++i, begin += L) add_vector<K>(side, begin, L, sums);
      if (begin < end && end < begin + L) {
        add_vector<K>(side, begin, int(end - begin), sums);
        begin = end;
      }
      for (int k = 0; k < kSums; ++k)
        for (int i = 0; i < L; ++i) totals[k][i] += sums[k][i];
    }
    double sum[kSums] = {};
    for (int k = 0; k < kSums; ++k)
      for (int i = 0; i < L; ++i) sum[k] += totals[k][i];
    return {sum[0], sum[1], sum[2], sum[3]};
  }

  template <Term K>
  static GanSums run(const GanSide& side, Parallel parallel) {
    if (side.count <= kTaskElements) return sums_of<K>(side, 0, side.count);
    const int64_t wanted = (side.count + kTaskElements - 1) / kTaskElements;
    struct Context {
      const GanSide& side;
      int64_t tasks;
      GanSums sums[kMostTasks];
    } context{side, wanted < kMostTasks ? wanted : kMostTasks, {}};
    parallel(
        context.tasks, side.count,
        [](int64_t begin, int64_t end, void* opaque) {
          Context& c = *static_cast<Context*>(opaque);
          const int64_t count = c.side.count;
          for (int64_t i = begin; i < end; ++i)
            c.sums[i] = sums_of<K>(c.side, count * i / c.tasks, count * (i + 1) / c.tasks);
        },
        &context);
    GanSums total = {};
    for (int64_t i = 0; i < context.tasks; ++i) {
      total.term += context.sums[i].term;
      total.logged += context.sums[i].logged;
      total.negated += context.sums[i].negated;
      total.right += context.sums[i].right;
    }
    return total;
  }

  static GanSums any_term(const GanSide& side, Parallel parallel) {
    switch (Term(side.term)) {
      case Term::cross_entropy:
        return run<Term::cross_entropy>(side, parallel);
      case Term::least_squares:
        return run<Term::least_squares>(side, parallel);
      case Term::hinge:
        return run<Term::hinge>(side, parallel);
      case Term::linear:
        return run<Term::linear>(side, parallel);
    }
    return {};
  }
};

}  // namespace

extern const GanLossKernel gan_loss_kernels[4] = {Kernel<float>::any_term, Kernel<double>::any_term,
                                                  Kernel<BFloat16>::any_term, Kernel<Half>::any_term};

}  // namespace fastgan::FASTGAN_ISA
