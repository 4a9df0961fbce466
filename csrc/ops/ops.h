// The ops of the forward pass, one plain argument struct each. A backend computes them on its own
// device; T is the number of tokens in the step. Pointers are to the backend's memory.
// (Sampling, which ends a step, has its own file: sample.h.)
#pragma once

#include <concepts>
#include <cstdint>

#include "base/page.h"
#include "model/weights.h"

namespace motet {

// What every op may need to know about the tokens of the step.
struct StepTokens {
  int num_tokens;            // T
  const int32_t* ids;        // [T]
  const int32_t* positions;  // [T]
  const int32_t* slots;      // [T] row of the page tables
};

// The cache of one layer and the page table of its kind.
struct LayerCache {
  void* keys;                 // pages in the format of kv_page.h
  void* values;               // the same
  const int32_t* page_table;  // [max_sequences, pages_per_sequence]
  int64_t pages_per_sequence;
  int64_t window;  // keys a query sees, itself included; 0: all
};

// x[t] = embedding[ids[t]]
struct EmbedArgs {
  StepTokens tokens;
  WeightMatrix embedding;  // [vocab, hidden]
  float* x;                // [T, hidden]
};

// Pages of a layer's cache become copies of others.
struct CopyPagesArgs {
  LayerCache cache;
  const PageCopy* copies;  // [num_copies]
  int64_t num_copies;
};

// cos and sin of every rotary angle of the step, times YaRN's factor.
struct RotaryArgs {
  StepTokens tokens;
  const RopeTable* table;
  float* cos;  // [T, head_dim/2]
  float* sin;  // [T, head_dim/2]
};

// q = rope(norm(x) Wq + bq); rope(norm(x) Wk + bk) and norm(x) Wv + bv go into the cache.
struct QkvArgs {
  StepTokens tokens;
  const LayerWeights* layer;
  LayerCache cache;
  const float* x;    // [T, hidden]
  const float* cos;  // [T, head_dim/2]
  const float* sin;  // [T, head_dim/2]
  float* normed;     // [T, hidden] scratch
  float* q;          // [T, heads, head_dim]
  float* k;          // [T, kv_heads, head_dim] scratch
  float* v;          // [T, kv_heads, head_dim] scratch
};

// out = softmax([q · keys / sqrt(head_dim), sink]) without the sink's column, times values.
struct AttentionOpArgs {
  StepTokens tokens;
  LayerCache cache;
  Bf16Vector sinks;  // [heads]
  const float* q;    // [T, heads, head_dim]
  float* out;        // [T, heads, head_dim]
};

// x += in Wo + bo
struct OutProjArgs {
  StepTokens tokens;
  const LayerWeights* layer;
  const float* in;   // [T, heads * head_dim]
  float* projected;  // [T, hidden] scratch
  float* x;          // [T, hidden]
};

// normed = norm(x); the experts_per_token largest of normed Wr + br and the softmax over them.
struct RouteArgs {
  StepTokens tokens;
  const LayerWeights* layer;
  const float* x;    // [T, hidden]
  float* normed;     // [T, hidden]
  float* logits;     // [T, experts] scratch
  int32_t* experts;  // [T, experts_per_token], by weight; ties: lower index first
  float* weights;    // [T, experts_per_token]
};

// x += sum over the chosen experts of weight * (swiglu(normed W1 + b1) W2 + b2)
struct MoeArgs {
  StepTokens tokens;
  const LayerWeights* layer;
  const float* normed;     // [T, hidden]
  const int32_t* experts;  // [T, experts_per_token]
  const float* weights;    // [T, experts_per_token]
  float* expert_out;       // [T * experts_per_token, hidden] scratch
  float* x;                // [T, hidden]
};

// logits[i] = norm(x[rows[i]]) lm_head
struct LmHeadArgs {
  int num_rows;
  const int32_t* rows;  // [num_rows]
  Bf16Vector norm;      // [hidden]
  WeightMatrix weight;  // [vocab, hidden]
  const float* x;       // [T, hidden]
  float* normed;        // [num_rows, hidden] scratch
  float* logits;        // [num_rows, vocab]
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
