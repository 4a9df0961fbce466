#include "cuda/device.h"

#include "base/error.h"
#include "cuda/check.h"

namespace motet::cuda {

int DriverVersion() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

namespace {

std::string VersionName(int version) {
  return "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// The runtime calls a driver that is not there one of an insufficient version.
std::string ProblemOf(cudaError_t error) {
  if (error != cudaErrorInsufficientDriver) return cudaGetErrorString(error);
  if (DriverVersion() == 0) return "no NVIDIA driver is installed";
  int built_with = 0;
  cudaRuntimeGetVersion(&built_with);
  return "the driver is for " + VersionName(DriverVersion()) + ", motet was built with " +
         VersionName(built_with);
}

}  // namespace

std::vector<DeviceProperties> Devices(std::string* problem) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    if (problem) *problem = ProblemOf(error);
    return {};
  }
  std::vector<DeviceProperties> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    devices.push_back({p.name, p.major, p.minor, p.multiProcessorCount,
                       static_cast<int64_t>(p.totalGlobalMem), p.l2CacheSize,
                       static_cast<int64_t>(p.sharedMemPerMultiprocessor)});
  }
  return devices;
}

const DeviceProperties& CurrentDevice() {
  static const std::vector<DeviceProperties> devices = Devices();
  int device = 0;
  Check(cudaGetDevice(&device), "the current device");
  return devices.at(device);
}

void RequireDevice(int device) {
  constexpr int kLeastMajor = 8;
  std::string problem;
  const std::vector<DeviceProperties> devices = Devices(&problem);
  if (devices.empty()) {
    throw DeviceError("device: no CUDA device can be used" +
                      (problem.empty() ? "" : " (" + problem + ")"));
  }
  if (device < 0 || device >= static_cast<int>(devices.size())) {
    throw InvalidRequestError("device", "device: expected cuda:0..." +
                                            std::to_string(devices.size() - 1) +
                                            ", found cuda:" + std::to_string(device));
  }
  if (devices[device].major < kLeastMajor) {
    throw DeviceError("device: " + devices[device].name + " has compute capability " +
                      std::to_string(devices[device].major) + "." +
                      std::to_string(devices[device].minor) + ", 8.0 or later is needed");
  }
}

void UseDevice(int device) { Check(cudaSetDevice(device), "device"); }

bool HasWarpgroups() {
#if defined(MOTET_CUDA_EMULATED)
  return true;
#elif defined(MOTET_CUDA_90A)
  return CurrentDevice().major == 9 && CurrentDevice().minor == 0;
#else
  return false;
#endif
}

std::string ArchitectureName(int device) {
  cudaDeviceProp p;
  Check(cudaGetDeviceProperties(&p, device), "device");
  return "sm_" + std::to_string(p.major) + std::to_string(p.minor);
}

MemoryInfo DeviceMemoryInfo() {
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "the device's memory");
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

}  // namespace motet::cuda
