// A request: what was asked for, how far it is, and what is said of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/drafter.h"
#include "engine/metrics.h"
#include "ops/sample.h"
#include "sched/sequence.h"

namespace motet {

// Seconds by the steady clock.
inline double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline constexpr double kNever = std::numeric_limits<double>::infinity();

// What comes beside the prompt and the way to sample.
struct SubmitOptions {
  int64_t id = -1;             // as reserved; -1: the next one
  int64_t max_new_tokens = 0;  // cut to what the context leaves; 0 only computes the prompt
  int64_t samples = 1;
  uint64_t cache_salt = 0;          // only requests with the same one share pages
  double timeout = kNever;          // seconds from now
  int64_t window = 0;               // tokens that its reader may leave untaken; 0: any number
  std::vector<int32_t> prediction;  // tokens that the answer may resemble
};

// One token of one request, or its end, or both.
struct Event {
  int64_t request;
  int32_t token;  // -1 when the event only ends the request
  int64_t position;
  float logprob;  // NaN unless asked for
  std::vector<TopLogprob> top;
  bool is_prompt;  // a prompt token with its logprob
  Finish finish;
  double time, submitted, started;  // by Now(); started: when its first step began, or NaN
  int64_t cached_tokens;            // of the prompt, found in the prefix cache
  std::string error;                // what went wrong, where finish is kError
};

struct Request {
  int64_t id = 0;
  Sequence sequence;
  Sampling sampling;
  uint64_t cache_salt = 0;
  double deadline = kNever;
  int64_t window = 0;
  int64_t untaken = 0;  // tokens that its reader has not taken
  Drafter drafter;
  // Further samples of the same prompt, which wait for it to be computed.
  std::vector<std::unique_ptr<Request>> siblings;

  float* logits_out = nullptr;  // [n_prompt, vocab] when every position's logits are wanted
  std::shared_ptr<void> keeps;  // what logits_out points into

  double submitted = 0;
  double started = std::numeric_limits<double>::quiet_NaN();
  double last_token = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace motet
