// The engine: requests in, events out, one step at a time.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cpu/sample.h"
#include "engine/device.h"
#include "engine/kv_cache.h"
#include "engine/metrics.h"
#include "engine/request.h"
#include "model/config.h"
#include "model/weights.h"
#include "sched/scheduler.h"
#include "sched/step_cost.h"

namespace motet {

struct EngineOptions {
  int device = kCpu;  // or the index of a GPU
  Precision precision = Precision::kExact;
  int64_t max_context = 0;  // tokens of one request, prompt and answer
  int64_t max_batch = 1;    // requests running at once
  int64_t kv_cache_bytes = 0;
  int threads = 1;
  bool prefix_cache = true;
  bool speculation = false;
  double target_itl = 0;  // seconds between tokens that prompts leave to running streams; 0: none
  KvDtype kv_dtype = KvDtype::kAuto;
};

class Engine {
 public:
  // Called between layers; may throw to abandon the step, which can then be run again.
  using Poll = std::function<void()>;
  // Thrown by a poll, it only abandons the step.
  struct Abandoned {};

  // The tensors' memory must outlive the engine; without any, a GPU makes up weights.
  Engine(const ModelConfig& config, const TensorMap& tensors, const EngineOptions& options,
         const std::function<void(double)>& progress);
  ~Engine();

  // The id of a request that is about to be submitted, so that its events can be told from others'
  // as soon as they come; its further samples have the ids that follow.
  int64_t Reserve(int64_t samples);
  // Queues a request and returns its id. Throws InvalidRequestError or ContextLengthError.
  int64_t Submit(std::vector<int32_t> tokens, Sampling sampling, SubmitOptions options);
  // Queues the computation of every position's logits, [tokens.size(), vocab], in chunks of `chunk`
  // tokens (0: as many as a step takes). `keeps` lives until the request ends.
  int64_t SubmitLogits(std::vector<int32_t> tokens, int64_t chunk, float* out,
                       std::shared_ptr<void> keeps, int64_t id = -1);
  // The request ends as cancelled in the next step; unknown ids are ignored.
  void Cancel(int64_t request);
  // Its reader has taken so many more tokens.
  void Grant(int64_t request, int64_t tokens);

  // Runs one step, if there is something to compute, and moves what happened into `events`. Returns
  // whether something was computed.
  bool Step(std::vector<Event>& events, const Poll& poll);
  // Ends every request.
  void EndAll(Finish finish, const std::string& error, std::vector<Event>& events);
  // Returns when something has been handed in since the last step, a request's time is up, or after
  // Wake.
  void WaitForWork();
  void Wake();

  // Whether nothing is queued or running. A step of a long prompt has no events, so their absence
  // does not tell. Waits for a step in progress.
  bool idle();
  Metrics metrics() const;  // as of the last step
  // Throws std::logic_error if the pages' accounts do not agree.
  void Audit();

  // Bytes of the smallest cache in which one request can fill the context.
  static int64_t MinimalCacheBytes(const ModelConfig& config, const EngineOptions& options);
  // What the model needs of options.device, a GPU, and what that has.
  static CudaMemoryPlan DeviceMemory(const ModelConfig& config, const EngineOptions& options);

  const ModelConfig& config() const { return config_; }
  const EngineOptions& options() const { return options_; }
  const Device& device() const { return *device_; }
  int64_t kv_cache_bytes() const { return cache_plan_.bytes(); }
  int64_t workspace_bytes() const { return device_->workspace_bytes(); }

 private:
  // What other threads hand in during a step.
  struct Inbox {
    std::vector<std::unique_ptr<Request>> submitted;
    std::vector<int64_t> cancelled;
    std::vector<std::pair<int64_t, int64_t>> granted;  // request, tokens
  };

  void CheckTokens(const std::vector<int32_t>& tokens, int64_t room) const;
  int64_t Queue(std::unique_ptr<Request> request, int64_t id);
  void TakeInbox();
  void TakeRequest(std::unique_ptr<Request> request);
  void EndById(int64_t id, Finish finish, const std::string& error = {});
  void EndLate();
  bool RunStep(const Poll& poll);
  bool NobodyWaits() const;
  Request& RequestOf(const Sequence* sequence) const;
  void ProposeDrafts();
  void Process(Request& request, const Scheduler::Entry& entry);
  void TakePromptLogits(Request& request, const Scheduler::Entry& entry);
  void StartSiblings(Request& request, int row);
  bool Generate(Request& request, int row);
  void AskForDraws();
  void End(Request& request, int32_t token, Finish finish, const TokenLogprob& logprobs,
           const std::string& error = {});
  void Emit(Request& request, int32_t token, int64_t position, const TokenLogprob& logprobs,
            bool is_prompt, Finish finish);
  void CountPrompt(const Request& request);  // once it is computed
  void MeasureStep(double start);
  void UpdateMetrics();

  ModelConfig config_;
  EngineOptions options_;
  KvCachePlan cache_plan_;
  std::unique_ptr<Device> device_;
  Scheduler scheduler_;
  BatchPlan plan_;
  cpu::SampleScratch sample_scratch_;
  StepCost decode_cost_;
  PromptBudget prompt_budget_;

  std::mutex step_mutex_;  // held by whoever steps; guards what is above and these:
  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<Scheduler::Entry> entries_;
  std::vector<Event> events_;
  std::vector<int32_t> draft_;  // of the request that is processed
  double now_ = 0;              // when the step's tokens were there
  double last_deadline_ = 0;    // of the step's requests
  Metrics counts_;
  Inbox taken_;

  mutable std::mutex inbox_mutex_;  // guards the rest
  std::condition_variable work_;
  Inbox inbox_;
  bool handed_in_ = false;
  std::atomic<bool> cancels_{false};  // whether the inbox has any, to be read without the mutex
  double next_deadline_ = kNever;
  int64_t next_id_ = 0;
  Metrics metrics_;
};

}  // namespace motet
