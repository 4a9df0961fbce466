// Sorting pairs by expert (experts.h), by the threads of one block: a counting sort in which every
// warp has a run of pairs, so that it is stable, and the same each time.
#pragma once

#include "cuda/kernels/experts.h"
#include "cuda/primitives.h"

namespace motet::cuda {

constexpr int kGroupThreads = 1024;
constexpr int kGroupWarps = kGroupThreads / kWarpSize;

struct GroupSpace {
  int32_t counts[kGroupWarps][kMaxExperts];  // then where the warp's next pair of an expert goes
  int32_t totals[kMaxExperts];
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
};

inline GroupPlan PlanOf(const GroupByExpertArgs& a) {
  return {a, MoeTileTokens(a.num_tokens),
          static_cast<int>(MaxExpertTiles(a.num_tokens, a.num_experts, a.experts_per_token))};
}

// By all threads of a block of kGroupThreads, after __syncthreads() if it wrote `experts` itself.
__device__ __forceinline__ void Group(const GroupPlan& plan, GroupSpace& space) {
  const GroupByExpertArgs& a = plan.args;
  const int lane = LaneIndex(), warp = WarpIndex();
  const int k = a.experts_per_token, pairs = a.num_tokens * k;
  const int rounds = (pairs + kGroupThreads - 1) / kGroupThreads;
  const int warps = (pairs + rounds * kWarpSize - 1) / (rounds * kWarpSize);  // that have pairs

  // Calls body(choice, expert or -1, lanes of the same expert) for the warp's pairs in order.
  const auto for_pairs = [&](const auto& body) {
    for (int round = 0; round < rounds; ++round) {
      const int choice = (warp * rounds + round) * kWarpSize + lane;
      const bool there = choice < pairs && a.slots[choice / k] >= 0;
      const int expert = there ? a.experts[choice] : -1;
      uint32_t same = Ballot(there);
#pragma unroll
      for (int bit = 1; bit < kMaxExperts; bit *= 2) {
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
    for (int e = lane; e < kMaxExperts; e += kWarpSize) space.counts[warp][e] = 0;
    SyncWarp();
    for_pairs([&](int, int expert, uint32_t same) {
      if (expert >= 0 && (same & lanes_before) == 0) {
        space.counts[warp][expert] += CountBits(same);
      }
    });
  }
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kMaxExperts) {
    int total = 0;
    for (int w = 0; w < warps; ++w) {
      const int count = space.counts[w][thread];
      space.counts[w][thread] = total;
      total += count;
    }
    space.totals[thread] = total;
  }
  __syncthreads();

  // Every warp finds where the experts' pairs begin; the first one also writes the tiles.
  int first_pair = 0, first_tile = 0;  // of the next experts
#pragma unroll
  for (int base = 0; base < kMaxExperts; base += kWarpSize) {
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
      a.lists.pair_token[pair] = choice / k;
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
