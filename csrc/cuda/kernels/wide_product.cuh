// Products for many tokens on Hopper: warpgroup mma, whose tensor cores are half as fast again as
// mma.sync finds them, and take tokens from shared memory by themselves. A block has a row tile a
// warp, 128 rows, and up to 64 tokens. Weights are decoded into registers, one step while the one
// before is multiplied. The order of sums is that of dense_tile.cuh, the bits those of MmaF16.
#pragma once

#include "cuda/kernels/dense_tile.cuh"

namespace motet::cuda {

inline constexpr int kWideWarps = 8, kWideThreads = kWideWarps * kWarpSize;
inline constexpr int kWideRows = kWideWarps * kTileRows;

// Shared memory is two stages of kSteps steps: one is multiplied while the other comes. Only when
// nothing is on its way is the fence before products of warpgroups free: it waits for all copies of
// a thread. So stages are long. Tokens of all steps come first, then weights of all steps.
template <class Tile, int kTokens>
struct WideStages {
  // By shared memory: two blocks of up to 64 tokens share a multiprocessor's.
  static constexpr int kSteps = Tile::kBytes <= 1024 ? 3 : 2;
  static constexpr int kTokenBytes = kStepColumns * 2;
  static constexpr int kStepTokens = kTokens * kTokenBytes;
  static constexpr int kWeightsAt = 2 * kSteps * kStepTokens;
  static constexpr int kStepWeights = kWideWarps * Tile::kBytes;
  static constexpr int kBytes = kWeightsAt + 2 * kSteps * kStepWeights;
};
inline constexpr int kWideAlignment = 1024;  // of tokens; shared memory needs so much more

#ifdef MOTET_HAS_WARPGROUPS

__device__ __forceinline__ char* WideSharedMemory() {
  const auto at = reinterpret_cast<uintptr_t>(SharedMemory());
  return reinterpret_cast<char*>((at + kWideAlignment - 1) / kWideAlignment * kWideAlignment);
}

// `total`, zeros, plus the warp's row tile times the block's tokens. `row` is where the tile's
// weights start; token_at(i) where the row of token i starts in `in`. All must be there. Weights
// are asked for before wait_for_inputs(), tokens after it.
template <class Tile, int kTokens, class TokenAt, class Wait>
__device__ __forceinline__ void WideProduct(const uint4* row, int steps, const uint16_t* in,
                                            const TokenAt& token_at, const Wait& wait_for_inputs,
                                            float (&total)[kTokens / 8][4]) {
  using Stages = WideStages<Tile, kTokens>;
  static_assert(Tile::kWide);
  constexpr int kVectors = Tile::kBytes / 16;
  constexpr int kChunks = kStepColumns / 8, kTokensAtOnce = kWideThreads / kChunks;
  constexpr int kTokenVectors = (kTokens + kTokensAtOnce - 1) / kTokensAtOnce;  // of a thread
  const int lane = LaneIndex(), warp = WarpIndex();
  char* const tokens = WideSharedMemory();
  char* const weights = tokens + Stages::kWeightsAt + warp * Tile::kBytes;

  // Tokens come by registers, eight columns a thread. Operand A of a step of 16 columns has columns
  // 8t + 4h + 2j (dense_tile.cuh, mxfp4.cuh) where B has 16h + 2t + 8j: of chunk t of 32 columns
  // word 2h + j becomes word t of chunk 2h + j. (Asynchronous copies of words took longer than all
  // else.)
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
  const int first_token = static_cast<int>(threadIdx.x) / kChunks;
  static_assert(kTokensAtOnce % 8 == 0);
  const auto store_token = [&](int place, int i, const uint4& v) {
    if (kTokens % kTokensAtOnce != 0 && first_token + i * kTokensAtOnce >= kTokens) return;
    char* const to = tokens + place * Stages::kStepTokens +
                     (first_token + i * kTokensAtOnce) * Stages::kTokenBytes + 4 * (chunk % 4);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const int chunk_of_word = (chunk / 4 * 4 + w) ^ first_token % 8;
      *reinterpret_cast<uint32_t*>(to + 16 * chunk_of_word) = words[w];
    }
  };
  // A step's place is that of its tokens and its weights in shared memory.
  const auto copy_weights = [&](int step, int place) {
    const uint4* from = row + step * kVectors + lane;
    char* const weights_to = weights + place * Stages::kStepWeights + 16 * lane;
#pragma unroll
    for (int i = 0; i < kVectors; i += kWarpSize) {
      if (i + lane < kVectors) CopyAsync16(weights_to + 16 * i, from + i);
    }
  };
#pragma unroll
  for (int s = 0; s < Stages::kSteps; ++s) {
    if (s < steps) copy_weights(s, s);
  }
  wait_for_inputs();
  uint32_t at[kTokenVectors];  // bytes; unsigned numbers of 32 bits cost least to add to an address
#pragma unroll
  for (int i = 0; i < kTokenVectors; ++i) {
    const int token = min(first_token + i * kTokensAtOnce, kTokens - 1);
    at[i] = 2 * static_cast<uint32_t>(token_at(token)) + 16 * chunk;
  }
  const auto load_tokens = [&](int step, uint4(&to)[kTokenVectors]) {
    const char* columns = reinterpret_cast<const char*>(in) + step * Stages::kTokenBytes;
#pragma unroll
    for (int i = 0; i < kTokenVectors; ++i)
      to[i] = *reinterpret_cast<const uint4*>(columns + at[i]);
  };
  const auto store_tokens = [&](int place, const uint4(&from)[kTokenVectors]) {
#pragma unroll
    for (int i = 0; i < kTokenVectors; ++i) store_token(place, i, from[i]);
  };
  {
    uint4 first[Stages::kSteps][kTokenVectors];
#pragma unroll
    for (int s = 0; s < Stages::kSteps; ++s) {
      if (s < steps) load_tokens(s, first[s]);
    }
#pragma unroll
    for (int s = 0; s < Stages::kSteps; ++s) {
      if (s < steps) store_tokens(s, first[s]);
    }
  }
  CopyCommit();

  float acc[kTokens / 8][4] = {};
  bool accumulate = false;
  const auto end_of_segment = [&](int step) {
    return SegmentBegin(steps, (kSegments * (step + 1) + steps - 1) / steps);
  };
  int segment_end = end_of_segment(0), place = 0;
  // Of both blocks of 32 columns: one is decoded while the one before is multiplied.
  uint32_t a[2][2][4];
#pragma unroll 1
  for (int first = 0; first < steps; first += Stages::kSteps) {
    CopyWait<0>();
    FenceForWarpgroup();
    __syncthreads();  // the stage has come for all, and all are done with the one before
    const int next_place = Stages::kSteps - place, end = min(first + Stages::kSteps, steps);
#pragma unroll
    for (int s = 0; s < Stages::kSteps; ++s) {
      if (end + s < steps) copy_weights(end + s, next_place + s);
    }
    CopyCommit();
#pragma unroll 1
    for (int step = first; step < end; ++step, ++place) {
      const Tile tile = Tile::LoadShared(
          reinterpret_cast<const uint8_t*>(weights + place * Stages::kStepWeights));
      const char* step_tokens = tokens + place * Stages::kStepTokens;
      // The same step of the next stage.
      const bool comes = step + Stages::kSteps < steps;
      uint4 coming[kTokenVectors];
      if (comes) load_tokens(step + Stages::kSteps, coming);
#pragma unroll
      for (int block = 0; block < 2; ++block) {
        const auto decoded = tile.Decode(block);
#pragma unroll
        for (int h = 0; h < 2; ++h) decoded.OperandA(h, a[block][h]);
        WarpgroupFence();
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          WarpgroupMmaF16<kTokens>(acc, a[block][h], step_tokens + 64 * block + 32 * h, accumulate);
          accumulate = true;
        }
        WarpgroupCommit();
        WarpgroupWait<1>();
      }
      if (comes) store_tokens(next_place + step - first, coming);
      if (step + 1 < segment_end) continue;
      segment_end = end_of_segment(segment_end);
      accumulate = false;
      WarpgroupWait<0>();
#pragma unroll
      for (int n = 0; n < kTokens / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) total[n][i] = Add(total[n][i], acc[n][i]);
      }
    }
    WarpgroupWait<0>();
    place = next_place;
  }
  CopyWait<0>();
}

#endif

}  // namespace motet::cuda
