#include "cuda/launch.h"

#include <cstdlib>
#include <string_view>

#include "cuda/device.h"

namespace motet::cuda {

#ifndef MOTET_CUDA_EMULATED

bool StartsEarly() {
  // Before 12.3 graphs had no such edges.
  constexpr int kLeastDriver = 12030;
  static const bool allowed = [] {
    const char* early_start = std::getenv("MOTET_CUDA_EARLY_START");
    return DriverVersion() >= kLeastDriver &&
           std::string_view(early_start ? early_start : "") != "0";
  }();
  const DeviceProperties& device = CurrentDevice();
  // A device runs the code for the newest architecture that it has, and only that of 9.0 and later
  // waits for inputs. (From nvcc: 100 * major + 10 * minor of each.)
  int architecture = 0;
  for (const int one : {__CUDA_ARCH_LIST__}) {
    if (one <= 100 * device.major + 10 * device.minor && one > architecture) architecture = one;
  }
  return allowed && architecture >= 900;
}

#endif

}  // namespace motet::cuda
