#pragma once

#include "cuda/kernels/experts.h"

namespace motet::cuda {

// The second half of Route().
struct ChooseExpertsArgs {
  const float* logits;  // [T, num_experts]
  int32_t* experts;     // [T, experts_per_token], the same as in `group`
  float* weights;       // [T, experts_per_token]
  GroupByExpertArgs group;
};
void ChooseExpertsAndGroup(const ChooseExpertsArgs& args, Stream stream);

}  // namespace motet::cuda
