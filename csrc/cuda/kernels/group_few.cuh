// The end of Route() for few tokens, by one block: the experts of each token, and, since there are
// few pairs, a pair's place by comparing it with all the others.
#pragma once

#include "cuda/kernels/choose_experts.cuh"
#include "cuda/kernels/group_experts.cuh"
#include "cuda/kernels/row.cuh"

namespace motet::cuda {

constexpr int kFewRouted = 32;  // tokens
constexpr int kFewPairs = kFewRouted * kMaxExpertsPerToken;
// An expert's tokens are one tile or two, and threads are as many as tiles can be.
static_assert(kFewRouted <= kFewMoeTokens && kFewRouted <= 2 * kFewTileTokens);
static_assert(MaxExpertTiles(kFewRouted, kMaxExperts, kMaxExpertsPerToken) <= kRowThreads);

struct GroupFewSpace {
  // Of each choice: expert, or kMaxExperts where the token is not there, and choice. In the order
  // of pairs.
  static constexpr int kChoiceBits = 8;
  alignas(16) uint32_t keys[kFewPairs];
  int32_t counts[kMaxExperts];  // of pairs; zeros at first
};
static_assert(kFewPairs <= 1 << GroupFewSpace::kChoiceBits);

// By all threads of a block of kRowThreads.
__device__ __forceinline__ void ChooseAndGroupFew(const ChooseExpertsArgs& a, const GroupPlan& plan,
                                                  GroupFewSpace& space) {
  const GroupByExpertArgs& group = plan.args;
  const int k = group.experts_per_token, pairs = group.num_tokens * k;
  const int thread = static_cast<int>(threadIdx.x), lane = LaneIndex();
  LaneLogits next;
  next.Load(a, WarpIndex());
#pragma unroll 1
  for (int token = WarpIndex(); token < group.num_tokens; token += kRowWarps) {
    const LaneLogits logits = next;
    next.Load(a, token + kRowWarps);
    const bool there = group.slots[token] >= 0;
    const int expert = ChooseExperts(a, token, logits);
    if (lane >= k) continue;
    const int choice = token * k + lane;
    space.keys[choice] =
        static_cast<uint32_t>((there ? expert : kMaxExperts) << GroupFewSpace::kChoiceBits) |
        static_cast<uint32_t>(choice);
    if (there) atomicAdd(&space.counts[expert], 1);
  }
  if (pairs + thread < (pairs + 3) / 4 * 4) space.keys[pairs + thread] = ~0u;
  __syncthreads();

  // Every warp finds which experts have a tile, and which two.
  uint32_t one[LaneLogits::kCount], two[LaneLogits::kCount];
  int num_used = 0;
#pragma unroll
  for (int i = 0; i < LaneLogits::kCount; ++i) {
    const int count = space.counts[i * kWarpSize + lane];
    one[i] = Ballot(count > 0);
    two[i] = Ballot(count > kFewTileTokens);
    num_used += CountBits(one[i]) + CountBits(two[i]);
  }
  if (num_used + thread < plan.max_tiles) group.lists.tiles[num_used + thread] = {0, 0, 0, 0};
  if (thread >= pairs) return;
  const uint32_t key = space.keys[thread];
  const auto expert = static_cast<int>(key >> GroupFewSpace::kChoiceBits);
  const uint32_t first_key = key - static_cast<uint32_t>(thread);  // that the expert could have
  int pair = 0;                                                    // those of lower keys
  bool first_of_expert = true;                                     // that is there
  const auto compare = [&](uint32_t other) {
    pair += other < key ? 1 : 0;
    if (other - first_key < static_cast<uint32_t>(thread)) first_of_expert = false;
  };
#pragma unroll 2
  for (int i = 0; i < pairs; i += 4) {
    const uint4 four = *reinterpret_cast<const uint4*>(space.keys + i);
    compare(four.x), compare(four.y), compare(four.z), compare(four.w);
  }
  if (expert == kMaxExperts) {
    group.lists.pair_of_choice[thread] = -1;
    return;
  }
  group.lists.pair_token[pair] = plan.TokenOf(thread);
  group.lists.pair_of_choice[thread] = pair;
  if (!first_of_expert) return;
  int tile = 0;
#pragma unroll
  for (int i = 0; i < LaneLogits::kCount; ++i) {
    const int lower = expert - i * kWarpSize;  // so many experts of these come before
    const uint32_t mask = lower >= kWarpSize ? ~0u : lower > 0 ? (1u << lower) - 1 : 0u;
    tile += CountBits(one[i] & mask) + CountBits(two[i] & mask);
  }
  const int count = space.counts[expert], rest = count - kFewTileTokens;
  group.lists.tiles[tile] = {expert, pair, min(count, kFewTileTokens), tile == 0 ? num_used : 0};
  if (rest > 0) group.lists.tiles[tile + 1] = {expert, pair + kFewTileTokens, rest, 0};
}

}  // namespace motet::cuda
