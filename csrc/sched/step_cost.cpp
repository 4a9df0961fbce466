#include "sched/step_cost.h"

#include <algorithm>

namespace motet {
namespace {

constexpr double kFading = 0.95;  // of a step's weight with each later one
// Before steps of different sizes have run: what one more token is thought to cost, as part of a
// step of one. (Of gpt-oss-20b a second token reads a quarter more of the weights.)
constexpr double kPriorShare = 0.3;
// Before steps have run: how much longer than predicted they are thought to take.
constexpr double kPriorOverrun = 1.25;
constexpr int64_t kFirstTokens = 8;  // beside decoding, while nothing is known

}  // namespace

void StepCost::Observe(int64_t tokens, double seconds) {
  weight_ = kFading * weight_ + 1;
  const double share = 1 / weight_;
  const double dx = static_cast<double>(tokens) - tokens_, dy = seconds - seconds_;
  tokens_ += share * dx;
  seconds_ += share * dy;
  variance_ = (1 - share) * (variance_ + share * dx * dx);
  covariance_ = (1 - share) * (covariance_ + share * dx * dy);
}

double StepCost::SecondsPerToken() const {
  const double prior = kPriorShare * seconds_ / (1 + kPriorShare * std::max(tokens_ - 1, 0.0));
  // The prior counts as much as steps that differ by half a token.
  constexpr double kPriorVariance = 0.0625;
  return std::max((covariance_ + kPriorVariance * prior) / (variance_ + kPriorVariance), 0.0);
}

double StepCost::Seconds(double tokens) const {
  return std::max(seconds_ + (tokens - tokens_) * SecondsPerToken(), 0.0);
}

Overrun::Overrun() { factors_.fill(kPriorOverrun); }

void Overrun::Observe(double predicted, double seconds) {
  factors_[next_] = seconds / predicted;
  next_ = (next_ + 1) % kSteps;
}

// The second largest of 256: one step that the machine held up is no reason for a margin.
double Overrun::Factor() const {
  double largest = 1, second = 1;
  for (const double factor : factors_) {
    second = std::max(second, std::min(factor, largest));
    largest = std::max(largest, factor);
  }
  return second;
}

int64_t PromptBudget::Tokens(int64_t generating, const StepCost& decode) const {
  if (target_ <= 0 || generating == 0) return most_;
  if (seconds_per_token_ <= 0 || !decode.known()) return std::min(kFirstTokens, most_);
  const double room = target_ / overrun_.Factor() - decode.Seconds(static_cast<double>(generating));
  return std::clamp(static_cast<int64_t>(room / seconds_per_token_), int64_t{1}, most_);
}

void PromptBudget::Observe(int64_t generating, int64_t prompt_tokens, double seconds,
                           const StepCost& decode) {
  if (target_ <= 0 || generating == 0 || prompt_tokens == 0 || !decode.known()) return;
  const double decoding = decode.Seconds(static_cast<double>(generating));
  const auto tokens = static_cast<double>(prompt_tokens);
  if (seconds_per_token_ > 0) overrun_.Observe(decoding + tokens * seconds_per_token_, seconds);
  const double measured = std::max(seconds - decoding, 0.1 * seconds) / tokens;
  // What got slower counts at once: the target is a promise.
  constexpr double kUp = 0.5, kDown = 0.2;
  const double share = seconds_per_token_ <= 0 ? 1 : measured > seconds_per_token_ ? kUp : kDown;
  seconds_per_token_ += share * (measured - seconds_per_token_);
}

}  // namespace motet
