// The engine's requests from their submission to their end: what other threads hand in, and what is
// said of them.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "engine/engine.h"

namespace motet {
namespace {

// Samples of one prompt have random numbers of their own; the first one those of its seed.
uint64_t SampleSeed(uint64_t seed, int64_t sample) {
  return seed + static_cast<uint64_t>(sample) * 0x9E3779B97F4A7C15u;
}

void RequireAtLeast(const char* param, int64_t least, int64_t found) {
  if (found >= least) return;
  throw InvalidRequestError(param, std::string(param) + ": expected at least " +
                                       std::to_string(least) + ", found " + std::to_string(found));
}

}  // namespace

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

int64_t Engine::Reserve(int64_t samples) {
  RequireAtLeast("n", 1, samples);
  const std::lock_guard lock(inbox_mutex_);
  return std::exchange(next_id_, next_id_ + samples);
}

int64_t Engine::Queue(std::unique_ptr<Request> request, int64_t id) {
  if (id < 0) id = Reserve(1 + static_cast<int64_t>(request->siblings.size()));
  const std::lock_guard lock(inbox_mutex_);
  request->id = request->sequence.arrival = id;
  for (size_t i = 0; i < request->siblings.size(); ++i) {
    Request& sibling = *request->siblings[i];
    sibling.id = sibling.sequence.arrival = id + 1 + static_cast<int64_t>(i);
  }
  inbox_.submitted.push_back(std::move(request));
  handed_in_ = true;
  work_.notify_all();
  return id;
}

int64_t Engine::Submit(std::vector<int32_t> tokens, Sampling sampling, SubmitOptions options) {
  RequireAtLeast("max_tokens", 0, options.max_new_tokens);
  RequireAtLeast("n", 1, options.samples);
  RequireAtLeast("window", 0, options.window);
  CheckTokens(tokens, options.max_new_tokens > 0 ? 1 : 0);
  cpu::CheckSampling(sampling, config_.vocab_size);
  cpu::CheckTokenIds("prediction", options.prediction, config_.vocab_size);
  const double now = Now();
  std::unique_ptr<Request> first;
  for (int64_t i = 0; i < options.samples; ++i) {
    auto request = std::make_unique<Request>();
    Sequence& sequence = request->sequence;
    sequence.n_prompt = static_cast<int64_t>(tokens.size());
    sequence.max_tokens = sequence.n_prompt + std::min(options.max_new_tokens,
                                                       options_.max_context - sequence.n_prompt);
    sequence.all_logits = i == 0 && sampling.prompt_logprobs >= 0;
    sequence.tokens.reserve(sequence.max_tokens);
    sequence.tokens = tokens;
    sequence.draft.reserve(Drafter::kMaxDraft);
    request->sampling = sampling;
    request->sampling.seed = SampleSeed(sampling.seed, i);
    request->cache_salt = options.cache_salt;
    request->deadline = now + options.timeout;
    request->window = options.window;
    request->drafter.Expect(options.prediction);
    request->submitted = now;
    if (first) {
      first->siblings.push_back(std::move(request));
    } else {
      first = std::move(request);
    }
  }
  return Queue(std::move(first), options.id);
}

int64_t Engine::SubmitLogits(std::vector<int32_t> tokens, int64_t chunk, float* out,
                             std::shared_ptr<void> keeps, int64_t id) {
  CheckTokens(tokens, 0);
  auto request = std::make_unique<Request>();
  Sequence& sequence = request->sequence;
  sequence.n_prompt = sequence.max_tokens = static_cast<int64_t>(tokens.size());
  sequence.tokens = std::move(tokens);
  sequence.all_logits = true;
  sequence.max_chunk = chunk;
  request->logits_out = out;
  request->keeps = std::move(keeps);
  request->submitted = Now();
  return Queue(std::move(request), id);
}

void Engine::Cancel(int64_t request) {
  const std::lock_guard lock(inbox_mutex_);
  inbox_.cancelled.push_back(request);
  cancels_ = true;
  handed_in_ = true;
  work_.notify_all();
}

void Engine::Grant(int64_t request, int64_t tokens) {
  const std::lock_guard lock(inbox_mutex_);
  inbox_.granted.emplace_back(request, tokens);
  handed_in_ = true;
  work_.notify_all();
}

void Engine::Wake() {
  const std::lock_guard lock(inbox_mutex_);
  handed_in_ = true;
  work_.notify_all();
}

void Engine::WaitForWork() {
  std::unique_lock lock(inbox_mutex_);
  const auto ready = [this] { return handed_in_; };
  if (next_deadline_ == kNever) return work_.wait(lock, ready);
  constexpr double kLongest = 1e6;  // what a clock can count
  const std::chrono::duration<double> left(std::clamp(next_deadline_ - Now(), 0.0, kLongest));
  work_.wait_for(lock, left, ready);
}

void Engine::TakeRequest(std::unique_ptr<Request> request) {
  scheduler_.Add(&request->sequence, request->cache_salt);
  requests_.push_back(std::move(request));
}

void Engine::TakeInbox() {
  // The end of a request may have to wait for the GIL, whose holder may wait for the inbox.
  {
    const std::lock_guard lock(inbox_mutex_);
    std::swap(taken_, inbox_);
    handed_in_ = cancels_ = false;
  }
  now_ = Now();
  for (auto& request : taken_.submitted) {
    counts_.requests_submitted += 1 + static_cast<int64_t>(request->siblings.size());
    TakeRequest(std::move(request));
  }
  for (const auto& [id, tokens] : taken_.granted) {
    for (const auto& request : requests_) {
      if (request->id != id) continue;
      request->untaken -= tokens;
      request->sequence.stalled = request->window > 0 && request->untaken >= request->window;
    }
  }
  for (const int64_t id : taken_.cancelled) EndById(id, Finish::kCancelled);
  taken_.submitted.clear();
  taken_.granted.clear();
  taken_.cancelled.clear();
}

void Engine::EndLate() {
  for (size_t i = requests_.size(); i-- > 0;) {
    if (i < requests_.size() && requests_[i]->deadline <= now_) {
      // Further samples of a prompt that was not reached end with it.
      while (!requests_[i]->siblings.empty()) {
        EndById(requests_[i]->siblings.back()->id, Finish::kTimeout);
      }
      EndById(requests_[i]->id, Finish::kTimeout);
    }
  }
}

void Engine::CountPrompt(const Request& request) {
  counts_.prefill_seconds.Observe(now_ - request.started);
  counts_.prompt_tokens += request.sequence.n_prompt;
  counts_.cached_tokens += request.sequence.cached_tokens;
}

void Engine::Emit(Request& request, int32_t token, int64_t position, const TokenLogprob& logprobs,
                  bool is_prompt, Finish finish) {
  if (token >= 0 && !is_prompt) {
    ++counts_.generated_tokens;
    if (std::isnan(request.last_token)) {
      CountPrompt(request);
      counts_.first_token_seconds.Observe(now_ - request.submitted);
    } else {
      counts_.inter_token_seconds.Observe(now_ - request.last_token);
    }
    request.last_token = now_;
    if (request.window > 0 && ++request.untaken >= request.window) request.sequence.stalled = true;
  }
  events_.push_back({request.id,
                     token,
                     position,
                     logprobs.logprob,
                     {logprobs.top.begin(), logprobs.top.end()},
                     is_prompt,
                     finish,
                     now_,
                     request.submitted,
                     request.started,
                     request.sequence.cached_tokens,
                     {}});
}

void Engine::End(Request& request, int32_t token, Finish finish, const TokenLogprob& logprobs,
                 const std::string& error) {
  Emit(request, token, request.sequence.length(), logprobs, false, finish);
  events_.back().error = error;
  ++counts_.requests_finished[static_cast<size_t>(finish)];
  scheduler_.Remove(&request.sequence);
  // If the prompt was not computed to its end, the next sample takes it over.
  auto siblings = std::move(request.siblings);
  std::erase_if(requests_, [&](const auto& other) { return other.get() == &request; });
  if (siblings.empty()) return;
  auto next = std::move(siblings.front());
  siblings.erase(siblings.begin());
  next->siblings = std::move(siblings);
  TakeRequest(std::move(next));
}

void Engine::EndById(int64_t id, Finish finish, const std::string& error) {
  for (const auto& request : requests_) {
    if (request->id == id) return End(*request, -1, finish, kNoLogprobs, error);
    const auto it = std::find_if(request->siblings.begin(), request->siblings.end(),
                                 [&](const auto& sibling) { return sibling->id == id; });
    if (it == request->siblings.end()) continue;
    Emit(**it, -1, (*it)->sequence.length(), kNoLogprobs, false, finish);
    ++counts_.requests_finished[static_cast<size_t>(finish)];
    request->siblings.erase(it);
    return;
  }
}

void Engine::MeasureStep(double start) {
  const double seconds = now_ - start;
  ++counts_.steps;
  counts_.computed_tokens += plan_.num_tokens;
  counts_.step_seconds.Observe(seconds);
  int64_t generating = 0, prompt_tokens = 0;
  for (const Scheduler::Entry& entry : entries_) {
    const int count = entry.count - entry.drafted;
    const bool one_of_output = count == 1 && entry.num_logit_rows > entry.drafted;
    generating += one_of_output;
    prompt_tokens += one_of_output ? 0 : count;
  }
  if (prompt_tokens == 0) {
    decode_cost_.Observe(plan_.num_tokens, seconds);
  } else {
    prompt_budget_.Observe(generating, prompt_tokens, seconds, decode_cost_);
  }
}

void Engine::UpdateMetrics() {
  counts_.pauses = scheduler_.paused_total();
  counts_.requests_running = static_cast<int64_t>(scheduler_.running().size());
  counts_.requests_waiting = scheduler_.waiting();
  const PagePool& full = scheduler_.full().pool();
  const PagePool& sliding = scheduler_.sliding().pool();
  counts_.full_pages = full.total(), counts_.sliding_pages = sliding.total();
  counts_.full_pages_kept = full.kept(), counts_.sliding_pages_kept = sliding.kept();
  counts_.full_pages_used = full.total() - full.available();
  counts_.sliding_pages_used = sliding.total() - sliding.available();
  double next_deadline = kNever;
  for (const auto& request : requests_) next_deadline = std::min(next_deadline, request->deadline);
  const std::lock_guard lock(inbox_mutex_);
  metrics_ = counts_;
  next_deadline_ = next_deadline;
}

bool Engine::idle() {
  const std::lock_guard step(step_mutex_);
  const std::lock_guard inbox(inbox_mutex_);
  return requests_.empty() && inbox_.submitted.empty() && events_.empty();
}

Metrics Engine::metrics() const {
  const std::lock_guard lock(inbox_mutex_);
  return metrics_;
}

void Engine::Audit() {
  const std::lock_guard lock(step_mutex_);
  scheduler_.Audit();
}

}  // namespace motet
