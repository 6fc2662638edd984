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

// Sums of K terms in each of the W columns of a thread.
template <class S, int K, int W>
struct Sums {
  S part[K][W] = {};
  double total[K][W] = {};
  int terms = 0;

  __device__ void flush() {
    for (int k = 0; k < K; ++k)
      for (int w = 0; w < W; ++w) {
        total[k][w] += double(part[k][w]);
        part[k][w] = 0;
      }
  }
};

#endif

}  // namespace fastgan::FASTGAN_ISA
