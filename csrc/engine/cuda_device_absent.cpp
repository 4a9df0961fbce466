#include "base/error.h"
#include "engine/device.h"

namespace motet {
namespace {

[[noreturn]] void Refuse() {
  throw DeviceError(
      "device: this motet was built without CUDA; install it where nvcc is found, or use "
      "device='cpu'");
}

}  // namespace

std::unique_ptr<Device> MakeCudaDevice(const ModelConfig&, Weights, const KvCachePlan&,
                                       const DeviceOptions&, const std::function<void(double)>&) {
  Refuse();
}

CudaMemoryPlan PlanCudaMemory(const ModelConfig&, const DeviceOptions&) { Refuse(); }

}  // namespace motet
