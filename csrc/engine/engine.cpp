#include "engine/engine.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <stdexcept>

#include "base/error.h"
#include "engine/forward.h"

namespace motet {
namespace {

// Tokens of a step: enough that decoding a tile of expert weights is paid for by many tokens.
constexpr int64_t kMaxStepTokens = 256;
// Rows of logits held at once, each vocab floats.
constexpr int64_t kMinLogitRows = 32;

const TokenLogprob kNoLogprobs{std::numeric_limits<float>::quiet_NaN(), {}};

ModelConfig Validated(const ModelConfig& config) {
  config.Validate();
  return config;
}

EngineOptions Validated(const ModelConfig& config, const EngineOptions& options) {
  const auto require = [](bool ok, const char* param, const std::string& expected, int64_t found) {
    if (!ok) {
      throw InvalidRequestError(param, std::string(param) + ": expected " + expected + ", found " +
                                           std::to_string(found));
    }
  };
  require(options.max_context >= 1 && options.max_context <= config.max_position_embeddings,
          "max_context", "1.." + std::to_string(config.max_position_embeddings),
          options.max_context);
  require(options.max_batch >= 1 && options.max_batch <= kMaxStepTokens, "max_batch",
          "1.." + std::to_string(kMaxStepTokens), options.max_batch);
  require(options.threads >= 1 && options.threads <= 1024, "threads", "1..1024", options.threads);
  require(options.kv_cache_bytes >= 1, "kv_cache_bytes", "a positive number",
          options.kv_cache_bytes);
  ResolveKvDtype(options.kv_dtype, options.precision);  // throws
  return options;
}

KvCacheLimits CacheLimits(const EngineOptions& options) {
  return {ResolveKvDtype(options.kv_dtype, options.precision), options.max_context,
          options.max_batch, kMaxStepTokens};
}

int64_t LogitRows(const EngineOptions& options) {
  return std::max(options.max_batch, kMinLogitRows);
}

}  // namespace

Engine::Engine(const ModelConfig& config, const TensorMap& tensors, const EngineOptions& options,
               const std::function<void(double)>& progress)
    : config_(Validated(config)),
      options_(Validated(config_, options)),
      weights_(config_, tensors, progress),
      rope_(MakeRopeTable(config_)),
      cache_plan_(PlanKvCache(config_, CacheLimits(options_), options_.kv_cache_bytes)),
      cache_(config_, cache_plan_),
      workspace_(config_, kMaxStepTokens, LogitRows(options_)),
      backend_(config_, options_.precision, options_.kv_dtype, options_.threads, kMaxStepTokens),
      scheduler_({options_.max_batch, kMaxStepTokens, LogitRows(options_), options_.max_context,
                  config_.sliding_window, cache_plan_.full_pages, cache_plan_.sliding_pages}),
      plan_(kMaxStepTokens, LogitRows(options_)),
      sample_scratch_(config_.vocab_size),
      owner_(getpid()) {
  backend_.Prepare(weights_);
}

Engine::~Engine() = default;

int64_t Engine::MinimalCacheBytes(const ModelConfig& config, const EngineOptions& options) {
  return MinimalKvCache(config, CacheLimits(options)).bytes();
}

int64_t Engine::pages_in_use() const {
  int64_t used = 0;
  for (const PageTables* tables : {&scheduler_.full(), &scheduler_.sliding()}) {
    used += tables->pool().total() - tables->pool().available();
  }
  return used;
}

void Engine::CheckTokens(const std::vector<int32_t>& tokens, int64_t room) const {
  const int64_t n = static_cast<int64_t>(tokens.size());
  if (n == 0)
    throw InvalidRequestError("prompt", "prompt: expected at least one token, found none");
  if (n > options_.max_context - room) throw ContextLengthError(n, options_.max_context);
  for (int64_t i = 0; i < n; ++i) {
    if (tokens[i] < 0 || tokens[i] >= config_.vocab_size) {
      throw InvalidRequestError(
          "prompt", "prompt: expected token ids 0.." + std::to_string(config_.vocab_size - 1) +
                        ", found " + std::to_string(tokens[i]) + " at " + std::to_string(i));
    }
  }
}

int64_t Engine::Queue(std::unique_ptr<Request> request) {
  const std::lock_guard lock(queue_mutex_);
  request->id = next_id_++;
  submitted_.push_back(std::move(request));
  return next_id_ - 1;
}

int64_t Engine::Submit(std::vector<int32_t> tokens, Sampling sampling, int64_t max_new_tokens) {
  if (max_new_tokens < 0) {
    throw InvalidRequestError(
        "max_tokens", "max_tokens: expected at least 0, found " + std::to_string(max_new_tokens));
  }
  CheckTokens(tokens, max_new_tokens > 0 ? 1 : 0);
  cpu::CheckSampling(sampling, config_.vocab_size);
  auto request = std::make_unique<Request>();
  Sequence& sequence = request->sequence;
  sequence.n_prompt = static_cast<int64_t>(tokens.size());
  sequence.max_tokens =
      sequence.n_prompt + std::min(max_new_tokens, options_.max_context - sequence.n_prompt);
  sequence.all_logits = sampling.prompt_logprobs >= 0;
  sequence.tokens = std::move(tokens);
  sequence.tokens.reserve(sequence.max_tokens);
  request->sampling = std::move(sampling);
  return Queue(std::move(request));
}

bool Engine::idle() {
  const std::lock_guard step(step_mutex_);
  const std::lock_guard queue(queue_mutex_);
  return requests_.empty() && submitted_.empty() && events_.empty();
}

void Engine::Cancel(int64_t request) {
  const std::lock_guard lock(queue_mutex_);
  cancelled_.push_back(request);
}

void Engine::TakeQueued() {
  // The end of a request may have to wait for the GIL, whose holder may wait for the queue.
  std::vector<std::unique_ptr<Request>> submitted;
  std::vector<int64_t> cancelled;
  {
    const std::lock_guard lock(queue_mutex_);
    submitted.swap(submitted_);
    cancelled.swap(cancelled_);
  }
  for (auto& request : submitted) {
    scheduler_.Add(&request->sequence);
    requests_.push_back(std::move(request));
  }
  for (const int64_t id : cancelled) {
    const auto it = std::find_if(requests_.begin(), requests_.end(),
                                 [&](const auto& request) { return request->id == id; });
    if (it != requests_.end()) End(**it, -1, Finish::kCancelled, kNoLogprobs);
  }
}

void Engine::Emit(const Request& request, int32_t token, int64_t position,
                  const TokenLogprob& logprobs, bool is_prompt, Finish finish) {
  events_.push_back({request.id,
                     token,
                     position,
                     logprobs.logprob,
                     {logprobs.top.begin(), logprobs.top.end()},
                     is_prompt,
                     finish});
}

void Engine::End(Request& request, int32_t token, Finish finish, const TokenLogprob& logprobs) {
  Emit(request, token, static_cast<int64_t>(request.sequence.tokens.size()), logprobs, false,
       finish);
  scheduler_.Remove(&request.sequence);
  std::erase_if(requests_, [&](const auto& other) { return other.get() == &request; });
}

// The next token from the logits of the last one.
void Engine::Generate(Request& request, std::span<const float> logits) {
  Sequence& sequence = request.sequence;
  const int64_t length = static_cast<int64_t>(sequence.tokens.size());
  if (length >= sequence.max_tokens) return End(request, -1, Finish::kLength, kNoLogprobs);
  const SampleResult result =
      cpu::Sample({logits, sequence.tokens, static_cast<size_t>(sequence.n_prompt),
                   static_cast<uint64_t>(length), &request.sampling},
                  sample_scratch_);
  const auto& stops = request.sampling.stop_ids;
  const bool long_enough = length - sequence.n_prompt >= request.sampling.min_tokens;
  const bool stop =
      long_enough && std::find(stops.begin(), stops.end(), result.token) != stops.end();
  if (stop || length + 1 == sequence.max_tokens) {
    return End(request, result.token, stop ? Finish::kStop : Finish::kLength, result.logprobs);
  }
  Emit(request, result.token, length, result.logprobs, false, Finish::kNone);
  sequence.tokens.push_back(result.token);
}

void Engine::Process(Request& request, const Scheduler::Entry& entry) {
  const Sequence& sequence = request.sequence;
  for (int i = 0; i < entry.num_logit_rows; ++i) {
    const int row = entry.first_logit_row + i;
    const int64_t position = plan_.positions[plan_.logit_rows[row]];
    const std::span<const float> logits(workspace_.logits.data() + row * config_.vocab_size,
                                        static_cast<size_t>(config_.vocab_size));
    if (request.logits_out) {
      std::memcpy(request.logits_out + position * config_.vocab_size, logits.data(),
                  logits.size_bytes());
    }
    if (position + 1 < sequence.n_prompt && request.sampling.prompt_logprobs >= 0) {
      const int32_t next = sequence.tokens[position + 1];
      Emit(request, next, position + 1,
           cpu::LogprobOf(logits, next, request.sampling.prompt_logprobs, sample_scratch_), true,
           Finish::kNone);
    }
    // Last in the loop: it may end the request and free it.
    if (position + 1 == static_cast<int64_t>(sequence.tokens.size())) {
      return Generate(request, logits);
    }
  }
}

void Engine::RunStep(const Poll& poll) {
  if (getpid() != owner_) {
    throw std::runtime_error(
        "this engine was made before fork() and its threads did not follow; make a new one in the "
        "process that uses it");
  }
  TakeQueued();
  if (!scheduler_.Schedule(plan_, entries_)) return;
  Forward(backend_, config_, weights_, rope_, cache_, plan_, workspace_, poll);
  scheduler_.Commit(entries_);
  // A caller's logits processor may throw: its request ends, the others' tokens are kept, and the
  // error goes up once the step is whole.
  std::exception_ptr error;
  for (const Scheduler::Entry& entry : entries_) {
    const auto it = std::find_if(requests_.begin(), requests_.end(), [&](const auto& request) {
      return &request->sequence == entry.sequence;
    });
    try {
      Process(**it, entry);
    } catch (...) {
      if (!error) error = std::current_exception();
      End(**it, -1, Finish::kError, kNoLogprobs);
    }
  }
  if (error) std::rethrow_exception(error);
}

void Engine::Step(std::vector<Event>& events, const Poll& poll) {
  const std::lock_guard lock(step_mutex_);
  RunStep(poll);
  std::swap(events, events_);
  events_.clear();
}

void Engine::Logits(std::vector<int32_t> tokens, int64_t chunk, float* out, const Poll& poll) {
  CheckTokens(tokens, 0);
  auto owned = std::make_unique<Request>();
  Sequence& sequence = owned->sequence;
  sequence.n_prompt = sequence.max_tokens = static_cast<int64_t>(tokens.size());
  sequence.tokens = std::move(tokens);
  sequence.all_logits = true;
  sequence.max_chunk = chunk;
  owned->logits_out = out;
  const int64_t id = Queue(std::move(owned));
  const auto finished = [&](const Event& event) { return event.request == id; };
  try {
    for (;;) {
      const std::lock_guard lock(step_mutex_);
      RunStep(poll);
      // Events of requests that ran along are left for the next Step.
      if (std::erase_if(events_, finished) > 0) return;
    }
  } catch (...) {
    // `out` is the caller's and may be gone when the next step runs.
    const std::lock_guard lock(step_mutex_);
    Cancel(id);
    TakeQueued();
    std::erase_if(events_, finished);
    throw;
  }
}

}  // namespace motet
