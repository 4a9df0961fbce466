#pragma once

#include "base/matrix.h"
#include "cuda/kernels/experts.h"
#include "cuda/memory.h"
#include "cuda/rows.h"

namespace motet::cuda {

// normed = x / sqrt(mean(x^2) + eps) * norm; the experts_per_token largest of normed Wr + br and
// the softmax over them; and who is given which tokens.
struct RouteArgs {
  int num_tokens;        // T, at most kMaxMoeTokens
  const int32_t* slots;  // [T], below 0: the token is not there
  const float* x;        // [T, hidden], aligned to 16 bytes
  const uint16_t* norm;  // [hidden] bf16, aligned to 8
  float eps;
  const uint16_t* router;       // [experts, hidden] bf16, row-major, aligned to 8
  const uint16_t* router_bias;  // [experts] bf16
  int hidden;
  int num_experts, experts_per_token;  // SupportsExperts()
  float* logits;                       // [T, experts] scratch
  unsigned* ticket;                    // 0 at first, and after each run
  Rows normed;                         // [T, hidden]
  int32_t* experts;                    // [T, experts_per_token], by weight; ties: lower index first
  float* weights;                      // [T, experts_per_token]
  ExpertLists lists;
};
void Route(const RouteArgs& args, Stream stream);

}  // namespace motet::cuda
