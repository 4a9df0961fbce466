#pragma once

#include "cuda/kernels/experts.h"

namespace motet::cuda {

// What Route() has another kernel for, if there are many tokens.
struct ChooseExpertsArgs {
  const float* logits;  // [T, num_experts]
  int32_t* experts;     // [T, experts_per_token], the same as in `group`
  float* weights;       // [T, experts_per_token]
  unsigned* ticket;     // 0 at first, and after each run
  GroupByExpertArgs group;
};
void ChooseExpertsAndGroup(const ChooseExpertsArgs& args, Stream stream);

}  // namespace motet::cuda
