// The ops of the forward pass, one plain argument struct each. A backend computes them on its own
// device; T is the number of tokens in the step. Pointers are to the backend's memory.
//
// What one op leaves for the next stays with the backend, in whatever form suits it: the residual
// stream x [T, hidden], q and the attention's output [T, heads, head_dim], the rows that experts
// take, their choice.
// (Sampling, which ends a step, has its own file: sample.h.)
#pragma once

#include <concepts>
#include <cstdint>
#include <span>

#include "base/page.h"
#include "model/weights.h"

namespace motet {

// What every op may need to know about the tokens of the step.
struct StepTokens {
  int num_tokens;            // T
  const int32_t* ids;        // [T]
  const int32_t* positions;  // [T]
  const int32_t* slots;      // [T] row of the page tables; below 0: no token, to fill up a step
};

// The cache of one layer and the page table of its kind.
struct LayerCache {
  void* keys;                 // pages in the format of kv_page.h
  void* values;               // the same
  const int32_t* page_table;  // [max_sequences, pages_per_sequence]
  int64_t pages_per_sequence;
  int64_t window;  // keys a query sees, itself included; 0: all
};

// Pages become copies of others, in the cache of every layer.
struct CopyPagesArgs {
  std::span<const LayerCache> layers;
  std::span<const PageCopy> full, sliding;  // of layers without and with a window; host memory
};

// x[t] = embedding[ids[t]]
struct EmbedArgs {
  StepTokens tokens;
  WeightMatrix embedding;  // [vocab, hidden]
};

// cos and sin of every rotary angle of the step, [T, head_dim/2] each, times YaRN's factor.
struct RotaryArgs {
  StepTokens tokens;
};

// q = rope(norm(x) Wq + bq); rope(norm(x) Wk + bk) and norm(x) Wv + bv go into the cache.
struct QkvArgs {
  StepTokens tokens;
  const LayerWeights* layer;
  LayerCache cache;
};

// out = softmax([q · keys / sqrt(head_dim), sink]) without the sink's column, times values.
struct AttentionOpArgs {
  StepTokens tokens;
  const LayerWeights* layer;
  LayerCache cache;
};

// x += out Wo + bo
struct OutProjArgs {
  StepTokens tokens;
  const LayerWeights* layer;
};

// normed = norm(x); the experts_per_token largest of normed Wr + br, by weight, ties to the lower
// index, and the softmax over them.
struct RouteArgs {
  StepTokens tokens;
  const LayerWeights* layer;
};

// x += sum over the chosen experts of weight * (swiglu(normed W1 + b1) W2 + b2)
struct MoeArgs {
  StepTokens tokens;
  const LayerWeights* layer;
  const LayerWeights* next;  // whose Qkv() comes next, for what may be done at once; null: none's
};

// logits[i] = norm(x[rows[i]]) lm_head
struct LmHeadArgs {
  int num_rows;
  const int32_t* rows;  // [num_rows]
  Bf16Vector norm;      // [hidden]
  WeightMatrix weight;  // [vocab, hidden]
};

template <class B>
concept Backend = requires(B backend, Weights& weights) {
  backend.Prepare(weights);
  backend.CopyPages(CopyPagesArgs{});
  backend.Embed(EmbedArgs{});
  backend.Rotary(RotaryArgs{});
  backend.Qkv(QkvArgs{});
  backend.Attention(AttentionOpArgs{});
  backend.OutProj(OutProjArgs{});
  backend.Route(RouteArgs{});
  backend.Moe(MoeArgs{});
  backend.LmHead(LmHeadArgs{});
};

}  // namespace motet
