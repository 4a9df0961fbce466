// The experts of a token, from the router's logits, by one warp.
#pragma once

#include "cuda/kernels/choose_experts.h"
#include "cuda/primitives.h"

namespace motet::cuda {

// A token's logits: a lane has those of the experts 32 i + lane.
struct LaneLogits {
  static constexpr int kCount = kMaxExperts / kWarpSize;
  float of[kCount];

  // If there is such a token.
  __device__ __forceinline__ void Load(const ChooseExpertsArgs& a, int token) {
    const int experts = token < a.group.num_tokens ? a.group.num_experts : 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int expert = i * kWarpSize + LaneIndex();
      of[i] = expert < experts ? LoadFresh(a.logits + int64_t{token} * experts + expert) : 0.0f;
    }
  }
};

// ChooseExperts() among up to 32 kCount experts.
template <int kCount>
__device__ __forceinline__ int ChooseAmong(const ChooseExpertsArgs& a, int token,
                                           const LaneLogits& logits) {
  const int k = a.group.experts_per_token, lane = LaneIndex();
  uint32_t order[kCount];  // compares as the logits do
  uint32_t left = 0;       // bit i: expert 32 i + lane can be chosen
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (i * kWarpSize + lane < a.group.num_experts) left |= 1u << i;
    const uint32_t bits = FloatToBits(Add(logits.of[i], 0.0f));  // no -0
    order[i] = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  }
  float largest = 0, sum = 0, mine = 0;
  int choice = 0;
#pragma unroll 1  // less code to fetch
  for (int j = 0; j < k; ++j) {
    uint32_t best = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) best = left >> i & 1 && order[i] > best ? order[i] : best;
    best = WarpMax(best);
    uint32_t expert = kMaxExperts;
#pragma unroll
    for (int i = kCount - 1; i >= 0; --i) {
      if (left >> i & 1 && order[i] == best) expert = static_cast<uint32_t>(i * kWarpSize + lane);
    }
    expert = WarpMin(expert);
    if (expert % kWarpSize == static_cast<uint32_t>(lane)) left &= ~(1u << expert / kWarpSize);
    const float logit = BitsToFloat(best & 0x80000000u ? best & 0x7FFFFFFFu : ~best);
    if (j == 0) largest = logit;
    const float weight = expf(Add(logit, -largest));
    sum = Add(sum, weight);
    if (lane == j) {
      mine = weight;
      choice = static_cast<int>(expert);
    }
  }
  if (lane < k) {
    a.experts[token * k + lane] = choice;
    a.weights[token * k + lane] = mine / sum;
  }
  return choice;
}

// Stores the choices, by logit, then lower index, and their weights. Every choice is an expert,
// whatever the logits are. Lane j gets choice j.
__device__ __forceinline__ int ChooseExperts(const ChooseExpertsArgs& a, int token,
                                             const LaneLogits& logits) {
  return a.group.num_experts <= kWarpSize ? ChooseAmong<1>(a, token, logits)
                                          : ChooseAmong<LaneLogits::kCount>(a, token, logits);
}

}  // namespace motet::cuda
