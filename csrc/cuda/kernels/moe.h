#pragma once

#include "base/matrix.h"
#include "cuda/kernels/combine.h"
#include "cuda/kernels/experts.h"
#include "cuda/memory.h"
#include "cuda/rows.h"

namespace motet::cuda {

// What multiplies many tokens.
enum class MoeKernel {
  kAuto,  // by the device and the weights' format
  kMma,
  kWarpgroupMma,  // HasWarpgroups() and no scales of blocks, see moe_tile.cuh
};

// x[t] += sum over t's experts of weight * (swiglu(normed[t] W1ᵀ + b1) W2ᵀ + b2), where outputs of
// W1 alternate gate and up, and swiglu(g, u) = (u' + 1) g' sigmoid(1.702 g') of
// g' = min(g, limit), u' = min(max(u, -limit), limit).
struct MoeArgs {
  int num_tokens;                      // T, at most kMaxMoeTokens
  int num_experts, experts_per_token;  // SupportsExperts()
  // Packed (pack.h), that of expert 0; the others follow it.
  WeightMatrix gate_up;          // [2 * intermediate, hidden]
  WeightMatrix down;             // [hidden, intermediate]
  const uint16_t* gate_up_bias;  // [experts, 2 * intermediate] bf16
  const uint16_t* down_bias;     // [experts, hidden] bf16
  float limit;
  Rows normed;  // [T, hidden]
  ExpertLists lists;
  const float* weights;  // [T, experts_per_token]
  void* scratch;         // MoeScratchBytes(), aligned to 16 bytes
  float* x;              // [T, hidden], aligned to 16 bytes
  NextNorm next_norm;    // of x, then
  MoeKernel kernel = MoeKernel::kAuto;
};
void Moe(const MoeArgs& args, Stream stream);

int64_t MoeScratchBytes(int num_tokens, int experts_per_token, int64_t hidden,
                        int64_t intermediate);

}  // namespace motet::cuda
