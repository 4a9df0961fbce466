// The sample op on the CPU. Single-threaded: a row is 1 MB, and rows of a batch are independent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ops/sample.h"

namespace motet::cpu {

// Workspace of the functions below, allocated once: 32 bytes a token of the vocabulary. Not shared
// between threads. Spans in a result point into it and live until the next call.
struct SampleScratch {
  explicit SampleScratch(size_t vocab);

  // Tokens that a draw may still choose, in ascending order of their ids.
  struct Candidates {
    explicit Candidates(size_t vocab) : ids(vocab), logits(vocab), weights(vocab) {}
    void Set(size_t to, const Candidates& from, size_t j) {
      ids[to] = from.ids[j], logits[to] = from.logits[j], weights[to] = from.weights[j];
    }

    std::vector<int32_t> ids;    // [vocab]
    std::vector<float> logits;   // [vocab]
    std::vector<float> weights;  // [vocab] exp((logit - max) / temperature)
  };

  std::vector<float> logits;       // [vocab] edited copy of the row
  std::vector<int32_t> counts;     // [vocab] how often a token occurred; all 0 between calls
  Candidates candidates;           // all of them
  Candidates cut;                  // those among which top_k or top_p cuts
  std::vector<double> block_sums;  // [ceil(vocab / block)] of the weights
  std::vector<TopLogprob> top;     // [kMaxTopLogprobs]
};

// Both throw InvalidRequestError for an id outside [0, vocab). Sample() relies on its ids having
// been checked when the request came in.
void CheckTokenIds(const char* param, std::span<const int32_t> ids, size_t vocab);
void CheckSampling(const Sampling& sampling, size_t vocab);

SampleResult Sample(const SampleArgs& args, SampleScratch& scratch);

// The logprob of `token` under logits [vocab] and the k (<= kMaxTopLogprobs) most likely tokens.
TokenLogprob LogprobOf(std::span<const float> logits, int32_t token, int k, SampleScratch& scratch);

}  // namespace motet::cpu
