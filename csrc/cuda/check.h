// CUDA's error codes as exceptions.
#pragma once

#include <cuda_runtime.h>

namespace motet::cuda {

// Throws OutOfMemoryError or DeviceError, whose message starts with `what` was tried.
void Check(cudaError_t error, const char* what);

}  // namespace motet::cuda
