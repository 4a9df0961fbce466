#include <utility>

#include "cpu/backend.h"
#include "cpu/large_buffer.h"
#include "engine/device.h"
#include "engine/forward.h"

namespace motet {
namespace {

class CpuDevice final : public Device {
 public:
  CpuDevice(const ModelConfig& config, Weights weights, const KvCachePlan& cache,
            const DeviceOptions& options)
      : config_(config),
        weights_(std::move(weights)),
        cache_memory_(cache.bytes(),
                      "the KV cache; a smaller kv_cache_bytes or max_context may fit",
                      LargeBuffer::Pages::kSmall),
        cache_(config, cache, cache_memory_.data()),
        backend_(config, options.precision, options.kv_dtype, options.threads, MaxStepTokens(kCpu),
                 options.max_logit_rows) {
    backend_.Prepare(weights_);
  }

  void Run(const BatchPlan& plan, const std::function<void()>& between_layers) override {
    const StepInputs step{
        {plan.num_tokens, plan.token_ids.data(), plan.positions.data(), plan.slots.data()},
        plan.num_logit_rows,
        plan.logit_rows.data(),
        plan.full_pages,
        plan.sliding_pages,
        plan.pages_per_sequence,
        plan.full_copies,
        plan.sliding_copies};
    Forward(backend_, config_, weights_, cache_, step, between_layers);
  }
  std::span<const float> Logits(int row) override { return backend_.Logits(row); }
  std::optional<int32_t> Drawn(int) override { return {}; }

  std::string kernels() const override { return backend_.kernels().name; }
  int threads() const override { return backend_.threads(); }
  int64_t workspace_bytes() const override { return backend_.bytes(); }

 private:
  ModelConfig config_;
  Weights weights_;
  LargeBuffer cache_memory_;
  KvCache cache_;
  CpuBackend backend_;
};

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(const ModelConfig& config, Weights weights,
                                      const KvCachePlan& cache, const DeviceOptions& options) {
  return std::make_unique<CpuDevice>(config, std::move(weights), cache, options);
}

}  // namespace motet
