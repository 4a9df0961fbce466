#include "cuda/device.h"

#include <cuda_runtime.h>

namespace motet::cuda {

std::vector<DeviceProperties> Devices(std::string* problem) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    if (problem) *problem = cudaGetErrorString(error);
    return {};
  }
  std::vector<DeviceProperties> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    devices.push_back({p.name, p.major, p.minor, p.multiProcessorCount,
                       static_cast<int64_t>(p.totalGlobalMem), p.l2CacheSize});
  }
  return devices;
}

}  // namespace motet::cuda
