#pragma once

#include "cuda/memory.h"
#include "cuda/rows.h"

namespace motet::cuda {

// out = the RMS norm of the residual stream, for the next products, the same as by RmsNorm(); or
// nothing, where `weight` is null.
struct NextNorm {
  const uint16_t* weight;  // [hidden] bf16, aligned to 8 bytes
  float eps;
  Rows out;  // [T, hidden]
};

// The end of Moe(): x[t] += the weighted outputs of t's experts, in the order of its choices.
struct CombineArgs {
  int num_tokens;  // T
  int experts_per_token;
  int hidden;
  const float* outputs;           // [pairs, hidden], aligned to 16 bytes, as x is
  const float* weights;           // [T, experts_per_token]
  const int32_t* pair_of_choice;  // the same, -1: not there
  float* x;                       // [T, hidden]
  NextNorm norm;
};
void Combine(const CombineArgs& args, Stream stream);

}  // namespace motet::cuda
