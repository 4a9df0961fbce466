// The sample op: one token drawn from one row of logits.
//
// The steps, in this order (each is skipped at its default):
//   1. repetition_penalty r    of every token of the prompt or output: x > 0 ? x / r : x * r
//   2. frequency, presence     of every output token: x -= frequency * count + presence
//   3. logit bias              x += bias
//   4. min_tokens              stop ids get -inf while the output is shorter than min_tokens
//   5. logits processor        may change any logit
//   6. temperature T           weight = exp((x - max) / T); T = 0 ends here, with the argmax
//   7. min_p                   keeps tokens of at least min_p times the largest weight
//   8. top_k                   keeps the k tokens of highest rank
//   9. top_p                   keeps the fewest tokens, by rank, that hold top_p of what 7, 8 left
//  10. draw                    inverse CDF over what is kept, in ascending token id
// Rank is by logit, then lower id first; equal logits are therefore cut at one fixed place, and
// the argmax of equal logits is the lowest id.
//
// Odd logits: NaN counts as -inf; tokens at -inf are never drawn. Tokens at +inf share the whole
// probability equally. If no token is above -inf, the token is kNoToken.
//
// Reported logprobs are the log-softmax of the logits as the model gave them, before all steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace motet {

inline constexpr int kMaxTopLogprobs = 20;
inline constexpr int32_t kNoToken = -1;  // there is none that could be drawn

// What a request asks of the sampler; validated and filled in by motet.sampling.
struct Sampling {
  // Doubles, so that top_p times a weight means what the caller's number means.
  double temperature = 1.0;  // below kGreedyTemperature: greedy
  double top_p = 1.0;
  double min_p = 0.0;
  int top_k = 0;      // 0 = off
  uint64_t seed = 0;  // the draw depends on the logits, (seed, position), and nothing else
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  std::vector<int32_t> bias_ids;   // [n], distinct
  std::vector<float> bias_values;  // [n]
  int logprobs = -1;               // alternatives to report with each output token; 0 = itself only
  int prompt_logprobs = -1;        // the same for prompt tokens
  int min_tokens = 0;
  std::vector<int32_t> stop_ids;  // these end the request, once min_tokens are there
  // (prompt and output so far [n_tokens], logits [vocab]); edits the logits in place.
  std::function<void(std::span<const int32_t>, std::span<float>)> logits_processor;
};

inline constexpr double kGreedyTemperature = 1e-5;

struct SampleArgs {
  std::span<const float> logits;    // [vocab]
  std::span<const int32_t> tokens;  // [n_tokens] prompt, then output; each in [0, vocab)
  size_t n_prompt = 0;              // how many of them are the prompt
  uint64_t position = 0;            // index in the sequence of the token to draw
  const Sampling* sampling = nullptr;
};

struct TopLogprob {
  int32_t token;
  float logprob;
};

struct TokenLogprob {
  float logprob;                    // of the token asked for
  std::span<const TopLogprob> top;  // [<= k] by logprob, then lower id; no logit of -inf
};
inline const TokenLogprob kNoLogprobs{std::numeric_limits<float>::quiet_NaN(), {}};

struct SampleResult {
  int32_t token;
  TokenLogprob logprobs;  // kNoLogprobs when not asked for
};

}  // namespace motet
