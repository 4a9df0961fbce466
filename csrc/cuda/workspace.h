// Every buffer of a step, in one piece of the device's memory for the largest step.
#pragma once

#include <cstdint>

#include "cuda/kernels/experts.h"
#include "cuda/rows.h"
#include "model/config.h"

namespace motet::cuda {

struct StepLimits {
  int64_t tokens, logit_rows;
  int64_t sequences;  // that run at once
  int64_t context;    // tokens of one
};

struct Workspace {
  // In `memory`; null only counts the bytes.
  Workspace(const ModelConfig& config, const StepLimits& limits, char* memory);

  int64_t bytes = 0;

  // T = tokens, R = logit rows
  float* x;          // [T, hidden] the residual stream
  float *cos, *sin;  // [T, head_dim/2]
  void* normed;      // rows [max(T, R), hidden]
  uint16_t* q;       // [T, heads, head_dim]
  void* attention;   // rows [T, heads * head_dim]
  void* attention_scratch;
  int64_t attention_scratch_bytes;
  unsigned* attention_tickets;  // [T, kv_heads] zeros between kernels
  // [T, 2, kv_heads, head_dim] of a layer, on their way to a cache of integers. Attention, which
  // comes next, needs them no more.
  float* unappended_kv() const { return static_cast<float*>(attention_scratch); }
  float* router_logits;     // [T, experts]
  unsigned* router_ticket;  // 0 between steps
  int32_t* experts;         // [T, experts_per_token]
  float* expert_weights;    // the same
  void* expert_lists;
  void* moe_scratch;
  float* logits;   // [R, vocab]
  int32_t* drawn;  // [R]
  void* sample_scratch;
};

}  // namespace motet::cuda
