// How the kernels over (N, C, *) tensors cut their work, walk through it and sum. For kernel files only: see vec.h.
//
// Every result is independent of the number of threads: work is cut into tasks by shape alone, each task sums in a
// fixed order, and the tasks' sums are merged in a fixed order.
//
// A sum runs in float over a short stretch (kStretch vectors) and then joins a double, so that the error does not
// grow with the tensor.
#pragma once

#include <stdlib.h>

#include "../include/act.h"
#include "kernel.h"
#include "vec.h"

namespace fastgan::FASTGAN_ISA {

constexpr int kStretch = 16;
constexpr int kColumns = kVectorBytes == 64 ? 4 : 2;  // vectors of channels at once; their parameters stay in registers
constexpr int kBlock = 8;                             // channels of a contiguous task
constexpr int64_t kLongRow = 512;                     // channels of a channels_last task, at least
constexpr int64_t kTaskElements = 16384;
constexpr int64_t kMostChunks = 64;

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Calls body(task) for all of them, shared among the threads.
template <class Body>
void each(Parallel parallel, int64_t tasks, const Body& body) {
  parallel(
      tasks, kTaskElements * kTaskElements,
      [](int64_t begin, int64_t end, void* opaque) {
        for (int64_t i = begin; i < end; ++i) (*static_cast<const Body*>(opaque))(i);
      },
      const_cast<Body*>(&body));
}

// How a tensor is cut. Channels last: a task is a stretch of rows (all channels of one position), or with `split` a
// block of their channels where the rows are few and long. Contiguous: a task is a stretch of samples and a block of
// channels.
struct Plan {
  Shape shape;
  int64_t units;  // rows or samples of a group
  int64_t chunks, blocks;
  int64_t block;  // channels

  explicit Plan(const Shape& s, bool split = false) : shape(s) {
    const int64_t unit = s.channels_last ? s.channels : s.space * smaller(s.channels, kBlock);
    units = s.channels_last ? s.batch * s.space : s.batch;
    const int64_t enough = s.channels_last ? units / kStretch : units, wanted = units * unit / kTaskElements;
    chunks = larger(1, smaller(smaller(wanted, enough), kMostChunks));
    block = s.channels_last ? s.channels : kBlock;
    if (s.channels_last && split && wanted > chunks)
      block = larger(kLongRow, (s.channels * chunks / wanted + 63) / 64 * 64);
    blocks = (s.channels + block - 1) / block;
  }

  int64_t tasks() const { return shape.groups * chunks * blocks; }
  int64_t elements() const { return shape.groups * shape.batch * shape.channels * shape.space + shape.tail; }
};

struct Task {
  int64_t group, chunk;       // of its group
  int64_t unit, units;        // first row or sample within the tensor, and how many
  int64_t channel, channels;  // first channel and how many
  int64_t tail;               // of these channels, how many the elements after the last row have
  int64_t values(const Shape& s) const { return s.channels_last ? units : units * s.space; }

  Task(const Plan& plan, int64_t index) {
    channel = index % plan.blocks * plan.block;
    channels = smaller(plan.block, plan.shape.channels - channel);
    chunk = index / plan.blocks % plan.chunks;
    group = index / plan.blocks / plan.chunks;
    const int64_t begin = plan.units * chunk / plan.chunks, end = plan.units * (chunk + 1) / plan.chunks;
    unit = group * plan.units + begin;
    units = end - begin;
    tail = chunk + 1 == plan.chunks ? larger(0, smaller(channels, plan.shape.tail - channel)) : 0;
  }
};

template <class Body>
void run(Parallel parallel, const Plan& plan, bool backwards, const Body& body) {
  struct Context {
    const Plan& plan;
    const Body& body;
    bool backwards;
  } context{plan, body, backwards};
  parallel(
      plan.tasks(), plan.elements(),
      [](int64_t begin, int64_t end, void* opaque) {
        const Context& c = *static_cast<Context*>(opaque);
        // The second pass over a tensor starts where the first one ended: that part is still in the cache.
        for (int64_t i = begin; i < end; ++i) c.body(Task(c.plan, c.backwards ? end - 1 - (i - begin) : i));
      },
      &context);
}

struct Scratch {
  double* data;
  explicit Scratch(int64_t count) : data(static_cast<double*>(calloc(count, sizeof(double)))) {
    if (data == nullptr) abort();
  }
  ~Scratch() { free(data); }
  Scratch(const Scratch&) = delete;
};

template <int N>
struct Count {
  static constexpr int value = N;
};

// Calls body(first channel, Count<vectors>, lanes) over all channels; lanes is short only for the last vector.
template <class T, class Body>
FASTGAN_INLINE void over_columns(int64_t channels, const Body& body) {
  constexpr int lanes = kLanes<T>;
  int64_t c = 0;
  for (; c + kColumns * lanes <= channels; c += kColumns * lanes) body(c, Count<kColumns>(), lanes);
  for (; c + lanes <= channels; c += lanes) body(c, Count<1>(), lanes);
  if (c < channels) body(c, Count<1>(), int(channels - c));
}

// Calls body(first element, lanes) over a plane, for stretches of at most kStretch vectors, then flush().
template <class T, class Body, class Flush>
FASTGAN_INLINE void over_plane(int64_t space, const Body& body, const Flush& flush) {
  constexpr int lanes = kLanes<T>;
  for (int64_t begin = 0; begin < space; begin += kStretch * lanes) {
    const int64_t end = smaller(space, begin + kStretch * lanes);
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) body(i, lanes);
    if (i < end) body(i, int(end - i));
    flush();
  }
}

// Calls rows(first channel, Count<vectors>, lanes, row, end) or plane(channel, first element) over a task.
template <class T, class Rows, class Plane>
FASTGAN_INLINE void over_task(const Shape& shape, const Task& task, const Rows& rows, const Plane& plane) {
  if (shape.channels_last) {
    const int64_t last = task.unit + task.units, end = task.tail == 0 ? last : last + 1;
    for (int64_t row = task.unit, next; row < end; row = next) {
      next = row < last ? smaller(row + kStretch, last) : end;
      over_columns<T>(row < last ? task.channels : task.tail,
                      [&](int64_t c, auto columns, int lanes) { rows(task.channel + c, columns, lanes, row, next); });
    }
  } else {
    for (int64_t n = task.unit; n < task.unit + task.units; ++n)
      for (int64_t c = task.channel; c < task.channel + task.channels; ++c)
        plane(c, (n * shape.channels + c) * shape.space);
  }
}

// A vector of parameters, which are in the compute type. lanes 0: one of them in every lane.
template <class T>
FASTGAN_INLINE typename Compute<T>::Vector parameter(const void* p, int64_t at, int lanes) {
  const auto* const s = static_cast<const typename Compute<T>::Scalar*>(p) + at;
  return lanes == 0 ? typename Compute<T>::Vector{} + *s : load(s, lanes);
}

// Adds lanes of V to as many doubles.
template <class V>
FASTGAN_INLINE void accumulate(double* sums, V v, int lanes) {
  constexpr int all = sizeof(V) / sizeof(v[0]);
  if (lanes == all) {
    for (int i = 0; i < all; ++i) sums[i] += v[i];
  } else {
    for (int i = 0; i < lanes; ++i) sums[i] += v[i];
  }
}

template <int L>
double total_of(const double (&lanes)[L]) {
  double total = 0;
  for (int i = 0; i < L; ++i) total += lanes[i];
  return total;
}

}  // namespace fastgan::FASTGAN_ISA
