// Kernels on the current stream of a tensor's device, and the counters by which their blocks find out who is the last.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <utility>

#include "../include/tensor.h"
#include "vec.cuh"

#if !defined(FASTGAN_EMULATED)
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#endif

// The dispatch key of the ops. Emulated, they stand in for the CPU's.
#if defined(FASTGAN_EMULATED)
#define FASTGAN_DEVICE CPU
#else
#define FASTGAN_DEVICE CUDA
#endif

namespace fastgan::FASTGAN_ISA {

constexpr int kThreads = 256;

#if defined(FASTGAN_EMULATED)
constexpr int64_t kMostBlocks = 61;  // few, so that blocks have to come back for more work
constexpr int64_t kEmulatedMultiprocessors = 3;

// Half of the calls, at random, take the way of a call under capture.
class Queue {
 public:
  const Device device;
  explicit Queue(const Tensor& first) : device(device_of(first)) {}
  int64_t multiprocessors() const { return kEmulatedMultiprocessors; }
  bool capturing() const { return emulated::Machine::instance().random() % 2 == 0; }
  void zero(void* memory, size_t bytes) const { memset(memory, 0, bytes); }
  static int* zeroed_forever(size_t count) { return static_cast<int*>(calloc(count, sizeof(int))); }

  template <class... P>
  void launch(void (*kernel)(P...), int64_t blocks, std::common_type_t<P>... arguments) const {
    emulated::Machine::instance().run(unsigned(std::min(blocks, kMostBlocks)), kThreads, [&] { kernel(arguments...); });
  }
};
#else
constexpr int64_t kMostBlocks = 1 << 30;

inline void check(cudaError_t error) {
  STD_TORCH_CHECK(error == cudaSuccess, "fastgan: CUDA: ", cudaGetErrorString(error));
}

// Where kernels go: the device of the first tensor, current while this lives, and torch's current stream there.
class Queue {
 public:
  const Device device;

  explicit Queue(const Tensor& first) : device(checked(first)), guard_(device.index) {
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device.index, &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  int64_t multiprocessors() const {
    static std::array<std::atomic<int>, 64> known{};
    std::atomic<int>& count = known[device.index];
    if (count == 0) {
      int found = 0;
      check(cudaDeviceGetAttribute(&found, cudaDevAttrMultiProcessorCount, device.index));
      count = found;
    }
    return count;
  }

  bool capturing() const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream_, &status));
    return status != cudaStreamCaptureStatusNone;
  }

  // On the stream, or as a node of the graph that it captures.
  void zero(void* memory, size_t bytes) const { check(cudaMemsetAsync(memory, 0, bytes, stream_)); }

  // Not while this stream captures; that another thread's does is no obstacle.
  static int* zeroed_forever(size_t count) {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    check(cudaThreadExchangeStreamCaptureMode(&mode));
    void* memory = nullptr;
    cudaStream_t own = nullptr;
    cudaError_t error = cudaMalloc(&memory, count * sizeof(int));
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking);
    if (error == cudaSuccess) error = cudaMemsetAsync(memory, 0, count * sizeof(int), own);
    if (error == cudaSuccess) error = cudaStreamSynchronize(own);
    if (own != nullptr) cudaStreamDestroy(own);
    check(cudaThreadExchangeStreamCaptureMode(&mode));
    check(error);
    return static_cast<int*>(memory);
  }

  template <class... P>
  void launch(void (*kernel)(P...), int64_t blocks, std::common_type_t<P>... arguments) const {
    void* pointers[] = {&arguments...};
    check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(unsigned(std::min(blocks, kMostBlocks))),
                           dim3(kThreads), pointers, 0, stream_));
  }

 private:
  static Device checked(const Tensor& t) {
    const Device d = device_of(t);
    STD_TORCH_CHECK(d.type == aoti_torch_device_type_cuda() && d.index >= 0 && d.index < 64,
                    "fastgan: the tensors must be on one CUDA device");
    return d;
  }

  const torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};
#endif

// Zeroed integers, for a kernel that leaves them at zero: the last block that counts on one puts it back.
//
// A device has one pool of them, so that no call needs a memset. Calls outside a capture go round in its first half,
// far slower than a device can fall behind: no two kernels in flight share an integer. A captured call keeps what it
// takes for as long as its graph may be replayed, so it takes from the second half what no other call has had; one
// graph does not run beside itself. Where there is no pool yet, which no capture may allocate, or no more of it, a
// captured call takes memory of its graph and a memset before every replay.
class Counters {
 public:
  Counters(const Queue& queue, int64_t count) {
    if (count == 0) return;
    static std::mutex mutex;
    static std::array<Pool, 64> pools;
    const std::lock_guard<std::mutex> lock(mutex);
    Pool& pool = pools[std::max(queue.device.index, 0)];
    const bool captured = queue.capturing();
    if (pool.memory == nullptr && !captured) pool.memory = Queue::zeroed_forever(2 * kHalf);
    if (pool.memory != nullptr && captured && pool.kept + count <= kHalf) {
      data = pool.memory + kHalf + pool.kept;
      pool.kept += count;
    } else if (pool.memory != nullptr && !captured) {
      if (pool.next + count > kHalf) pool.next = 0;
      data = pool.memory + pool.next;
      pool.next += count;
    } else {
      own_ = output({count}, aoti_torch_dtype_int32(), queue.device);
      data = static_cast<int*>(own_->data_ptr());
      queue.zero(data, count * sizeof(int));
    }
  }

  int* data = nullptr;

 private:
  static constexpr int64_t kHalf = 1 << 21;
  struct Pool {
    int* memory = nullptr;
    int64_t next = 0, kept = 0;
  };
  OptionalTensor own_;
};

// Calls body(T()) with T the storage type of the tensor.
template <class Body>
void with_storage(const Tensor& t, const Body& body) {
  switch (storage_of(t)) {
    case Storage::float32:
      return body(float());
    case Storage::float64:
      return body(double());
    case Storage::bfloat16:
      return body(BFloat16());
    case Storage::float16:
      return body(Half());
  }
}

// `repeat`: one value may stand for all.
inline Parameter parameter(const OptionalTensor& t, int64_t channels, double otherwise, const Queue& queue,
                           bool repeat = false) {
  if (!t) return {nullptr, 0, Storage::float32, otherwise};
  repeat = repeat && t->numel() == 1;
  STD_TORCH_CHECK(t->dim() == 1 && (repeat || t->numel() == channels) && is_on(*t, queue.device),
                  "fastgan: a parameter must be a vector of one value a channel");
  return {t->data_ptr(), repeat ? 0 : t->strides()[0], storage_of(*t), 0};
}

inline Written written(const OptionalTensor& t) {
  if (!t || t->numel() == 0) return {nullptr, 0, Storage::float32};
  return {t->data_ptr(), t->strides()[0], storage_of(*t)};
}

inline Tensor scratch(int64_t count, const Queue& queue) { return output({count}, true, queue.device); }

}  // namespace fastgan::FASTGAN_ISA
