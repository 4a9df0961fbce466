#include "engine/drafter.h"

#include <algorithm>
#include <span>

namespace motet {
namespace {

constexpr int64_t kLongestMatch = 3, kShortestMatch = 2;  // tokens
constexpr int64_t kMaxRest = 64;  // steps between tries where proposals keep failing
constexpr int64_t kMaxFailures = 6;
constexpr int64_t kDoubtfulFailures = 3;
constexpr double kLearning = 0.1;  // share of a new observation in the acceptance
constexpr double kMaxAcceptance = 0.95;

// The index after the last occurrence in `text` of the n tokens `tail`, -1 if there is none with a
// token after it.
int64_t AfterLast(std::span<const int32_t> text, const int32_t* tail, int64_t n) {
  for (int64_t end = static_cast<int64_t>(text.size()) - 1; end >= n; --end) {
    if (text[end - 1] == tail[n - 1] && std::equal(tail, tail + n, text.data() + end - n)) {
      return end;
    }
  }
  return -1;
}

}  // namespace

// After the last occurrence of the tokens' end in `text`, the longer match first.
int64_t Drafter::Follow(std::span<const int32_t> text, const Sequence& sequence) {
  for (int64_t n = std::min(kLongestMatch, sequence.length()); n >= kShortestMatch; --n) {
    const int64_t found = AfterLast(text, sequence.tokens.data() + sequence.length() - n, n);
    if (found >= 0) return found;
  }
  return -1;
}

bool Drafter::Locate(const Sequence& sequence) {
  const auto has_next = [&](const std::vector<int32_t>& text) {
    return next_ >= 0 && next_ < static_cast<int64_t>(text.size());
  };
  // Where the last proposal came from, if what was drawn is what stands there.
  const std::vector<int32_t>& text = in_prediction_ ? prediction_ : sequence.tokens;
  if (has_next(text) && next_ > 0 && text[next_ - 1] == sequence.tokens.back()) return true;
  const auto go_to = [&](int64_t found, bool in_prediction) {
    if (found < 0) return false;
    next_ = found;
    in_prediction_ = in_prediction;
    return true;
  };
  if (go_to(Follow(prediction_, sequence), true)) return true;
  // One wrong token need not end a prediction.
  if (in_prediction_ && has_next(prediction_) && failures_ < kDoubtfulFailures) return true;
  if (go_to(Follow(sequence.tokens, sequence), false)) return true;
  // A prediction starts where the answer does.
  return go_to(sequence.length() - sequence.n_prompt, true) && has_next(prediction_);
}

// A proposed token pays as long as it brings more tokens a second than the step has without it.
int64_t Drafter::Worthwhile(const StepCost& cost, int64_t step_tokens) const {
  if (!cost.known()) return 0;
  const double more = cost.SecondsPerToken();
  double seconds = cost.Seconds(static_cast<double>(step_tokens));
  double expected = static_cast<double>(step_tokens), right = acceptance_;
  int64_t n = 0;
  while (n < kMaxDraft && right * seconds > more * expected) {
    expected += right;
    seconds += more;
    right *= acceptance_;
    ++n;
  }
  return n;
}

void Drafter::Propose(Sequence& sequence, const StepCost& cost, int64_t step_tokens) {
  sequence.draft.clear();
  if (rest_ > 0) {
    --rest_;
    return;
  }
  int64_t n = Worthwhile(cost, step_tokens);
  if (n == 0) {  // now and then it is tried again
    n = 1;
    failures_ = std::max(failures_, kMaxFailures);
  }
  if (!Locate(sequence)) return;
  const std::vector<int32_t>& text = in_prediction_ ? prediction_ : sequence.tokens;
  n = std::min(
      {n, static_cast<int64_t>(text.size()) - next_, sequence.max_tokens - sequence.length() - 1});
  for (int64_t i = 0; i < n; ++i) sequence.draft.push_back(text[next_ + i]);
}

void Drafter::Observe(int64_t proposed, int64_t accepted) {
  if (proposed == 0) {
    if (next_ >= 0) ++next_;
    return;
  }
  next_ += accepted + 1;
  for (int64_t i = 0; i < std::min(accepted + 1, proposed); ++i) {
    acceptance_ += kLearning * ((i < accepted ? 1 : 0) - acceptance_);
  }
  acceptance_ = std::min(acceptance_, kMaxAcceptance);
  failures_ = accepted > 0 ? 0 : std::min(failures_ + 1, kMaxFailures);
  rest_ = failures_ < kDoubtfulFailures ? 0 : std::min(int64_t{1} << failures_, kMaxRest);
}

}  // namespace motet
