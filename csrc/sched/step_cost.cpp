#include "sched/step_cost.h"

#include <algorithm>

namespace motet {
namespace {

constexpr double kFading = 0.95;  // of a step's weight with each later one
// Before steps of different sizes have run: what one more token is thought to cost, as part of a
// step of one. (Of gpt-oss-20b a second token reads a quarter more of the weights.)
constexpr double kPriorShare = 0.3;
// A machine is not always equally fast: so much of the target is planned for.
constexpr double kPlannedShare = 0.85;
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

int64_t PromptBudget::Tokens(int64_t generating, const StepCost& decode) const {
  if (target_ <= 0 || generating == 0) return most_;
  if (seconds_per_token_ <= 0 || !decode.known()) return std::min(kFirstTokens, most_);
  const double room = kPlannedShare * target_ - decode.Seconds(static_cast<double>(generating));
  return std::clamp(static_cast<int64_t>(room / seconds_per_token_), int64_t{1}, most_);
}

void PromptBudget::Observe(int64_t generating, int64_t prompt_tokens, double seconds,
                           const StepCost& decode) {
  if (target_ <= 0 || generating == 0 || prompt_tokens == 0 || !decode.known()) return;
  const double beside = seconds - decode.Seconds(static_cast<double>(generating));
  const double measured = std::max(beside, 0.1 * seconds) / static_cast<double>(prompt_tokens);
  // What got slower counts at once: the target is a promise.
  constexpr double kUp = 0.5, kDown = 0.2;
  const double share = seconds_per_token_ <= 0 ? 1 : measured > seconds_per_token_ ? kUp : kDown;
  seconds_per_token_ += share * (measured - seconds_per_token_);
}

}  // namespace motet
