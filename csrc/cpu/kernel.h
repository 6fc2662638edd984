// What every CPU kernel is told beside the shape: how to run on many threads. Free of torch headers.
#pragma once

#include <stdint.h>

#include "../include/shape.h"

namespace fastgan {

// Runs body(begin, end, context) over a partition of [0, tasks): on the threads of torch, or inline for small work.
using ParallelBody = void (*)(int64_t begin, int64_t end, void* context);
using Parallel = void (*)(int64_t tasks, int64_t elements, ParallelBody, void* context);

}  // namespace fastgan
