// Every buffer of a step, allocated once for the largest step.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace motet {

struct Workspace {
  // T = max_tokens, R = max_logit_rows, K = experts_per_token
  Workspace(const ModelConfig& config, int64_t max_tokens, int64_t max_logit_rows);

  int64_t bytes() const;

  std::vector<float> x;               // [T, hidden] the residual stream
  std::vector<float> normed;          // [max(T, R), hidden]
  std::vector<float> cos, sin;        // [T, head_dim/2]
  std::vector<float> q, attention;    // [T, heads, head_dim]
  std::vector<float> k, v;            // [T, kv_heads, head_dim]
  std::vector<float> projected;       // [T, hidden]
  std::vector<float> router_logits;   // [T, experts]
  std::vector<int32_t> experts;       // [T, K]
  std::vector<float> expert_weights;  // [T, K]
  std::vector<float> expert_out;      // [T * K, hidden]
  std::vector<float> logits;          // [R, vocab]
};

}  // namespace motet
