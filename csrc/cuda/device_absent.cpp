#include "cuda/device.h"

namespace motet::cuda {

int DriverVersion() { return 0; }

std::vector<DeviceProperties> Devices(std::string* problem) {
  if (problem) *problem = "motet was built without CUDA";
  return {};
}

}  // namespace motet::cuda
