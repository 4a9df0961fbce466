#include "engine/drafter.h"

#include <algorithm>
#include <span>

namespace motet {
namespace {

constexpr int64_t kLongestMatch = 3, kShortestMatch = 2;  // tokens
constexpr int64_t kMaxRest = 64;  // steps between tries where proposals keep failing
constexpr int64_t kMaxFailures = 6;
constexpr double kLearning = 0.2;  // share of a new observation in the acceptance
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

bool Drafter::Locate(const Sequence& sequence) {
  const std::vector<int32_t>& tokens = sequence.tokens;
  const int64_t length = sequence.length();
  // Where the last proposal came from, if what was drawn is what stands there.
  const bool was_in_prediction = in_prediction_;
  const std::vector<int32_t>& text = in_prediction_ ? prediction_ : tokens;
  const bool ends = next_ < 0 || next_ >= static_cast<int64_t>(text.size());
  if (!ends && next_ > 0 && text[next_ - 1] == tokens.back()) return true;
  for (int64_t n = kLongestMatch; n >= kShortestMatch; --n) {
    if (n > length) continue;
    const int32_t* tail = tokens.data() + length - n;
    int64_t found = AfterLast(prediction_, tail, n);
    in_prediction_ = found >= 0;
    if (found < 0) found = AfterLast({tokens.data(), static_cast<size_t>(length)}, tail, n);
    if (found >= 0) {
      next_ = found;
      return true;
    }
  }
  // A prediction starts where the answer does, and one wrong token need not end it.
  if (prediction_.empty()) return false;
  in_prediction_ = true;
  if (next_ < 0 || !was_in_prediction) next_ = length - sequence.n_prompt;
  return next_ < static_cast<int64_t>(prediction_.size());
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
  rest_ = failures_ < 2 ? 0 : std::min(int64_t{1} << failures_, kMaxRest);
}

}  // namespace motet
