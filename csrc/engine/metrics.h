// Counters and timings of an engine since its start.
#pragma once

#include <array>
#include <cstdint>

namespace motet {

enum class Finish { kNone, kStop, kLength, kCancelled, kTimeout, kError };
inline constexpr int kNumFinishes = 6;

// Observations by size, as Prometheus has them: seconds, in buckets with upper bounds.
class Histogram {
 public:
  static constexpr std::array<double, 16> kBounds = {
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};

  void Observe(double seconds) {
    size_t i = 0;
    while (i < kBounds.size() && seconds > kBounds[i]) ++i;
    ++counts_[i];
    sum_ += seconds;
  }
  // Of bucket i, without those before it; the last one has no bound.
  int64_t count(size_t i) const { return counts_[i]; }
  double sum() const { return sum_; }

 private:
  std::array<int64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

struct Metrics {
  int64_t requests_submitted = 0;
  std::array<int64_t, kNumFinishes> requests_finished{};  // by Finish
  int64_t requests_running = 0, requests_waiting = 0;     // now
  int64_t prompt_tokens = 0;                              // that requests have computed to the end
  int64_t cached_tokens = 0;                              // of them found in the prefix cache
  int64_t generated_tokens = 0;
  int64_t computed_tokens = 0;  // through the model: also again, and drafts
  int64_t steps = 0;
  int64_t pauses = 0;  // requests that had to give up their pages for a while
  int64_t draft_tokens = 0, accepted_draft_tokens = 0;
  int64_t full_pages = 0, sliding_pages = 0;            // in all
  int64_t full_pages_used = 0, sliding_pages_used = 0;  // by running requests, now
  int64_t full_pages_kept = 0, sliding_pages_kept = 0;  // for their contents, now
  Histogram step_seconds;
  Histogram queue_seconds;        // from submission to the first step
  Histogram prefill_seconds;      // from there to the prompt's end
  Histogram first_token_seconds;  // from submission to the first token
  Histogram inter_token_seconds;  // between tokens of a request
};

}  // namespace motet
