// Which tokens each expert is given, on the device.
//
// A pair is a token and one of its chosen experts. Pairs are in order of experts, and within one,
// of tokens; an expert's pairs are cut into tiles of at most so many. Grids can't depend on data,
// so there is room for as many tiles as there can be; those that are not used have no pairs.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/memory.h"

namespace motet::cuda {

// Products for so many tokens go by the kernel that is made for few tokens an expert.
inline constexpr int kFewMoeTokens = 32;
inline constexpr int kFewTileTokens = 16;  // of a tile there
inline constexpr int kManyMoeTokens = 64;  // of a tile otherwise
inline constexpr int kMaxExperts = 128;
inline constexpr int kMaxExpertsPerToken = 4;
inline constexpr int kMaxMoeTokens = 4096;

constexpr bool SupportsExperts(int64_t experts, int64_t experts_per_token) {
  return experts <= kMaxExperts && experts_per_token <= kMaxExpertsPerToken;
}

struct alignas(16) ExpertTile {
  int32_t expert;
  int32_t first;  // pair
  int32_t count;  // 0: not used
  int32_t used;   // of the first tile: how many tiles are used
};

struct ExpertLists {
  ExpertTile* tiles;        // [MaxExpertTiles()], the used ones first
  int32_t* pair_token;      // [T * experts_per_token]
  int32_t* pair_of_choice;  // [T, experts_per_token], -1 for tokens that are not there
};

constexpr bool AreFewMoeTokens(int num_tokens) { return num_tokens <= kFewMoeTokens; }

constexpr int MoeTileTokens(int num_tokens) {
  return AreFewMoeTokens(num_tokens) ? kFewTileTokens : kManyMoeTokens;
}

constexpr int64_t MaxExpertTiles(int num_tokens, int64_t experts, int64_t experts_per_token) {
  const int64_t pairs = num_tokens * experts_per_token;
  const int64_t used = std::min(experts, pairs);
  const int tile_tokens = MoeTileTokens(num_tokens);
  return num_tokens <= tile_tokens ? used : used + pairs / tile_tokens;
}

// Also for fewer tokens.
constexpr int64_t ExpertListsBytes(int num_tokens, int64_t experts, int64_t experts_per_token) {
  const int64_t tiles =
      std::max(MaxExpertTiles(num_tokens, experts, experts_per_token),
               MaxExpertTiles(std::min(num_tokens, kFewMoeTokens), experts, experts_per_token));
  return tiles * static_cast<int64_t>(sizeof(ExpertTile)) +
         num_tokens * experts_per_token * 2 * static_cast<int64_t>(sizeof(int32_t));
}

// In `memory` of ExpertListsBytes(...), aligned to 16 bytes.
inline ExpertLists ExpertListsIn(void* memory, int num_tokens, int64_t experts,
                                 int64_t experts_per_token) {
  auto* tiles = static_cast<ExpertTile*>(memory);
  auto* pairs =
      reinterpret_cast<int32_t*>(tiles + MaxExpertTiles(num_tokens, experts, experts_per_token));
  return {tiles, pairs, pairs + num_tokens * experts_per_token};
}

struct GroupByExpertArgs {
  int num_tokens;          // T, at most kMaxMoeTokens
  const int32_t* slots;    // [T], below 0: the token is not there
  const int32_t* experts;  // [T, experts_per_token]
  int num_experts, experts_per_token;
  ExpertLists lists;
};
void GroupByExpert(const GroupByExpertArgs& args, Stream stream);

}  // namespace motet::cuda
