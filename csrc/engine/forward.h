// The only forward pass: the order of the ops, for every backend.
#pragma once

#include "engine/kv_cache.h"
#include "engine/workspace.h"
#include "model/weights.h"
#include "ops/ops.h"
#include "sched/batch_plan.h"

namespace motet {

// Leaves the wanted logits in ws.logits [plan.num_logit_rows, vocab]. `between_layers` may throw to
// abandon the step; nothing but the cache entries of the step's own tokens has been written then.
template <Backend B, class Poll>
void Forward(B& backend, const ModelConfig& config, const Weights& weights, const RopeTable& rope,
             const KvCache& cache, const BatchPlan& plan, Workspace& ws,
             const Poll& between_layers) {
  const StepTokens tokens{plan.num_tokens, plan.token_ids.data(), plan.positions.data(),
                          plan.slots.data()};
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const auto& copies = config.layer_is_sliding[i] ? plan.sliding_copies : plan.full_copies;
    backend.CopyPages({cache.layer(i), copies.data(), static_cast<int64_t>(copies.size())});
  }
  backend.Embed({tokens, weights.embedding, ws.x.data()});
  backend.Rotary({tokens, &rope, ws.cos.data(), ws.sin.data()});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const LayerWeights* layer = &weights.layers[i];
    LayerCache layer_cache = cache.layer(i);
    layer_cache.page_table = config.layer_is_sliding[i] ? plan.sliding_pages : plan.full_pages;
    layer_cache.pages_per_sequence = plan.pages_per_sequence;
    backend.Qkv({tokens, layer, layer_cache, ws.x.data(), ws.cos.data(), ws.sin.data(),
                 ws.normed.data(), ws.q.data(), ws.k.data(), ws.v.data()});
    backend.Attention({tokens, layer_cache, layer->sinks, ws.q.data(), ws.attention.data()});
    backend.OutProj({tokens, layer, ws.attention.data(), ws.projected.data(), ws.x.data()});
    backend.Route({tokens, layer, ws.x.data(), ws.normed.data(), ws.router_logits.data(),
                   ws.experts.data(), ws.expert_weights.data()});
    backend.Moe({tokens, layer, ws.normed.data(), ws.experts.data(), ws.expert_weights.data(),
                 ws.expert_out.data(), ws.x.data()});
    between_layers();
  }
  backend.LmHead({plan.num_logit_rows, plan.logit_rows.data(), weights.final_norm, weights.lm_head,
                  ws.x.data(), ws.normed.data(), ws.logits.data()});
}

}  // namespace motet
