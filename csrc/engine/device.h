// Where a model runs: weights, cache, forward pass and logits of one device. The engine above it
// knows none of them; it calls a handful of functions a step, hence virtual ones.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "engine/kv_cache.h"
#include "model/config.h"
#include "model/weights.h"
#include "sched/batch_plan.h"

namespace motet {

inline constexpr int kCpu = -1;

struct DeviceOptions {
  int device = kCpu;  // or the index of a GPU
  Precision precision = Precision::kExact;
  KvDtype kv_dtype = KvDtype::kAuto;
  int threads = 1;         // of the CPU
  int64_t max_logit_rows;  // of a step
  int64_t max_sequences;   // rows of the page tables
  int64_t max_context;     // tokens of a sequence
};

class Device {
 public:
  virtual ~Device() = default;

  // Runs a step. `between_layers` may throw to abandon it, see Forward; a device that is done with
  // a whole step sooner than others with a layer need not call it.
  virtual void Run(const BatchPlan& plan, const std::function<void()>& between_layers) = 0;
  // Of plan.logit_rows[row] of the step that ran last, [vocab], until the next one runs.
  virtual std::span<const float> Logits(int row) = 0;
  // What plan.draws[row] asked for, where the device draws itself.
  virtual std::optional<int32_t> Drawn(int row) = 0;

  virtual std::string kernels() const = 0;  // the instruction set or architecture that runs
  virtual int threads() const = 0;
  virtual int64_t workspace_bytes() const = 0;
};

// The most tokens of a step: enough that reading and decoding weights is paid for by many.
int64_t MaxStepTokens(int device);

// The tensors' memory must outlive a CPU's device. Both throw OutOfMemoryError before the system
// does, CheckpointError for weights that are not finite, InvalidRequestError for options that the
// device does not have; the second DeviceError too.
std::unique_ptr<Device> MakeCpuDevice(const ModelConfig& config, Weights weights,
                                      const KvCachePlan& cache, const DeviceOptions& options);
std::unique_ptr<Device> MakeCudaDevice(const ModelConfig& config, Weights weights,
                                       const KvCachePlan& cache, const DeviceOptions& options,
                                       const std::function<void(double)>& progress);

// What a model needs of a GPU and what that has, in bytes.
struct CudaMemoryPlan {
  int64_t weights, workspace;
  int64_t free, total;
};
CudaMemoryPlan PlanCudaMemory(const ModelConfig& config, const DeviceOptions& options);

}  // namespace motet
