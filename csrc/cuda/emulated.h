// Runs the CUDA sources on the CPU, as C++, so that they can be tested without a GPU: make emulate.
//
// The threads of a block are fibers. They run one at a time, until a barrier or their end, and which one comes next is
// random, as is the order of the blocks: a missing barrier or a result that depends on the order shows.
// FASTGAN_EMULATION_SEED chooses the order. What this cannot show: races between blocks that run at once.
#pragma once

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <mutex>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline

namespace fastgan::emulated {

struct Dimension {
  unsigned x = 0;
};

class Machine {
 public:
  static constexpr int kMostThreads = 256;
  static constexpr int kWarp = 32;
  static constexpr size_t kStack = 256 << 10;

  static Machine& instance() {
    static Machine machine;
    return machine;
  }

  template <class Body>
  void run(unsigned blocks, int threads, const Body& body) {
    const std::lock_guard<std::mutex> one_kernel_at_a_time(mutex_);
    if (threads > kMostThreads) fail("more threads than a block may have");
    run_ = [](const void* context) { (*static_cast<const Body*>(context))(); };
    context_ = &body;
    threads_ = threads;
    std::vector<unsigned> order(blocks);
    for (unsigned i = 0; i < blocks; ++i) order[i] = i;
    for (unsigned left = blocks; left > 0; --left) {
      std::swap(order[random() % left], order[left - 1]);
      run_block(order[left - 1], blocks);
    }
  }

  // __syncthreads()
  void barrier() {
    const int me = current_;
    waiting_.push_back(me);
    if (int(waiting_.size()) == threads_) ready_.swap(waiting_);
    leave(me);
  }

  // Every thread of a warp gives a number and takes that of another, as by __shfl_sync.
  double exchange(double value, int from) {
    const int me = current_, warp = me / kWarp;
    Warp& w = warps_[warp];
    const int round = w.round;
    w.values[round][me % kWarp] = value;
    w.waiting.push_back(me);
    if (int(w.waiting.size()) == kWarp) {
      w.round = 1 - round;  // nobody comes back to this one before all have read it
      for (int thread : w.waiting) ready_.push_back(thread);
      w.waiting.clear();
    }
    leave(me);
    return w.values[round][from];
  }

  uint64_t random() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }

  Dimension thread, block, grid, threads_of_block;

 private:
  struct Fiber {
    jmp_buf here;
    ucontext_t context;
    void* stack = nullptr;
    size_t size = 0;
    bool started = false;
  };

  struct Warp {
    double values[2][kWarp];
    int round = 0;
    std::vector<int> waiting;
  };

  Machine() {
    const char* seed = getenv("FASTGAN_EMULATION_SEED");
    state_ += seed == nullptr ? 0 : 0x9e3779b97f4a7c15u * strtoull(seed, nullptr, 10);
    for (int i = 0; i < 8; ++i) random();
  }

  [[noreturn]] static void fail(const char* what) {
    fprintf(stderr, "fastgan, CUDA emulation: %s\n", what);
    abort();
  }

  void run_block(unsigned index, unsigned blocks) {
    block.x = index;
    grid.x = blocks;
    threads_of_block.x = unsigned(threads_);
    finished_ = 0;
    for (int i = 0; i < threads_; ++i) ready_.push_back(i);
    enter(host_, next());
    if (finished_ != threads_) fail("a thread has ended before a barrier at which others of its block wait");
  }

  // From a fiber to one that can run, or back to the host where there is none.
  void leave(int me) { enter(fibers_[me], next()); }

  Fiber& next() {
    if (ready_.empty()) return host_;
    const size_t at = random() % ready_.size();
    current_ = ready_[at];
    ready_[at] = ready_.back();
    ready_.pop_back();
    thread.x = unsigned(current_);
    Fiber& fiber = fibers_[current_];
    if (fiber.stack == nullptr) make(fiber);
    return fiber;
  }

  void make(Fiber& fiber) {
    fiber.size = kStack;
    fiber.stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fiber.stack == MAP_FAILED) fail("mmap");
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, main_of_a_fiber, 0);
  }

  // A fiber lives on from block to block.
  static void main_of_a_fiber() {
    Machine& m = instance();
    m.arrived(nullptr);
    for (;;) {
      m.run_(m.context_);
      ++m.finished_;
      m.leave(m.current_);
    }
  }

#if defined(__SANITIZE_ADDRESS__)
  // The sanitizer wants to be told, and takes a jump to another stack for an error.
  void enter(Fiber& from, Fiber& to) {
    if (&from == &to) return;
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.size);
    swapcontext(&from.context, &to.context);
    arrived(fake_stack);
  }
  void arrived(void* fake_stack) {
    const void* stack = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(fake_stack, &stack, &size);
    bool of_a_fiber = false;
    for (const Fiber& fiber : fibers_) of_a_fiber |= fiber.stack == stack;
    if (of_a_fiber || stack == nullptr) return;
    host_.stack = const_cast<void*>(stack);
    host_.size = size;
  }
#else
  // swapcontext is a system call, and these are many: only a fiber's first entry needs a context.
  void enter(Fiber& from, Fiber& to) {
    if (_setjmp(from.here) != 0) return;
    if (&to == &host_ || to.started) _longjmp(to.here, 1);
    to.started = true;
    setcontext(&to.context);
    fail("setcontext");
  }
  void arrived(void*) {}
#endif

  std::mutex mutex_;
  uint64_t state_ = 88172645463325252u;
  void (*run_)(const void*) = nullptr;
  const void* context_ = nullptr;
  int threads_ = 0, current_ = 0, finished_ = 0;
  std::vector<int> ready_, waiting_;
  Warp warps_[kMostThreads / kWarp];
  Fiber fibers_[kMostThreads];
  Fiber host_;
};

}  // namespace fastgan::emulated

#define threadIdx fastgan::emulated::Machine::instance().thread
#define blockIdx fastgan::emulated::Machine::instance().block
#define gridDim fastgan::emulated::Machine::instance().grid

inline void __syncthreads() { fastgan::emulated::Machine::instance().barrier(); }
template <class S>
S __shfl_xor_sync(unsigned, S value, int mask) {
  const int lane = int(threadIdx.x) % fastgan::emulated::Machine::kWarp;
  return S(fastgan::emulated::Machine::instance().exchange(double(value), lane ^ mask));
}
inline void __trap() { abort(); }
inline void __threadfence() {}
inline int atomicAdd(int* at, int value) {
  const int before = *at;
  *at += value;
  return before;
}
