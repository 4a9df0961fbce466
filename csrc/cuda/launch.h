// How kernels are started. Only .cu files and the emulator's host code include it.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "cuda/check.h"
#include "cuda/device.h"

namespace motet::cuda {

// Dynamic shared memory that a block can have on every card, beside 1 KB that it declares.
inline constexpr int64_t kSharedEverywhere = 98 << 10;

struct LaunchShape {
  dim3 grid;
  int threads;
  int64_t shared_bytes = 0;  // dynamic
};

#ifdef MOTET_CUDA_EMULATED

template <class... Params, class... Args>
void Launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream,
            Args... args) {
  emulator::Enqueue(stream, [=] {
    emulator::Run(stream, shape.grid, dim3(shape.threads), static_cast<size_t>(shape.shared_bytes),
                  [=] { kernel(Params(args)...); });
  });
}

#else

// Programmatic dependent launch (compute capability 9.0): a kernel's blocks may start while the one
// before it in the stream ends. So every kernel begins with WaitForInputs() in all of its threads,
// and only what it reads before that must be constant. (CUDA C++ Programming Guide, "Programmatic
// Dependent Launch and Synchronization")
//
// Whether the current device can, with the code that it runs. MOTET_CUDA_EARLY_START=0 forbids it:
// then a profiler's times of kernels don't overlap, and what is wrong with it can be told from what
// is wrong without.
bool StartsEarly();

template <class... Params, class... Args>
void Launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream,
            Args&&... args) {
  // A kernel may have 48 KB of shared memory without asking, what it declares itself counted in:
  // none that has dynamic memory too declares more than the difference.
  constexpr int64_t kAlwaysAllowed = 47 << 10;
  // Not just what is needed: in between, another thread's model may launch the kernel with less.
  if (shape.shared_bytes > kAlwaysAllowed) {
    Check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(std::max(shape.shared_bytes, kSharedEverywhere))),
          "shared memory of a kernel");
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = StartsEarly() ? 1 : 0;
  Check(cudaLaunchKernelEx(&config, kernel, Params(std::forward<Args>(args))...), "kernel launch");
}

#endif

}  // namespace motet::cuda
