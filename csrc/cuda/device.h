// The GPUs of this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace motet::cuda {

struct DeviceProperties {
  std::string name;
  int major, minor;  // compute capability
  int multiprocessors;
  int64_t memory;  // bytes
  int64_t l2_bytes;
};

// None where there is no driver, or one too old: then `problem` says so.
std::vector<DeviceProperties> Devices(std::string* problem = nullptr);

}  // namespace motet::cuda
