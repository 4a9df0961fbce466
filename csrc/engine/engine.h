// The engine: requests in, events out, one step at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "cpu/sample.h"
#include "engine/kv_cache.h"
#include "engine/workspace.h"
#include "model/config.h"
#include "model/weights.h"
#include "ops/sample.h"
#include "sched/scheduler.h"

namespace motet {

struct EngineOptions {
  Precision precision = Precision::kExact;
  int64_t max_context = 0;  // tokens of one request, prompt and answer
  int64_t max_batch = 1;    // requests running at once
  int64_t kv_cache_bytes = 0;
  int threads = 1;
  KvDtype kv_dtype = KvDtype::kAuto;
};

enum class Finish { kNone, kStop, kLength, kCancelled, kError };

// One token of one request, or its end, or both.
struct Event {
  int64_t request;
  int32_t token;  // -1 when the event only ends the request
  int64_t position;
  float logprob;  // NaN unless asked for
  std::vector<TopLogprob> top;
  bool is_prompt;  // a prompt token with its logprob
  Finish finish;
};

class Engine {
 public:
  // Called between layers; may throw to abandon the step, which can then be run again.
  using Poll = std::function<void()>;

  // The tensors' memory must outlive the engine.
  Engine(const ModelConfig& config, const TensorMap& tensors, const EngineOptions& options,
         const std::function<void(double)>& progress);
  ~Engine();

  // Queues a request and returns its id. Throws InvalidRequestError or ContextLengthError.
  // `max_new_tokens` is cut to what the context leaves; 0 only computes the prompt's logprobs.
  int64_t Submit(std::vector<int32_t> tokens, Sampling sampling, int64_t max_new_tokens);
  // The request ends as cancelled in the next step; unknown ids are ignored.
  void Cancel(int64_t request);
  // Whether nothing is queued or running. A step of a long prompt has no events, so their absence
  // does not tell. Waits for a step in progress.
  bool idle();
  // Runs one step, or nothing when idle, and moves what happened into `events`.
  void Step(std::vector<Event>& events, const Poll& poll);
  // Logits of every position, [tokens.size(), vocab], in prefill chunks of `chunk` tokens (0: as
  // many as a step takes).
  void Logits(std::vector<int32_t> tokens, int64_t chunk, float* out, const Poll& poll);

  // Bytes of the smallest cache in which one request can fill the context.
  static int64_t MinimalCacheBytes(const ModelConfig& config, const EngineOptions& options);

  const ModelConfig& config() const { return config_; }
  const EngineOptions& options() const { return options_; }
  const CpuBackend& backend() const { return backend_; }
  int64_t kv_cache_bytes() const { return cache_plan_.bytes(); }
  int64_t workspace_bytes() const { return workspace_.bytes() + backend_.bytes(); }
  // Pages of full and sliding layers in use; all are free when no request runs.
  int64_t pages_in_use() const;

 private:
  struct Request {
    int64_t id;
    Sequence sequence;
    Sampling sampling;
    float* logits_out = nullptr;  // [n_prompt, vocab] when every position's logits are wanted
  };
  void CheckTokens(const std::vector<int32_t>& tokens, int64_t room) const;
  int64_t Queue(std::unique_ptr<Request> request);
  void TakeQueued();
  void RunStep(const Poll& poll);
  void Process(Request& request, const Scheduler::Entry& entry);
  void Generate(Request& request, std::span<const float> logits);
  void End(Request& request, int32_t token, Finish finish, const TokenLogprob& logprobs);
  void Emit(const Request& request, int32_t token, int64_t position, const TokenLogprob& logprobs,
            bool is_prompt, Finish finish);

  ModelConfig config_;
  EngineOptions options_;
  Weights weights_;
  RopeTable rope_;
  KvCachePlan cache_plan_;
  KvCache cache_;
  Workspace workspace_;
  CpuBackend backend_;
  Scheduler scheduler_;
  BatchPlan plan_;
  cpu::SampleScratch sample_scratch_;
  pid_t owner_;

  std::mutex step_mutex_;  // held by whoever steps; guards everything below but the queues
  std::vector<std::unique_ptr<Request>> requests_;  // in order of submission
  std::vector<Scheduler::Entry> entries_;
  std::vector<Event> events_;

  std::mutex queue_mutex_;  // guards what other threads hand in during a step
  std::vector<std::unique_ptr<Request>> submitted_;
  std::vector<int64_t> cancelled_;
  int64_t next_id_ = 0;
};

}  // namespace motet
