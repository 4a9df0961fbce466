// Products for many tokens on Hopper: warpgroup mma, whose tensor cores are half as fast again as
// mma.sync finds them, and take tokens from shared memory by themselves. A block has a row tile a
// warp, 128 rows, and up to 64 tokens. Weights are decoded into registers, one block of 32 columns
// while the one before is multiplied. The order of sums is that of dense_tile.cuh, the bits those
// of MmaF16.
#pragma once

#include "cuda/kernels/dense_tile.cuh"

namespace motet::cuda {

inline constexpr int kWideWarps = 8, kWideThreads = kWideWarps * kWarpSize;
inline constexpr int kWideRows = kWideWarps * kTileRows;

// Shared memory is two stages of kSteps steps: one is multiplied while the other comes. Only when
// nothing is on its way is the fence before products of warpgroups free: it waits for all copies of
// a thread. So stages are long, and their copies start together. Tokens of all steps come first,
// then weights of all steps.
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
  constexpr int kCopies = kTokens / kWideWarps, kVectors = Tile::kBytes / 16;
  const int lane = LaneIndex(), warp = WarpIndex();
  char* const tokens = WideSharedMemory();
  char* const weights = tokens + Stages::kWeightsAt + warp * Tile::kBytes;

  // A warp copies a token's 128 bytes at once, a word a lane. Operand A of a step of 16 columns has
  // columns 8t + 4h + 2j (dense_tile.cuh, mxfp4.cuh) where B has 16h + 2t + 8j: words t of chunk
  // 2h + j.
  const int chunk = lane / 16 * 4 + lane % 4, word = lane / 4 % 4;
  char* const to = tokens + warp * Stages::kTokenBytes + 16 * (chunk ^ warp) + 4 * word;
  static_assert(kWideWarps == 8);  // so that a warp's tokens are all `warp` modulo 8
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
  uint32_t at[kCopies];  // bytes; unsigned numbers of 32 bits cost least to add to an address
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    at[i] = 2 * static_cast<uint32_t>(token_at(warp + kWideWarps * i)) + 4 * lane;
  }
  const auto copy_tokens = [&](int step, int place) {
    const char* columns = reinterpret_cast<const char*>(in) + step * Stages::kTokenBytes;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      CopyAsync4(to + (place * kTokens + i * kWideWarps) * Stages::kTokenBytes, columns + at[i]);
    }
  };
#pragma unroll
  for (int s = 0; s < Stages::kSteps; ++s) {
    if (s < steps) copy_tokens(s, s);
  }
  CopyCommit();

  float acc[kTokens / 8][4] = {};
  bool accumulate = false;
  const auto end_of_segment = [&](int step) {
    return SegmentBegin(steps, (kSegments * (step + 1) + steps - 1) / steps);
  };
  int segment_end = end_of_segment(0), place = 0;
  // Of both blocks of 32 columns: one is decoded while the one before is multiplied.
  uint32_t a[2][2][4] = {};
#pragma unroll 1
  for (int first = 0; first < steps; first += Stages::kSteps) {
    CopyWait<0>();
    FenceForWarpgroup();
    __syncthreads();  // the stage has come for all, and all are done with the one before
    const int next_place = Stages::kSteps - place, end = min(first + Stages::kSteps, steps);
#pragma unroll
    for (int s = 0; s < Stages::kSteps; ++s) {
      if (end + s >= steps) break;
      copy_tokens(end + s, next_place + s);
      copy_weights(end + s, next_place + s);
    }
    CopyCommit();
#pragma unroll 1
    for (int step = first; step < end; ++step, ++place) {
      const auto* step_weights =
          reinterpret_cast<const uint8_t*>(weights + place * Stages::kStepWeights);
      const char* step_tokens = tokens + place * Stages::kStepTokens;
#pragma unroll
      for (int block = 0; block < 2; ++block) {
        const auto decoded = Tile::LoadShared(step_weights).Decode(block);
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
        KeepOperands(a[1 - block]);
      }
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
    KeepOperands(a[1]);
    place = next_place;
  }
  CopyWait<0>();
}

#endif

}  // namespace motet::cuda
