#include "cpu/workspace.h"

#include <algorithm>

namespace motet {

Workspace::Workspace(const ModelConfig& c, int64_t max_tokens, int64_t max_logit_rows)
    : x(max_tokens * c.hidden_size),
      normed(std::max(max_tokens, max_logit_rows) * c.hidden_size),
      cos(max_tokens * c.head_dim / 2),
      sin(max_tokens * c.head_dim / 2),
      q(max_tokens * c.QuerySize()),
      attention(max_tokens * c.QuerySize()),
      k(max_tokens * c.KvSize()),
      v(max_tokens * c.KvSize()),
      projected(max_tokens * c.hidden_size),
      router_logits(max_tokens * c.num_experts),
      experts(max_tokens * c.experts_per_token),
      expert_weights(max_tokens * c.experts_per_token),
      expert_out(max_tokens * c.experts_per_token * c.hidden_size),
      logits(max_logit_rows * c.vocab_size) {}

int64_t Workspace::bytes() const {
  size_t floats = experts.size();
  for (const auto* buffer : {&x, &normed, &cos, &sin, &q, &attention, &k, &v, &projected,
                             &router_logits, &expert_weights, &expert_out, &logits}) {
    floats += buffer->size();
  }
  return static_cast<int64_t>(floats * sizeof(float));
}

}  // namespace motet
