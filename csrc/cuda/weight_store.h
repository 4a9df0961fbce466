// A model's weights in the device's memory, packed as the kernels read them.
#pragma once

#include <functional>

#include "cuda/memory.h"
#include "model/weights.h"

namespace motet::cuda {

class WeightStore {
 public:
  // Bytes of the device's memory that the weights take.
  static int64_t Bytes(const ModelConfig& config, Precision precision);

  WeightStore() = default;
  // Copies `weights`, which refer to the device's memory afterwards; those without values become
  // random numbers of plausible size. `progress` is called with the part that is done, 0 to 1.
  // Throws CheckpointError for weights that are not finite.
  WeightStore(const ModelConfig& config, Precision precision, Weights& weights, int device,
              const std::function<void(double)>& progress);

 private:
  DeviceMemory memory_;
};

}  // namespace motet::cuda
