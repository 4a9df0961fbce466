// A BatchPlan on its way to a GPU.
#pragma once

#include <vector>

#include "cuda/backend.h"
#include "cuda/kernels/page_changes.h"
#include "engine/forward.h"
#include "sched/batch_plan.h"

namespace motet {

// How large a step is made: kernels and copies of a size can be recorded once and run again.
struct StepShape {
  int tokens, logit_rows;  // at least the plan's; what is more is filled up
  int64_t context;         // at least what any of its tokens sees

  auto operator<=>(const StepShape&) const = default;
};

class CudaStep {
 public:
  CudaStep(const ModelConfig& config, const cuda::StepLimits& limits);

  // Writes a plan into pinned memory; the device must be done with the last one. `all_tokens`: no
  // token is computed together with others of its sequence, which decides what is launched.
  void Fill(const BatchPlan& plan, const StepShape& shape, bool all_tokens);
  // Brings the device's page tables up to date.
  void CopyPageTables(const BatchPlan& plan, cuda::Stream stream);
  // Copies what Fill wrote: from the same place for every step of a shape.
  void Copy(cuda::Stream stream) const;

  const StepInputs& inputs() const { return inputs_; }
  const cuda::StepExtras& extras() const { return extras_; }
  int num_tokens() const { return shape_.tokens; }

 private:
  // A page table on the device, with what it holds.
  struct PageTable {
    cuda::DeviceMemory device;
    std::vector<int32_t> held;  // [max_sequences, pages_per_sequence]
  };
  void FindChanges(const int32_t* pages, const BatchPlan& plan, PageTable& table);

  ModelConfig config_;
  int64_t pages_per_sequence_;
  cuda::PinnedMemory pinned_;
  cuda::DeviceMemory device_;
  int64_t used_ = 0;  // bytes of both
  PageTable full_, sliding_;
  cuda::PinnedMemory changes_;  // PageChange
  cuda::DeviceMemory device_changes_;
  int64_t num_changes_ = 0;
  StepShape shape_{};
  StepInputs inputs_{};
  cuda::StepExtras extras_{};
  std::vector<int32_t> tokens_;
  std::vector<cuda::TokenRun> runs_;
};

}  // namespace motet
