// Sorting pairs by expert (experts.h), by the threads of one block: a counting sort in which every
// warp has a run of pairs, so that it is stable, and the same each time.
#pragma once

#include "cuda/kernels/experts.h"
#include "cuda/primitives.h"

namespace motet::cuda {

constexpr int kGroupThreads = 1024;
constexpr int kGroupWarps = kGroupThreads / kWarpSize;

struct GroupSpace {
  static constexpr uint8_t kNoExpert = 0xFF;

  // Then where the warp's next pair of an expert goes. One more, for columns to be read at once.
  int32_t counts[kGroupWarps][kMaxExperts + 1];
  int32_t totals[kMaxExperts];
  uint8_t experts[kMaxMoeTokens * kMaxExpertsPerToken];  // of each choice
};

// The sum of x in the lanes before this one; `total` of all.
__device__ __forceinline__ int SumBefore(int x, int& total) {
  int sum = x;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const int other = ShuffleUp(sum, distance);
    if (LaneIndex() >= distance) sum += other;
  }
  total = Shuffle(sum, kWarpSize - 1);
  return sum - x;
}

struct GroupPlan {
  GroupByExpertArgs args;
  int tile_tokens;
  int max_tiles;
  uint32_t over_k;  // 2^17 / experts_per_token

  // A division would be many instructions. Exact: the product is too large by less than `choice`,
  // which is below 2^14.
  __device__ __forceinline__ int TokenOf(int choice) const {
    return static_cast<int>(static_cast<uint32_t>(choice) * over_k >> 17);
  }
};

inline GroupPlan PlanOf(const GroupByExpertArgs& a) {
  const auto k = static_cast<uint32_t>(a.experts_per_token);
  return {a, MoeTileTokens(a.num_tokens),
          static_cast<int>(MaxExpertTiles(a.num_tokens, a.num_experts, a.experts_per_token)),
          ((1u << 17) + k - 1) / k};
}

// By all threads of a block of kGroupThreads.
__device__ __forceinline__ void Group(const GroupPlan& plan, GroupSpace& space) {
  const GroupByExpertArgs& a = plan.args;
  const int lane = LaneIndex(), warp = WarpIndex();
  const int experts = (a.num_experts + kWarpSize - 1) / kWarpSize * kWarpSize;
  const int k = a.experts_per_token, pairs = a.num_tokens * k;
  for (int token = static_cast<int>(threadIdx.x); token < a.num_tokens; token += kGroupThreads) {
    // All under way at once.
    const bool there = LoadFresh(a.slots + token) >= 0;
    int chosen[kMaxExpertsPerToken];
#pragma unroll
    for (int j = 0; j < kMaxExpertsPerToken; ++j) {
      chosen[j] = j < k ? LoadFresh(a.experts + token * k + j) : 0;
    }
#pragma unroll
    for (int j = 0; j < kMaxExpertsPerToken; ++j) {
      if (j >= k) break;
      space.experts[token * k + j] =
          there ? static_cast<uint8_t>(chosen[j]) : GroupSpace::kNoExpert;
    }
  }
  __syncthreads();

  const int rounds = (pairs + kGroupThreads - 1) / kGroupThreads;
  const int warps = (pairs + rounds * kWarpSize - 1) / (rounds * kWarpSize);  // that have pairs

  // Calls body(choice, expert or -1, lanes of the same expert) for the warp's pairs in order.
  const auto for_pairs = [&](const auto& body) {
    for (int round = 0; round < rounds; ++round) {
      const int choice = (warp * rounds + round) * kWarpSize + lane;
      const int known = choice < pairs ? space.experts[choice] : GroupSpace::kNoExpert;
      const int expert = known == GroupSpace::kNoExpert ? -1 : known;
      uint32_t same = Ballot(expert >= 0);
#pragma unroll
      for (int bit = 1; bit < kMaxExperts; bit *= 2) {
        if (bit >= experts) break;
        const bool set = expert & bit;
        const uint32_t lanes = Ballot(set);
        same &= set ? lanes : ~lanes;
      }
      body(choice, expert, same);
      SyncWarp();
    }
  };
  const uint32_t lanes_before = (1u << lane) - 1;

  if (warp < warps) {
    for (int e = lane; e < experts; e += kWarpSize) space.counts[warp][e] = 0;
    SyncWarp();
    for_pairs([&](int, int expert, uint32_t same) {
      if (expert >= 0 && (same & lanes_before) == 0) {
        space.counts[warp][expert] += CountBits(same);
      }
    });
  }
  __syncthreads();
  static_assert(kGroupWarps == kWarpSize);  // a lane has the counts of a warp
#pragma unroll
  for (int i = 0; i < kMaxExperts / kGroupWarps; ++i) {
    const int e = i * kGroupWarps + warp;
    if (e >= experts) break;
    int total;
    const int before = SumBefore(lane < warps ? space.counts[lane][e] : 0, total);
    if (lane < warps) space.counts[lane][e] = before;
    if (lane == 0) space.totals[e] = total;
  }
  __syncthreads();

  // Every warp finds where the experts' pairs begin; the first one also writes the tiles.
  int first_pair = 0, first_tile = 0;  // of the next experts
#pragma unroll
  for (int base = 0; base < kMaxExperts; base += kWarpSize) {
    if (base >= experts) break;
    const int e = base + lane, count = space.totals[e];
    int all_pairs, all_tiles;
    const int begin = first_pair + SumBefore(count, all_pairs);
    const int tiles = (count + plan.tile_tokens - 1) / plan.tile_tokens;
    const int tile = first_tile + SumBefore(tiles, all_tiles);
    if (warp < warps) space.counts[warp][e] += begin;
    if (warp == 0) {
      for (int i = 0; i < tiles; ++i) {
        const int done = i * plan.tile_tokens, rest = count - done;
        a.lists.tiles[tile + i] = {e, begin + done,
                                   rest < plan.tile_tokens ? rest : plan.tile_tokens, 0};
      }
    }
    first_pair += all_pairs;
    first_tile += all_tiles;
  }
  if (warp == 0) {
    for (int i = first_tile + lane; i < plan.max_tiles; i += kWarpSize) {
      a.lists.tiles[i] = {0, 0, 0, 0};
    }
    SyncWarp();
    if (lane == 0) a.lists.tiles[0].used = first_tile;
  }
  if (warp >= warps) return;
  SyncWarp();
  for_pairs([&](int choice, int expert, uint32_t same) {
    if (expert >= 0) {
      const int pair = space.counts[warp][expert] + CountBits(same & lanes_before);
      a.lists.pair_token[pair] = plan.TokenOf(choice);
      a.lists.pair_of_choice[choice] = pair;
    } else if (choice < pairs) {
      a.lists.pair_of_choice[choice] = -1;
    }
    SyncWarp();
    if (expert >= 0 && (same & lanes_before) == 0) {
      space.counts[warp][expert] += CountBits(same);
    }
  });
}

}  // namespace motet::cuda
