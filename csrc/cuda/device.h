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
  int64_t shared_bytes;  // of a multiprocessor
};

// The newest CUDA that the driver knows, 1000 * major + 10 * minor; 0 without a driver.
int DriverVersion();

// None where there is no driver, or one too old: then `problem` says so.
std::vector<DeviceProperties> Devices(std::string* problem = nullptr);

// The one that this thread's calls go to.
const DeviceProperties& CurrentDevice();

// Throws InvalidRequestError for one that is not there, DeviceError for one that can't be used.
void RequireDevice(int device);
// Makes it the one that this thread's calls go to.
void UseDevice(int device);

// Whether the current device, with the code that it runs, has products of warpgroups: 9.0 and code
// for 9.0a. Kernels that use them are empty in other code.
bool HasWarpgroups();

std::string ArchitectureName(int device);  // "sm_90"

struct MemoryInfo {
  int64_t free, total;  // bytes
};
MemoryInfo DeviceMemoryInfo();  // of the one in use

}  // namespace motet::cuda
