// Sums over the threads of a block and over the blocks of a grid. Every sum has a fixed order: the same bits at every
// run. A thread sums in its compute type over kStretch values and then in double, so that the error does not grow with
// the tensor.
#pragma once

#include "launch.cuh"
#include "walk.h"

namespace fastgan::FASTGAN_ISA {

constexpr int kStretch = 16;

#if defined(__CUDACC__) || defined(FASTGAN_EMULATED)

// K sums of `columns` columns, each spread over slices: thread t holds a part of column t % columns. Afterwards thread
// t < columns has the sums of column t. For columns * slices <= kThreads.
template <int K>
__device__ void sum_slices(int columns, int slices, double (&v)[K]) {
  __shared__ double held[K][kThreads];
  const int t = threadIdx.x, slice = t / columns;
  int half = 1;
  while (half < slices) half *= 2;
  __syncthreads();  // of an earlier sum
  for (int k = 0; k < K; ++k) held[k][t] = v[k];
  __syncthreads();
  for (half /= 2; half > 0; half /= 2) {
    if (slice < half && slice + half < slices)
      for (int k = 0; k < K; ++k) held[k][t] += held[k][t + half * columns];
    __syncthreads();
  }
  for (int k = 0; k < K; ++k) v[k] = held[k][t];
}

// Whether this block is the last of `expected` to come here with this counter. Then it sees what the others wrote.
__device__ inline bool is_last(int* counter, int64_t expected) {
  __shared__ int order;
  if (expected > 1) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) order = atomicAdd(counter, 1);
    __syncthreads();
    const bool last = order == expected - 1;
    if (!last) return false;
    __threadfence();
    if (threadIdx.x == 0) *counter = 0;
  }
  __syncthreads();  // what this block itself wrote
  return true;
}

// What the threads of a block have summed, of K terms in each of their W columns. In shared memory: as registers they
// would halve the threads that a multiprocessor can hold.
template <int K, int W>
using Totals = double[K][W][kThreads];

// The sums of one thread.
template <class S, int K, int W>
struct Sums {
  S part[K][W] = {};
  Totals<K, W>& totals;

  __device__ explicit Sums(Totals<K, W>& t) : totals(t) {
    for (int k = 0; k < K; ++k)
      for (int i = 0; i < W; ++i) totals[k][i][threadIdx.x] = 0;
  }
  __device__ __forceinline__ void flush() {
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int i = 0; i < W; ++i) {
        totals[k][i][threadIdx.x] += double(part[k][i]);
        part[k][i] = 0;
      }
  }
};

// Calls use(load(at), at) for the values of a thread, U loads at a time, and flush() after every kStretch of them.
template <int U, class Load, class Use, class Flush>
__device__ __forceinline__ void over_values(const Walk& w, const Place& p, const Load& load, const Use& use,
                                            const Flush& flush) {
  if (p.begin >= p.end) return;
  Cursor cursor(w, p, p.begin);
  int stretch = 0;
  for (int64_t value = p.begin; value < p.end; value += U * w.rows) {
    decltype(load(int64_t())) loaded[U];
    int64_t at[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      at[u] = cursor.at;
      if (value + u * w.rows < p.end) loaded[u] = load(at[u]);
      cursor.advance(w);
    }
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (value + u * w.rows < p.end) use(loaded[u], at[u]);
    if (++stretch == kStretch / U) {
      flush();
      stretch = 0;
    }
  }
  flush();
}

// The sums of an item's columns, from those of its threads, into their place in parts [K, groups, chunks, columns].
template <int K, int W>
__device__ void sum_item(const Walk& w, const Place& p, const Totals<K, W>& totals, double* parts) {
  const int t = threadIdx.x, columns = w.channels_last ? w.lanes * W : 1, slices = kThreads / columns;
  const int slice = t / columns, lane = t % columns % w.lanes, i = t % columns / w.lanes;
  double v[K] = {};
  __syncthreads();
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (!w.channels_last) {
#pragma unroll
      for (int j = 0; j < W; ++j) v[k] += totals[k][j][t];
    } else if (slice < slices) {
      for (int row = slice; row < w.rows; row += slices) v[k] += totals[k][i][row * w.lanes + lane];
    }
  }
  sum_slices(columns, slices, v);
  const int64_t column = w.channels_last ? (p.tile * w.lanes + lane) * W + i : p.tile;
  if (t >= columns || column >= w.columns) return;
  for (int k = 0; k < K; ++k) parts[((k * w.groups + p.group) * w.chunks + p.chunk) * w.columns + column] = v[k];
}

// The items whose parts one block merges: those of some tiles, of one group, or where `ordered` of all.
struct Scope {
  int64_t group, end_group, channel, end_channel;
  int64_t items;
  int* counter;
};

struct Merging {
  double* parts;  // [K, groups, chunks, columns]
  int* counters;
  int64_t scopes, tiles;  // of a group, of a scope
  bool ordered;

  FASTGAN_INLINE Scope scope_of(const Walk& w, const Place& p) const {
    const int64_t scope = quotient(p.tile, tiles), tile = scope * tiles;
    const int64_t end = tile + tiles < w.tiles ? tile + tiles : w.tiles;
    Scope s;
    s.group = ordered ? 0 : p.group;
    s.end_group = ordered ? w.groups : p.group + 1;
    const int64_t channels_of_a_tile = w.channels_last ? w.lanes * w.width : 1;
    s.channel = tile * channels_of_a_tile;
    s.end_channel = end == w.tiles ? w.channels : end * channels_of_a_tile;  // folded rows are one tile
    s.items = (end - tile) * w.chunks * (s.end_group - s.group);
    s.counter = counters == nullptr ? nullptr : counters + s.group * scopes + scope;
    return s;
  }
};

// What other blocks wrote, past this multiprocessor's own cache.
__device__ inline double read_fresh(const double* p) {
#if defined(__CUDA_ARCH__)
  return __ldcg(p);
#else
  return *p;
#endif
}

// Calls finish(group, channel, sums[K]) for all of a scope, by one thread each, then waits for all.
template <int K, class Finish>
__device__ void merge(const Walk& w, const Scope& s, const double* parts, const Finish& finish) {
  const int t = threadIdx.x;
  const int64_t channels = s.end_channel - s.channel, pairs = (s.end_group - s.group) * channels;
  const int64_t of_a_pair = w.chunks * w.fold;
  const int abreast = pairs < kThreads ? int(pairs) : kThreads, slices = kThreads / abreast, slice = t / abreast;
  for (int64_t first = 0; first < pairs; first += abreast) {
    const int64_t pair = first + t % abreast, row = quotient(pair, channels);
    const int64_t group = s.group + row, channel = s.channel + pair - row * channels;
    double v[K] = {};
    if (slice < slices && pair < pairs)
#pragma unroll 4
      for (int64_t i = slice; i < of_a_pair; i += slices)
#pragma unroll
        for (int k = 0; k < K; ++k)
          v[k] += read_fresh(parts + ((k * w.groups + group) * of_a_pair + i) * w.channels + channel);
    if (slices > 1) sum_slices(abreast, slices, v);
    if (t < abreast && pair < pairs) finish(group, channel, v);
  }
  __syncthreads();
}

#endif

// The memory of a reduction. `ordered`: something is summed over the groups, in their order. `whole`: and over the
// channels.
struct Reduction {
  Tensor parts;
  bool ordered, alone;  // alone: a tile is a scope, and an item too, or there is nothing to sum
  int64_t tiles, scopes;
  Counters counters;

  Reduction(const Walk& w, int sums, bool ordered_, const Queue& queue, bool whole = false)
      : parts(scratch(sums * w.groups * w.chunks * w.columns, queue)),
        ordered(ordered_ && w.groups > 1),
        alone(sums == 0 || (w.chunks == 1 && !ordered && (!whole || w.tiles == 1))),
        tiles(whole   ? w.tiles
              : alone ? 1
                      : (w.tiles + kMostScopes - 1) / kMostScopes),
        scopes((w.tiles + tiles - 1) / tiles),
        counters(queue, alone ? 0 : scopes * (ordered ? 1 : w.groups)) {}

  Merging merging() const { return {static_cast<double*>(parts.data_ptr()), counters.data, scopes, tiles, ordered}; }

 private:
  static constexpr int64_t kMostScopes = 1024;
};

}  // namespace fastgan::FASTGAN_ISA
