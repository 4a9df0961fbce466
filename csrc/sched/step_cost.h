// What a step costs by how much it computes, learned from the steps that ran.
#pragma once

#include <array>
#include <cstdint>

namespace motet {

// Seconds of a step as a line over its tokens: weighted least squares in which old steps fade.
class StepCost {
 public:
  void Observe(int64_t tokens, double seconds);
  bool known() const { return weight_ > 0; }
  double Seconds(double tokens) const;
  double SecondsPerToken() const;  // of one more

 private:
  double weight_ = 0, tokens_ = 0, seconds_ = 0;  // sums of weights, weighted means
  double variance_ = 0, covariance_ = 0;          // weighted means
};

// How much longer than predicted 99 of 100 steps take at most.
class Overrun {
 public:
  Overrun();
  void Observe(double predicted, double seconds);
  double Factor() const;

 private:
  static constexpr int kSteps = 256;
  std::array<double, kSteps> factors_;  // of the last steps
  int next_ = 0;
};

// How many prompt tokens a step may compute so that running streams get their next token within a
// target time.
class PromptBudget {
 public:
  // 0 seconds: no target. `most` is what a step computes at most.
  PromptBudget(double target_seconds, int64_t most) : target_(target_seconds), most_(most) {}

  // `generating` sequences run beside the prompts.
  int64_t Tokens(int64_t generating, const StepCost& decode) const;
  void Observe(int64_t generating, int64_t prompt_tokens, double seconds, const StepCost& decode);

 private:
  double target_;
  int64_t most_;
  double seconds_per_token_ = 0;  // of prompts beside decoding; 0: not known yet
  Overrun overrun_;
};

}  // namespace motet
