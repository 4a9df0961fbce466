// Speculative decoding by look-up: what followed the same tokens before, in the conversation or in
// a text that the answer is expected to resemble, is proposed, and checked in the next step. Since
// a token depends on its logits, seed and position alone, checking is drawing it: the output is the
// same bits with any proposals. (Prompt look-up decoding; A. Saxena, 2023.)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sched/sequence.h"
#include "sched/step_cost.h"

namespace motet {

class Drafter {
 public:
  static constexpr int64_t kMaxDraft = 8;

  // Token ids that the answer may resemble.
  void Expect(std::vector<int32_t> prediction) { prediction_ = std::move(prediction); }

  // Fills sequence.draft, with nothing where that would not pay: `cost` tells what a step of so
  // many tokens takes, `step_tokens` how many it has so far.
  void Propose(Sequence& sequence, const StepCost& cost, int64_t step_tokens);
  // Of so many proposed tokens the first `accepted` were right; one more was drawn after them.
  void Observe(int64_t proposed, int64_t accepted);

 private:
  // Sets next_ to where the next token may be found; false if nowhere.
  bool Locate(const Sequence& sequence);
  static int64_t Follow(std::span<const int32_t> text, const Sequence& sequence);
  int64_t Worthwhile(const StepCost& cost, int64_t step_tokens) const;

  std::vector<int32_t> prediction_;
  int64_t next_ = -1;           // index of the token that the next one is expected to equal,
  bool in_prediction_ = false;  // in the prediction or in the sequence's own tokens
  double acceptance_ = 0.6;     // of a proposed token, learned
  int64_t rest_ = 0;            // steps for which nothing is proposed
  int64_t failures_ = 0;        // in a row
};

}  // namespace motet
