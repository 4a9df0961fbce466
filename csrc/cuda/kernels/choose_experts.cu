// The experts of each token, from the router's logits, and the tokens of each expert.
#include "cuda/kernels/choose_experts.h"

#include "cuda/kernels/group_experts.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

constexpr int kChooseThreads = 256;
constexpr int kOneBlockTokens = 128;  // up to so many, one block does it all

// By one warp. Every choice is an expert, whatever the logits are. Also into `copy`, if not null.
__device__ __forceinline__ void ChooseExperts(const ChooseExpertsArgs& a, int token,
                                              int32_t* copy) {
  constexpr int kPerLane = kMaxExperts / kWarpSize;
  const GroupByExpertArgs& group = a.group;
  // Keys of the same order as (logit, lower index), 0 for what is taken.
  uint64_t keys[kPerLane];
  float logits[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = i * kWarpSize + LaneIndex();
    keys[i] = 0;
    logits[i] = 0;
    if (expert >= group.num_experts) continue;
    logits[i] = Add(a.logits[int64_t{token} * group.num_experts + expert], 0.0f);  // no -0
    const uint32_t bits = FloatToBits(logits[i]);
    const uint32_t order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    keys[i] = uint64_t{order} << 32 | static_cast<uint32_t>(~expert);
  }
  float largest = 0, sum = 0, mine = 0;
  for (int j = 0; j < group.experts_per_token; ++j) {
    uint64_t best = keys[0];
#pragma unroll
    for (int i = 1; i < kPerLane; ++i) best = keys[i] > best ? keys[i] : best;
#pragma unroll
    for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
      const uint64_t other = ShuffleXor(best, mask);
      best = other > best ? other : best;
    }
    const auto expert = static_cast<int>(~static_cast<uint32_t>(best));
    const auto order = static_cast<uint32_t>(best >> 32);
    const float logit = BitsToFloat(order & 0x80000000u ? order & 0x7FFFFFFFu : ~order);
    if (j == 0) largest = logit;
    const float weight = expf(Add(logit, -largest));
    sum = Add(sum, weight);
    if (LaneIndex() == j) {
      mine = weight;
      a.experts[token * group.experts_per_token + j] = expert;
      if (copy) copy[token * group.experts_per_token + j] = expert;
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (i * kWarpSize + LaneIndex() == expert) keys[i] = 0;
    }
  }
  if (LaneIndex() < group.experts_per_token) {
    a.weights[token * group.experts_per_token + LaneIndex()] = mine / sum;
  }
}

__global__ void __launch_bounds__(kChooseThreads) ChooseKernel(ChooseExpertsArgs a) {
  WaitForInputs();
  LetNextStart();
  const int token = static_cast<int>(blockIdx.x) * (kChooseThreads / kWarpSize) + WarpIndex();
  if (token < a.group.num_tokens) ChooseExperts(a, token, nullptr);
}

__global__ void __launch_bounds__(kGroupThreads) GroupKernel(GroupPlan plan) {
  __shared__ GroupSpace space;
  WaitForInputs();
  LetNextStart();
  Group(plan, space);
}

__global__ void __launch_bounds__(kGroupThreads)
    ChooseAndGroupKernel(ChooseExpertsArgs a, GroupPlan plan) {
  __shared__ GroupSpace space;
  __shared__ int32_t experts[kOneBlockTokens * kMaxExpertsPerToken];  // nearer than a.experts
  WaitForInputs();
  LetNextStart();
  for (int token = WarpIndex(); token < plan.args.num_tokens; token += kGroupWarps) {
    ChooseExperts(a, token, experts);
  }
  plan.args.experts = experts;
  __syncthreads();
  Group(plan, space);
}

}  // namespace

void GroupByExpert(const GroupByExpertArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  Launch(GroupKernel, {dim3(1), kGroupThreads}, static_cast<cudaStream_t>(stream), PlanOf(args));
}

void ChooseExpertsAndGroup(const ChooseExpertsArgs& args, Stream stream) {
  const int tokens = args.group.num_tokens;
  if (tokens == 0) return;
  if (tokens <= kOneBlockTokens) {
    Launch(ChooseAndGroupKernel, {dim3(1), kGroupThreads}, static_cast<cudaStream_t>(stream), args,
           PlanOf(args.group));
    return;
  }
  constexpr int kTokens = kChooseThreads / kWarpSize;
  Launch(ChooseKernel,
         {dim3(static_cast<unsigned>((tokens + kTokens - 1) / kTokens)), kChooseThreads},
         static_cast<cudaStream_t>(stream), args);
  GroupByExpert(args.group, stream);
}

}  // namespace motet::cuda
