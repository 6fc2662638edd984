// What is not a tensor: how this build was made and what it chose. Free of torch headers, so that pybind11 and the
// stable ABI never meet in one translation unit.
#include <pybind11/pybind11.h>

#include "cpu/capability.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "Facts about the compiled part of fastgan.";
  m.def(
      "build_config",
      [] {
        py::dict config;
        config["version"] = FASTGAN_VERSION;
        config["compiler"] = FASTGAN_COMPILER;
        config["build_type"] = FASTGAN_BUILD_TYPE;
        config["torch_headers"] = FASTGAN_TORCH_VERSION;  // of the torch that was compiled against
        config["torch_target"] = FASTGAN_TORCH_TARGET;    // the oldest torch whose ABI is used
        config["cuda_archs"] = FASTGAN_CUDA_ARCHS;        // empty: built without CUDA
        config["cuda_reason"] = FASTGAN_CUDA_REASON;      // why, if so
        return config;
      },
      "Version, compiler, torch and CUDA of this build, as a dict of strings.");
  m.def(
      "cpu_capability", [] { return fastgan::name(fastgan::cpu_capability()); },
      "The instruction set that the CPU kernels use here: baseline, avx2 or avx512.");
}
