#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <utility>

#include "base/error.h"

namespace motet {
namespace {

// Rows of logits held at once, each vocab floats: of prompts whose every position is asked for, and
// of drafts.
constexpr int64_t kMinLogitRows = 32;

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
  const int64_t most = MaxStepTokens(options.device);
  require(options.max_batch >= 1 && options.max_batch <= most, "max_batch",
          "1.." + std::to_string(most), options.max_batch);
  require(options.threads >= 1 && options.threads <= 1024, "threads", "1..1024", options.threads);
  require(options.kv_cache_bytes >= 1, "kv_cache_bytes", "a positive number",
          options.kv_cache_bytes);
  ResolveKvDtype(options.kv_dtype, options.precision);  // throws
  return options;
}

KvCacheLimits CacheLimits(const EngineOptions& options) {
  return {ResolveKvDtype(options.kv_dtype, options.precision), options.max_context,
          options.max_batch, MaxStepTokens(options.device), options.prefix_cache};
}

int64_t LogitRows(const EngineOptions& options) {
  const int64_t drafts = options.speculation ? kMinLogitRows : 0;
  return std::max(options.max_batch + drafts, kMinLogitRows);
}

DeviceOptions OptionsOfDevice(const EngineOptions& options) {
  return {options.device,     options.precision, options.kv_dtype,   options.threads,
          LogitRows(options), options.max_batch, options.max_context};
}

// What can be drawn from nothing but the logits.
bool IsPlain(const Sampling& s, int64_t generated) {
  return s.presence_penalty == 0 && s.frequency_penalty == 0 && s.repetition_penalty == 1 &&
         s.bias_ids.empty() && s.logprobs < 0 && generated >= s.min_tokens && !s.logits_processor;
}

}  // namespace

int64_t MaxStepTokens(int device) { return device == kCpu ? 256 : 2048; }

Engine::Engine(const ModelConfig& config, const TensorMap& tensors, const EngineOptions& options,
               const std::function<void(double)>& progress)
    : config_(Validated(config)),
      options_(Validated(config_, options)),
      cache_plan_(PlanKvCache(config_, CacheLimits(options_), options_.kv_cache_bytes)),
      scheduler_({options_.max_batch, MaxStepTokens(options_.device), LogitRows(options_),
                  options_.max_context, config_.sliding_window, cache_plan_.full_pages,
                  cache_plan_.sliding_pages, options_.prefix_cache}),
      plan_(MaxStepTokens(options_.device), LogitRows(options_), options_.max_batch),
      sample_scratch_(config_.vocab_size),
      prompt_budget_(options_.target_itl, MaxStepTokens(options_.device)) {
  const DeviceOptions device_options = OptionsOfDevice(options_);
  if (options_.device == kCpu) {
    device_ =
        MakeCpuDevice(config_, Weights(config_, tensors, progress), cache_plan_, device_options);
  } else {
    device_ = MakeCudaDevice(config_, Weights(config_, tensors, {}), cache_plan_, device_options,
                             progress);
  }
  UpdateMetrics();
}

Engine::~Engine() = default;

int64_t Engine::MinimalCacheBytes(const ModelConfig& config, const EngineOptions& options) {
  return MinimalKvCache(config, CacheLimits(options)).bytes();
}

CudaMemoryPlan Engine::DeviceMemory(const ModelConfig& config, const EngineOptions& options) {
  config.Validate();
  return PlanCudaMemory(config, OptionsOfDevice(options));
}

bool Engine::RunStep(const Poll& poll) {
  TakeInbox();
  const double start = Now();
  EndLate();
  if (options_.speculation) ProposeDrafts();
  int64_t generating = 0;
  for (const Sequence* s : scheduler_.running()) generating += s->generating() && !s->stalled;
  const int64_t prompt_tokens = prompt_budget_.Tokens(generating, decode_cost_);
  if (!scheduler_.Schedule(prompt_tokens, plan_, entries_)) return false;
  last_deadline_ = 0;
  for (const Scheduler::Entry& entry : entries_) {
    Request& request = RequestOf(entry.sequence);
    last_deadline_ = std::max(last_deadline_, request.deadline);
    if (!std::isnan(request.started)) continue;
    request.started = start;
    counts_.queue_seconds.Observe(start - request.submitted);
  }
  AskForDraws();
  try {
    device_->Run(plan_, [&] {
      poll();
      if (NobodyWaits()) throw Abandoned();
    });
  } catch (const Abandoned&) {
    return true;
  }
  now_ = Now();
  for (const Scheduler::Entry& entry : entries_) {
    Request& request = RequestOf(entry.sequence);
    // A caller's logits processor may throw: its request ends, the others go on.
    try {
      Process(request, entry);
    } catch (const std::exception& error) {
      End(request, -1, Finish::kError, kNoLogprobs, error.what());
    }
  }
  MeasureStep(start);
  return true;
}

// Whether all requests of the step have been cancelled meanwhile, or are late: a long prompt's step
// takes seconds, which they and the next request need not wait for.
bool Engine::NobodyWaits() const {
  const double now = Now();
  if (now < last_deadline_ && !cancels_.load(std::memory_order_relaxed)) return false;
  const std::lock_guard lock(inbox_mutex_);
  return std::all_of(entries_.begin(), entries_.end(), [&](const Scheduler::Entry& entry) {
    const Request& request = RequestOf(entry.sequence);
    if (request.deadline <= now) return true;  // its siblings are late too
    return request.siblings.empty() && std::find(inbox_.cancelled.begin(), inbox_.cancelled.end(),
                                                 request.id) != inbox_.cancelled.end();
  });
}

Request& Engine::RequestOf(const Sequence* sequence) const {
  return **std::find_if(requests_.begin(), requests_.end(),
                        [&](const auto& request) { return &request->sequence == sequence; });
}

bool Engine::Step(std::vector<Event>& events, const Poll& poll) {
  const std::lock_guard lock(step_mutex_);
  const bool computed = RunStep(poll);
  UpdateMetrics();
  std::swap(events, events_);
  events_.clear();
  return computed;
}

void Engine::EndAll(Finish finish, const std::string& error, std::vector<Event>& events) {
  const std::lock_guard lock(step_mutex_);
  TakeInbox();
  now_ = Now();
  while (!requests_.empty()) EndById(requests_.front()->id, finish, error);
  UpdateMetrics();
  std::swap(events, events_);
  events_.clear();
}

// Where nothing else is to be computed first, what is likely to come next is computed along.
void Engine::ProposeDrafts() {
  int64_t tokens = 0;
  bool prompts = scheduler_.waiting() > 0;
  for (const Sequence* sequence : scheduler_.running()) {
    tokens += sequence->generating() && !sequence->stalled;
    prompts |= !sequence->generating();
  }
  for (const auto& request : requests_) {
    Sequence& sequence = request->sequence;
    sequence.draft.clear();
    if (prompts || sequence.slot < 0 || !sequence.generating() || sequence.stalled) continue;
    request->drafter.Propose(sequence, decode_cost_, tokens);
    tokens += static_cast<int64_t>(sequence.draft.size());
  }
}

// Rows that end in a drawn token, for a device that draws itself. What is drafted is drawn as if it
// were right; a draw after one that is not is left unused.
void Engine::AskForDraws() {
  for (int row = 0; row < plan_.num_logit_rows; ++row) plan_.draws[row].wanted = false;
  for (const Scheduler::Entry& entry : entries_) {
    const Request& request = RequestOf(entry.sequence);
    const Sequence& sequence = request.sequence;
    if (sequence.computed + entry.count - entry.drafted < sequence.length()) continue;
    for (int i = 0; i <= entry.drafted; ++i) {
      const Sampling& s = request.sampling;
      const int64_t position = sequence.length() + i;
      if (!IsPlain(s, position - sequence.n_prompt)) continue;
      plan_.draws[entry.first_logit_row + entry.num_logit_rows - 1 - entry.drafted + i] = {
          true, s.temperature, s.top_p, s.min_p, s.top_k, s.seed, static_cast<uint64_t>(position)};
    }
  }
}

// Hands out what was asked for of the prompt's positions.
void Engine::TakePromptLogits(Request& request, const Scheduler::Entry& entry) {
  Sequence& sequence = request.sequence;
  for (int i = 0; i < entry.num_logit_rows; ++i) {
    const int row = entry.first_logit_row + i;
    const int64_t position = plan_.positions[plan_.logit_rows[row]];
    if (position < sequence.logits_taken || position >= sequence.n_prompt) continue;
    sequence.logits_taken = position + 1;
    if (request.logits_out) {
      const std::span<const float> logits = device_->Logits(row);
      std::memcpy(request.logits_out + position * config_.vocab_size, logits.data(),
                  logits.size_bytes());
    }
    if (position + 1 < sequence.n_prompt && request.sampling.prompt_logprobs >= 0) {
      const int32_t next = sequence.tokens[position + 1];
      Emit(request, next, position + 1,
           cpu::LogprobOf(device_->Logits(row), next, request.sampling.prompt_logprobs,
                          sample_scratch_),
           true, Finish::kNone);
    }
  }
}

void Engine::Process(Request& request, const Scheduler::Entry& entry) {
  Sequence& sequence = request.sequence;
  draft_.assign(sequence.draft.begin(), sequence.draft.end());
  TakePromptLogits(request, entry);
  scheduler_.Commit(&sequence, entry.count - entry.drafted);
  if (sequence.computed < sequence.length()) return;
  const int first = entry.first_logit_row + entry.num_logit_rows - 1 - entry.drafted;
  if (sequence.length() == sequence.n_prompt) StartSiblings(request, first);
  // A drafted token is computed already if it is the one that is drawn now.
  int accepted = 0;
  bool goes_on;
  while ((goes_on = Generate(request, first + accepted)) && accepted < entry.drafted &&
         sequence.tokens.back() == draft_[accepted]) {
    scheduler_.Commit(&sequence, 1);
    ++accepted;
  }
  counts_.draft_tokens += entry.drafted;
  counts_.accepted_draft_tokens += accepted;
  if (goes_on) request.drafter.Observe(entry.drafted, accepted);
}

// The prompt's further samples draw their own first tokens from its logits and share its pages.
void Engine::StartSiblings(Request& request, int row) {
  for (auto& sibling : std::exchange(request.siblings, {})) {
    sibling->started = request.started;
    scheduler_.AddFork(&sibling->sequence, request.sequence);
    requests_.push_back(std::move(sibling));
    Request& sample = *requests_.back();
    try {
      Generate(sample, row);
    } catch (const std::exception& error) {
      End(sample, -1, Finish::kError, kNoLogprobs, error.what());
    }
  }
}

// Draws the next token; false if that ended the request, which is gone then.
bool Engine::Generate(Request& request, int row) {
  Sequence& sequence = request.sequence;
  const int64_t length = sequence.length();
  if (length >= sequence.max_tokens) {  // nothing but the prompt was asked for
    CountPrompt(request);
    End(request, -1, Finish::kLength, kNoLogprobs);
    return false;
  }
  SampleResult result;
  const Draw& draw = plan_.draws[row];
  // Further samples of a prompt share its row, not its draw.
  const bool same = draw.wanted && draw.seed == request.sampling.seed;
  if (const auto drawn = same ? device_->Drawn(row) : std::nullopt) {
    result = {*drawn, kNoLogprobs};
  } else {
    result =
        cpu::Sample({device_->Logits(row), sequence.tokens, static_cast<size_t>(sequence.n_prompt),
                     static_cast<uint64_t>(length), &request.sampling},
                    sample_scratch_);
  }
  if (result.token == kNoToken) {
    throw std::runtime_error(
        "no token can be drawn: no logit is above -infinity (a logits processor may do that, or "
        "weights that are not finite)");
  }
  const auto& stops = request.sampling.stop_ids;
  const bool long_enough = length - sequence.n_prompt >= request.sampling.min_tokens;
  const bool stop =
      long_enough && std::find(stops.begin(), stops.end(), result.token) != stops.end();
  if (stop || length + 1 == sequence.max_tokens) {
    End(request, result.token, stop ? Finish::kStop : Finish::kLength, result.logprobs);
    return false;
  }
  Emit(request, result.token, length, result.logprobs, false, Finish::kNone);
  sequence.tokens.push_back(result.token);
  return true;
}

}  // namespace motet
