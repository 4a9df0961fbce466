#include "cuda/device.h"

namespace motet::cuda {

std::vector<DeviceProperties> Devices(std::string* problem) {
  if (problem) *problem = "motet was built without CUDA";
  return {};
}

}  // namespace motet::cuda
