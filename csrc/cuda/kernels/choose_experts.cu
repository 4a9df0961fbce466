// The experts of each token and the tokens of each expert, where Route() needs kernels of their own
// for it.
#include "cuda/kernels/choose_experts.h"

#include "cuda/kernels/choose_experts.cuh"
#include "cuda/kernels/group_experts.cuh"
#include "cuda/kernels/last_block.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

// Of a block. Choosing is many instructions: it is shared out among multiprocessors.
constexpr int kChooseTokens = 16;
static_assert(kChooseTokens <= kGroupWarps);

__global__ void __launch_bounds__(kGroupThreads) GroupKernel(GroupPlan plan) {
  __shared__ GroupSpace space;
  WaitForInputs();
  LetNextStart();
  Group(plan, space);
}

// The block that is the last to have chosen does what GroupKernel does.
__global__ void __launch_bounds__(kGroupThreads)
    ChooseAndGroupKernel(ChooseExpertsArgs a, GroupPlan plan) {
  __shared__ GroupSpace space;
  __shared__ unsigned answer;
  const int token = static_cast<int>(blockIdx.x) * kChooseTokens + WarpIndex();
  WaitForInputs();
  LetNextStart();
  if (WarpIndex() < kChooseTokens && token < a.group.num_tokens) {
    LaneLogits logits;
    logits.Load(a, token);
    ChooseExperts(a, token, logits);
  }
  if (IsLastBlock(a.ticket, gridDim.x, answer)) Group(plan, space);
}

}  // namespace

void GroupByExpert(const GroupByExpertArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  Launch(GroupKernel, {dim3(1), kGroupThreads}, static_cast<cudaStream_t>(stream), PlanOf(args));
}

void ChooseExpertsAndGroup(const ChooseExpertsArgs& args, Stream stream) {
  const int tokens = args.group.num_tokens;
  if (tokens == 0) return;
  Launch(ChooseAndGroupKernel,
         {dim3(static_cast<unsigned>((tokens + kChooseTokens - 1) / kChooseTokens)), kGroupThreads},
         static_cast<cudaStream_t>(stream), args, PlanOf(args.group));
}

}  // namespace motet::cuda
