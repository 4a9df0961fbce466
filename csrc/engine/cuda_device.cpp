#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "base/error.h"
#include "cuda/backend.h"
#include "cuda/device.h"
#include "engine/cuda_step.h"
#include "engine/device.h"
#include "engine/forward.h"

namespace motet {
namespace {

// Steps of so many tokens are recorded as graphs: launching hundreds of kernels one by one takes
// longer than running them. Larger steps keep the device busy by themselves.
constexpr int kMaxGraphTokens = 128;
constexpr size_t kMaxGraphs = 64;  // kept; a graph takes some hundred kilobytes of the device

cuda::StepLimits Limits(const DeviceOptions& options) {
  return {MaxStepTokens(options.device), options.max_logit_rows, options.max_sequences,
          options.max_context};
}

void RequireOptions(const DeviceOptions& options) {
  if (options.precision != Precision::kF32) return;
  throw InvalidRequestError(
      "precision", "precision: expected 'exact' or 'int8' with device='cuda', found 'f32'");
}

// A size that several steps share: at most a quarter larger, at least 1.
int RoundedUp(int n) {
  int step = 1;
  while (n > 8 * step) step *= 2;
  return std::max((n + step - 1) / step * step, 1);
}

int64_t PowerOfTwo(int64_t n) {
  int64_t power = 1;
  while (power < n) power *= 2;
  return power;
}

class CudaDevice final : public Device {
 public:
  CudaDevice(const ModelConfig& config, Weights weights, const KvCachePlan& cache,
             const DeviceOptions& options, const std::function<void(double)>& progress)
      : device_(Use(options.device)),
        config_(config),
        options_(options),
        weights_(std::move(weights)),
        backend_(config, options.precision, ResolveKvDtype(options.kv_dtype, options.precision),
                 Limits(options), options.device, stream_, progress),
        cache_memory_((backend_.Prepare(weights_), cache.bytes()), "the KV cache"),
        cache_(config, cache, cache_memory_.as<char>()),
        step_(config, Limits(options)),
        tokens_(options.max_logit_rows * static_cast<int64_t>(sizeof(int32_t)), "a step"),
        logits_(config.vocab_size * static_cast<int64_t>(sizeof(float)), "logits") {
    WarmUp();
  }

  ~CudaDevice() override {
    try {
      cuda::UseDevice(options_.device);
      cuda::Synchronize(stream_);
    } catch (const std::exception&) {  // of a device that has failed there is nothing to wait for
    }
  }

  void Run(const BatchPlan& plan, const std::function<void()>& between_layers) override {
    cuda::UseDevice(options_.device);
    plan_ = &plan;
    fetched_row_ = -1;
    try {
      step_.CopyPageTables(plan, stream_);
      if (IsGraph(plan)) {
        RunGraph(plan);
      } else {
        step_.Fill(plan, {plan.num_tokens, std::max(plan.num_logit_rows, 1), Context(plan)}, false);
        Enqueue(between_layers);
      }
    } catch (...) {
      cuda::Synchronize(stream_);  // pinned memory must not change under a copy
      throw;
    }
    cuda::Synchronize(stream_);
  }

  std::span<const float> Logits(int row) override {
    if (row != fetched_row_) {
      cuda::UseDevice(options_.device);
      cuda::CopyToHost(logits_.as<char>(), backend_.workspace().logits + row * config_.vocab_size,
                       logits_.bytes(), stream_);
      cuda::Synchronize(stream_);
      fetched_row_ = row;
    }
    return {logits_.as<float>(), static_cast<size_t>(config_.vocab_size)};
  }

  std::optional<int32_t> Drawn(int row) override {
    if (!plan_->draws[row].wanted) return {};
    return tokens_.as<int32_t>()[row];
  }

  std::string kernels() const override { return architecture_; }
  int threads() const override { return options_.threads; }
  int64_t workspace_bytes() const override { return backend_.workspace().bytes; }

 private:
  static int Use(int device) {
    cuda::RequireDevice(device);
    cuda::UseDevice(device);
    return device;
  }

  // Steps of no tokens, one of a size for each choice of kernels: they are loaded now, not at the
  // first request, and a device that can't run them is known at once.
  void WarmUp() {
    const int most = static_cast<int>(options_.max_logit_rows);
    for (const int tokens : {1, 12, 40}) {
      BatchPlan plan(1, 1, 1);
      step_.Fill(plan, {tokens, std::min(tokens, most), 1}, true);
      Enqueue([] {});
      cuda::Synchronize(stream_);
    }
  }

  static int64_t Context(const BatchPlan& plan) {
    return *std::max_element(plan.positions.begin(), plan.positions.begin() + plan.num_tokens) + 1;
  }

  bool IsGraph(const BatchPlan& plan) const {
    if (plan.num_tokens > kMaxGraphTokens) return false;
    if (!plan.full_copies.empty() || !plan.sliding_copies.empty()) return false;
    int run = 0;
    for (int t = 0; t < plan.num_tokens; ++t) {
      run = t > 0 && plan.slots[t] == plan.slots[t - 1] ? run + 1 : 1;
      if (run >= cuda::kMinRunTokens) return false;
    }
    return true;
  }

  void RunGraph(const BatchPlan& plan) {
    const int rows =
        std::min<int>(RoundedUp(plan.num_logit_rows), static_cast<int>(options_.max_logit_rows));
    const StepShape shape{RoundedUp(plan.num_tokens), rows,
                          std::min(PowerOfTwo(Context(plan)), options_.max_context)};
    step_.Fill(plan, shape, true);
    if (graphs_.size() >= kMaxGraphs) graphs_.clear();
    const auto [found, is_new] = graphs_.try_emplace(shape);
    // The first time its kernels are loaded; it is recorded when it comes again.
    if (is_new) return Enqueue([] {});
    cuda::Graph& graph = found->second;
    if (!graph) {
      cuda::Graph::Begin(stream_);
      try {
        Enqueue([] {});
      } catch (...) {
        cuda::Graph::Abandon(stream_);
        throw;
      }
      graph = cuda::Graph::End(stream_);
    }
    graph.Launch(stream_);
  }

  void Enqueue(const std::function<void()>& between_layers) {
    step_.Copy(stream_);
    backend_.SetStep(step_.extras());
    Forward(backend_, config_, weights_, cache_, step_.inputs(), between_layers);
    const int rows = step_.inputs().num_logit_rows;
    backend_.Draw(rows);
    cuda::CopyToHost(tokens_.as<char>(), backend_.workspace().drawn,
                     rows * static_cast<int64_t>(sizeof(int32_t)), stream_);
  }

  int device_;
  ModelConfig config_;
  DeviceOptions options_;
  Weights weights_;
  cuda::OwnedStream stream_;
  cuda::Backend backend_;
  cuda::DeviceMemory cache_memory_;
  KvCache cache_;
  CudaStep step_;
  cuda::PinnedMemory tokens_;  // [max_logit_rows] int32
  cuda::PinnedMemory logits_;  // [vocab] of row fetched_row_
  int fetched_row_ = -1;
  const BatchPlan* plan_ = nullptr;
  std::map<StepShape, cuda::Graph> graphs_;
  std::string architecture_ = cuda::ArchitectureName(options_.device);
};

}  // namespace

std::unique_ptr<Device> MakeCudaDevice(const ModelConfig& config, Weights weights,
                                       const KvCachePlan& cache, const DeviceOptions& options,
                                       const std::function<void(double)>& progress) {
  RequireOptions(options);
  return std::make_unique<CudaDevice>(config, std::move(weights), cache, options, progress);
}

CudaMemoryPlan PlanCudaMemory(const ModelConfig& config, const DeviceOptions& options) {
  RequireOptions(options);
  cuda::RequireDevice(options.device);
  cuda::UseDevice(options.device);
  const cuda::MemoryInfo memory = cuda::DeviceMemoryInfo();
  return {cuda::WeightStore::Bytes(config, options.precision),
          cuda::Backend::WorkspaceBytes(config, Limits(options)), memory.free, memory.total};
}

}  // namespace motet
