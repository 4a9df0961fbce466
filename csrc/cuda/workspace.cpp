#include "cuda/workspace.h"

#include <algorithm>

#include "cuda/kernels/append_kv.h"
#include "cuda/kernels/attention.h"
#include "cuda/kernels/moe.h"
#include "cuda/kernels/sample.h"

namespace motet::cuda {
namespace {

constexpr int64_t kAlignment = 256;
// Partial results of long contexts: for as many tokens at a time as fit.
constexpr int64_t kAttentionScratchBytes = 128 << 20;

}  // namespace

Workspace::Workspace(const ModelConfig& c, const StepLimits& limits, char* memory) {
  const int64_t tokens = limits.tokens, rows = limits.logit_rows;
  const int heads = static_cast<int>(c.num_heads), dim = static_cast<int>(c.head_dim);
  const int k = static_cast<int>(c.experts_per_token);
  const auto take = [&]<class T>(T*& pointer, int64_t count) {
    pointer = reinterpret_cast<T*>(memory + bytes);
    bytes += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
  };
  const auto take_bytes = [&](void*& pointer, int64_t count) {
    char* start;
    take(start, count);
    pointer = start;
  };
  take(x, tokens * c.hidden_size);
  take(cos, tokens * dim / 2);
  take(sin, tokens * dim / 2);
  take_bytes(normed, RowsBytes(std::max(tokens, rows), c.hidden_size));
  take(q, tokens * c.QuerySize());
  take_bytes(attention, RowsBytes(tokens, c.QuerySize()));
  const int64_t one = AttentionScratchBytes(heads, dim, NumChunks(limits.context, 0));
  attention_scratch_bytes =
      std::max(one, std::min(one * std::max(limits.sequences, rows), kAttentionScratchBytes));
  attention_scratch_bytes =
      std::max(attention_scratch_bytes, UnappendedKvBytes(tokens, c.num_kv_heads, dim));
  take_bytes(attention_scratch, attention_scratch_bytes);
  take(attention_tickets, tokens * c.num_kv_heads);
  take(router_logits, tokens * c.num_experts);
  take(router_ticket, 1);
  take(experts, tokens * k);
  take(expert_weights, tokens * k);
  take_bytes(expert_lists, ExpertListsBytes(static_cast<int>(tokens), c.num_experts, k));
  take_bytes(moe_scratch,
             MoeScratchBytes(static_cast<int>(tokens), k, c.hidden_size, c.intermediate_size));
  take(logits, rows * c.vocab_size);
  take(drawn, rows);
  take_bytes(sample_scratch, SampleScratchBytes(rows, c.vocab_size));
}

}  // namespace motet::cuda
