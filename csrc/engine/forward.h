// The only forward pass: the order of the ops, for every backend.
#pragma once

#include <span>

#include "engine/kv_cache.h"
#include "model/weights.h"
#include "ops/ops.h"

namespace motet {

// A BatchPlan in the backend's memory.
struct StepInputs {
  StepTokens tokens;
  int num_logit_rows;
  const int32_t* logit_rows;     // [num_logit_rows]
  const int32_t* full_pages;     // [max_sequences, pages_per_sequence]
  const int32_t* sliding_pages;  // the same
  int64_t pages_per_sequence;
  std::span<const PageCopy> full_copies, sliding_copies;  // host memory
};

// Leaves the wanted logits with the backend. `between_layers` may throw to abandon the step;
// nothing but the cache entries of the step's own tokens has been written then.
template <Backend B, class Poll>
void Forward(B& backend, const ModelConfig& config, const Weights& weights, const KvCache& cache,
             const StepInputs& step, const Poll& between_layers) {
  backend.CopyPages({cache.layers(), step.full_copies, step.sliding_copies});
  backend.Embed({step.tokens, weights.embedding});
  backend.Rotary({step.tokens});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const LayerWeights* layer = &weights.layers[i];
    LayerCache layer_cache = cache.layers()[i];
    layer_cache.page_table = config.layer_is_sliding[i] ? step.sliding_pages : step.full_pages;
    layer_cache.pages_per_sequence = step.pages_per_sequence;
    backend.Qkv({step.tokens, layer, layer_cache});
    backend.Attention({step.tokens, layer, layer_cache});
    backend.OutProj({step.tokens, layer});
    backend.Route({step.tokens, layer});
    backend.Moe({step.tokens, layer, i + 1 < config.num_layers ? layer + 1 : nullptr});
    between_layers();
  }
  backend.LmHead({step.num_logit_rows, step.logit_rows, weights.final_norm, weights.lm_head});
}

}  // namespace motet
