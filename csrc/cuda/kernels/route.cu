#include "cuda/kernels/route.h"

#include <algorithm>

#include "cuda/kernels/group_few.cuh"
#include "cuda/kernels/row.cuh"
#include "cuda/launch.h"

namespace motet::cuda {
namespace {

constexpr int kExperts = 4;         // whose products a block forms at a time
constexpr int kManyTokens = 4;      // of a block, where there are enough blocks all the same
constexpr int kEnoughBlocks = 256;  // about two a multiprocessor

// Of kCount values in each lane, sums over the lanes, formed as WarpSum does: that of value
// i * kCount / kWarpSize in lane i.
template <int kCount, int kMask = kWarpSize / 2, int kAll>
__device__ __forceinline__ float WarpSums(float (&values)[kAll]) {
  constexpr int kHalf = kCount / 2;
  if constexpr (kHalf > 0) {
    const bool upper = LaneIndex() & kMask;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float mine = upper ? values[i + kHalf] : values[i];
      const float others = upper ? values[i] : values[i + kHalf];
      values[i] = Add(mine, ShuffleXor(others, kMask));
    }
  } else {
    values[0] = Add(values[0], ShuffleXor(values[0], kMask));
  }
  if constexpr (kMask > 1) return WarpSums<kHalf, kMask / 2>(values);
  return values[0];
}

struct RoutePlan {
  int groups;          // of kExperts experts, that a block takes one after the other
  float inverse_size;  // 1 / hidden
  GroupPlan group;
};

// kSimple: rows are (row.cuh), and the number of experts is a multiple of kExperts.
//
// A block has kTokens tokens and plan.groups * kExperts experts. The sums have the same bits
// whatever the block's shape. Blocks of the first experts store the tokens' norms.
//
// Up to kFewRouted tokens, the block that is the last to have its logits chooses the experts.
template <int kTokens, bool kSimple>
__global__ void __launch_bounds__(kRowThreads, 2) LogitsKernel(RouteArgs a, RoutePlan plan) {
  constexpr int kValues = kTokens * kExperts;
  static_assert(kValues <= kWarpSize);
  __shared__ float squares[kTokens][kRowWarps];
  __shared__ float products[2][kValues][kRowWarps + 1];  // one more for other banks
  __shared__ GroupFewSpace space;
  __shared__ bool is_last;
  const int thread = static_cast<int>(threadIdx.x), lane = LaneIndex(), warp = WarpIndex();
  const int first_token = static_cast<int>(blockIdx.x) * kTokens, first_column = 4 * thread;
  const int first_group = static_cast<int>(blockIdx.y) * plan.groups;
  // Of the block's logits, this thread's, if it has one.
  const int my_token = first_token + thread / kExperts, my_expert = thread % kExperts;
  const bool few = a.num_tokens <= kFewRouted;

  // Weights don't change: those of the first experts are under way before the inputs are there.
  uint2 norm[kHeldSteps], weights[kHeldSteps][kExperts];
  const auto weights_at = [&](int group, int e, int column) {
    int expert = group * kExperts + e;
    if (!kSimple) expert = min(expert, a.num_experts - 1);
    return LoadFour<kSimple>(a.router + int64_t{expert} * a.hidden, column, a.hidden);
  };
  const auto load_weights = [&](int group) {
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
#pragma unroll
      for (int s = 0; s < kHeldSteps; ++s) {
        weights[s][e] = weights_at(group, e, first_column + s * kRowStep);
      }
    }
  };
#pragma unroll
  for (int s = 0; s < kHeldSteps; ++s) {
    norm[s] = LoadFour<kSimple>(a.norm, first_column + s * kRowStep, a.hidden);
  }
  load_weights(first_group);
  const auto bias_at = [&](int group) {
    const int expert = group * kExperts + my_expert;
    return thread < kValues && expert < a.num_experts ? a.router_bias[expert] : uint16_t{0};
  };
  uint16_t bias = bias_at(first_group);
  if (thread < kMaxExperts) space.counts[thread] = 0;
  WaitForInputs();
  LetNextStart();

  const auto x_at = [&](int n, int column) {
    const bool there = first_token + n < a.num_tokens;
    return there ? LoadFour<kSimple>(a.x + int64_t{first_token + n} * a.hidden, column, a.hidden)
                 : make_float4(0, 0, 0, 0);
  };
  float4 x[kTokens][kHeldSteps];  // then times the norm's weights; the scale comes last
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
#pragma unroll
    for (int s = 0; s < kHeldSteps; ++s) x[n][s] = x_at(n, first_column + s * kRowStep);
  }
#pragma unroll
  for (int n = 0; n < kTokens; ++n) {
    float sum = 0;
#pragma unroll
    for (int s = 0; s < kHeldSteps; ++s) {
      sum = AddProducts(x[n][s], x[n][s], sum);
      x[n][s] = Multiply(x[n][s], Bf16Values(norm[s]));
    }
    ForRest<kSimple>(a.hidden, [&](int c) {
      const float4 rest = x_at(n, c);
      sum = AddProducts(rest, rest, sum);
    });
    sum = WarpSum(sum);
    if (lane == 0) squares[n][warp] = sum;
  }

#pragma unroll 1
  for (int g = 0; g < plan.groups; ++g) {
    const int group = first_group + g;
    float sums[kValues] = {};
#pragma unroll
    for (int s = 0; s < kHeldSteps; ++s) {
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
        const float4 w = Bf16Values(weights[s][e]);
#pragma unroll
        for (int n = 0; n < kTokens; ++n) {
          sums[n * kExperts + e] = AddProducts(x[n][s], w, sums[n * kExperts + e]);
        }
      }
    }
    if (g + 1 < plan.groups) load_weights(group + 1);
    ForRest<kSimple>(a.hidden, [&](int c) {
      const float4 norms = Bf16Values(LoadFour<kSimple>(a.norm, c, a.hidden));
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
        const float4 w = Bf16Values(weights_at(group, e, c));
#pragma unroll
        for (int n = 0; n < kTokens; ++n) {
          sums[n * kExperts + e] =
              AddProducts(Multiply(x_at(n, c), norms), w, sums[n * kExperts + e]);
        }
      }
    });
    const float sum = WarpSums<kValues>(sums);
    constexpr int kLanes = kWarpSize / kValues;  // that have the same sum
    auto& of_warps = products[g % 2];
    if (lane % kLanes == 0) of_warps[lane / kLanes][warp] = sum;
    __syncthreads();
    const int expert = group * kExperts + my_expert;
    if (thread < kValues && my_token < a.num_tokens && expert < a.num_experts) {
      a.logits[int64_t{my_token} * a.num_experts + expert] =
          fmaf(SumOfWarps(of_warps[thread]),
               NormScale(squares[thread / kExperts], plan.inverse_size, a.eps), Bf16Value(bias));
    }
    bias = bias_at(group + 1);
  }

  // The first warp has stored all of the block's logits.
  bool last = false;
  if (few && warp == 0) {
    SyncWarp();
    if (lane == 0) last = IsLastTicket(a.ticket, gridDim.x * gridDim.y);
  }
  if (blockIdx.y == 0) {
#pragma unroll
    for (int n = 0; n < kTokens; ++n) {
      if (first_token + n >= a.num_tokens) break;
      const float scale = NormScale(squares[n], plan.inverse_size, a.eps);
      const auto store = [&](int c, const float4& values) {
        if (c < a.normed.stride) {
          StoreFour(a.normed, first_token + n, c, Multiply(values, scale));
        }
      };
#pragma unroll
      for (int s = 0; s < kHeldSteps; ++s) store(first_column + s * kRowStep, x[n][s]);
      ForRest<kSimple>(a.normed.stride, [&](int c) {
        store(c, Multiply(x_at(n, c), Bf16Values(LoadFour<kSimple>(a.norm, c, a.hidden))));
      });
    }
  }
  if (!few) return;
  if (thread == 0) is_last = last;
  __syncthreads();
  if (!is_last) return;
  ChooseAndGroupFew({a.logits, a.experts, a.weights, a.ticket, plan.group.args}, plan.group, space);
}

template <int kTokens, bool kSimple>
void LaunchLogits(const RouteArgs& a, const GroupPlan& group, cudaStream_t stream) {
  const int tiles = (a.num_tokens + kTokens - 1) / kTokens;
  const int all = (a.num_experts + kExperts - 1) / kExperts;
  const int most = std::min(all, (kEnoughBlocks + tiles - 1) / tiles);  // blocks a tile
  const int groups = (all + most - 1) / most;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>((all + groups - 1) / groups));
  Launch(LogitsKernel<kTokens, kSimple>, {grid, kRowThreads}, stream, a,
         RoutePlan{groups, 1.0f / static_cast<float>(a.hidden), group});
}

}  // namespace

void Route(const RouteArgs& args, Stream stream) {
  if (args.num_tokens == 0) return;
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  const ChooseExpertsArgs choose{args.logits,
                                 args.experts,
                                 args.weights,
                                 args.ticket,
                                 {args.num_tokens, args.slots, args.experts, args.num_experts,
                                  args.experts_per_token, args.lists}};
  const GroupPlan group = PlanOf(choose.group);
  if (!IsSimpleRow(args.hidden) || args.num_experts % kExperts != 0) {
    LaunchLogits<1, false>(args, group, cuda_stream);
  } else if (args.num_tokens * args.num_experts <= kEnoughBlocks * kExperts) {
    LaunchLogits<1, true>(args, group, cuda_stream);
  } else {
    LaunchLogits<kManyTokens, true>(args, group, cuda_stream);
  }
  if (args.num_tokens > kFewRouted) ChooseExpertsAndGroup(choose, stream);
}

}  // namespace motet::cuda
