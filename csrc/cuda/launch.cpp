#include "cuda/launch.h"

namespace motet::cuda {

#ifndef MOTET_CUDA_EMULATED
bool StartsEarly() {
  static const bool early = [] {
    int device = 0, major = 0;
    Check(cudaGetDevice(&device), "the current device");
    Check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
          "the device's compute capability");
    return major >= 9;
  }();
  return early;
}
#endif

}  // namespace motet::cuda
