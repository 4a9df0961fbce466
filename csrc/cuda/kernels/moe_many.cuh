// Products of the experts for many tokens each. A block has 256 rows of an expert's matrix, 32 a
// warp (int8: half of that), and up to 64 of its tokens: weights are decoded once for all of these,
// and tokens come through shared memory for all of those. Both arrive by asynchronous copies, steps
// ahead. (With half the rows, neither shared memory nor the second-level cache keeps up with tensor
// cores.)
#pragma once

#include "cuda/kernels/moe_store.cuh"

namespace motet::cuda {

template <class Tile>
struct ManyStage {
  static constexpr int kWarps = kMoeThreads / kWarpSize;
  static constexpr int kRows = kWarps * Tile::kWarpTiles * kTileRows;  // of the block
  static constexpr int kTokenBytes = kStepColumns * 2;
  static constexpr int kWeightsAt = kManyMoeTokens * kTokenBytes;
  static constexpr int kWarpBytes = Tile::kWarpTiles * Tile::kBytes;
  static constexpr int kBytes = kWeightsAt + kWarps * kWarpBytes;
  static constexpr int kAllBytes = Tile::kStages * kBytes;
  static_assert(kManyMoeTokens * kSumStride<kRows> * 4 <= kAllBytes);
};

// Where a token's chunk of 16 bytes lies: halves of 64 bytes change places in odd tokens, so that
// the lanes of a warp, four chunks of eight tokens, are in different banks.
constexpr __device__ __forceinline__ int ChunkAt(int token, int chunk) {
  return token * (kStepColumns * 2) + 16 * (chunk ^ (token % 2 * 4));
}

// Adds the products of the block's rows and 8 * kTokenTiles tokens, which are as many as the work
// has or more, to `total`, zeros. `tile_row` is the warp's first, which must be there.
template <class Tile, int kTokenTiles>
__device__ __forceinline__ void ManyProduct(const ExpertProduct& p, const ExpertTile& work,
                                            int tile_row,
                                            float (&total)[Tile::kWarpTiles][kTokenTiles][4]) {
  using Stage = ManyStage<Tile>;
  constexpr int kStages = Tile::kStages;
  constexpr int kWarpTiles = Tile::kWarpTiles;
  constexpr int kTokens = kTokenTiles * kTokenTile;
  constexpr int kChunks = kStepColumns / 8, kTokensAtOnce = kMoeThreads / kChunks;
  constexpr int kCopies = (kTokens + kTokensAtOnce - 1) / kTokensAtOnce;
  const int lane = LaneIndex(), warp = WarpIndex();

  // What this thread copies each step, and where to in a stage.
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
  const int first_token = static_cast<int>(threadIdx.x) / kChunks;
  int in_at[kCopies];
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const int token = first_token + i * kTokensAtOnce;
    in_at[i] = (token < work.count ? p.InAt(work.first + token) : 0) + 8 * chunk;
  }
  // Instead of a row of tiles that is not there, the one before it again.
  constexpr int kVectors = Tile::kBytes / 16;
  int weights_at = p.TilesAt<Tile>(work.expert, tile_row) + lane;
  const int next_row = tile_row + 1 < p.TileRows() ? p.RowVectors<Tile>() : 0;
  const int in_to = ChunkAt(first_token, chunk);
  const int weights_from = Stage::kWeightsAt + warp * Stage::kWarpBytes;
  const auto copy = [&](int stage) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int token = first_token + i * kTokensAtOnce;
      if (kTokens % kTokensAtOnce != 0 && token >= kTokens) break;
      char* to = SharedMemory() + in_to + stage + i * kTokensAtOnce * Stage::kTokenBytes;
      CopyAsync16(to, p.in.data + in_at[i], token < work.count);
      in_at[i] += kStepColumns;
    }
    const auto* weights = reinterpret_cast<const uint4*>(p.weights) + weights_at;
#pragma unroll
    for (int r = 0; r < kWarpTiles; ++r) {
#pragma unroll
      for (int i = 0; i < kVectors; i += kWarpSize) {
        if (i + lane >= kVectors) break;
        CopyAsync16(SharedMemory() + weights_from + stage + r * Tile::kBytes + 16 * (i + lane),
                    weights + r * next_row + i);
      }
    }
    weights_at += kVectors;
  };
  const auto advance = [](int& stage) {
    stage = stage + Stage::kBytes < Stage::kAllBytes ? stage + Stage::kBytes : 0;
  };
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < p.steps) copy(s * Stage::kBytes);
    CopyCommit();
  }

  float acc[kWarpTiles][kTokenTiles][4] = {};
  // Operands of a step's first block of columns; those of the second are 64 bytes off.
  const int rows_from = ChunkAt(lane / 4, lane % 4);
  static_assert(ChunkAt(1, 4) == (ChunkAt(1, 0) ^ 64) && Stage::kBytes % 128 == 0);
  int stage = 0, copy_stage = (kStages - 1) * Stage::kBytes;
  // Where the segment that a step belongs to ends.
  const auto end_of_segment = [&](int step) {
    return SegmentBegin(p.steps, (kSegments * (step + 1) + p.steps - 1) / p.steps);
  };
  int segment_end = end_of_segment(0);
  for (int step = 0; step < p.steps; ++step) {
    CopyWait<kStages - 2>();
    __syncthreads();  // the step has come for all, and all are done with the one before
    if (step + kStages - 1 < p.steps) {
      copy(copy_stage);
      advance(copy_stage);
    }
    CopyCommit();
    Tile tiles[kWarpTiles];
#pragma unroll
    for (int r = 0; r < kWarpTiles; ++r) {
      tiles[r] = Tile::LoadShared(reinterpret_cast<const uint8_t*>(SharedMemory()) + weights_from +
                                  stage + r * Tile::kBytes);
    }
    MultiplyAdd(acc, tiles, [&](int n, int block) {
      return *reinterpret_cast<const uint4*>(SharedMemory() + ((rows_from + stage) ^ (64 * block)) +
                                             n * kTokenTile * Stage::kTokenBytes);
    });
    advance(stage);
    if (step + 1 < segment_end) continue;
    segment_end = end_of_segment(segment_end);
#pragma unroll
    for (int r = 0; r < kWarpTiles; ++r) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          total[r][n][i] = Add(total[r][n][i], acc[r][n][i]);
          acc[r][n][i] = 0;
        }
      }
    }
  }
  CopyWait<0>();
}

template <class Tile, int kTokenTiles, class Output>
__device__ __forceinline__ void ManyTokens(const ExpertProduct& p, const ExpertTile& work,
                                           const Output& output) {
  using Stage = ManyStage<Tile>;
  constexpr int kWarpTiles = Tile::kWarpTiles;
  const int first_row = static_cast<int>(blockIdx.x) * Stage::kRows;
  const int tile_row = first_row / kTileRows + WarpIndex() * kWarpTiles;
  float total[kWarpTiles][kTokenTiles][4] = {};
  // Rows that only fill up the block take others' weights, and become zeros: their units are.
  ManyProduct<Tile>(p, work, tile_row < p.TileRows() ? tile_row : p.TileRows() - 1, total);
  StoreSums<Tile>(p, work, first_row, total, reinterpret_cast<float*>(SharedMemory()), output);
}

// Calls output.StoreFour(pair, row, values of four rows); row may be past the last.
template <class Tile, class Output>
__global__ void __launch_bounds__(kMoeThreads, 1) MoeManyKernel(ExpertProduct p, Output output) {
  WaitForInputs();
  LetNextStart();
  const ExpertTile work = p.tiles[blockIdx.y];
  if (work.count == 0) return;
  if (work.count <= kTokenTile) {
    ManyTokens<Tile, 1>(p, work, output);
  } else if (work.count <= 2 * kTokenTile) {
    ManyTokens<Tile, 2>(p, work, output);
  } else if (work.count <= 4 * kTokenTile) {
    ManyTokens<Tile, 4>(p, work, output);
  } else {
    ManyTokens<Tile, kManyMoeTokens / kTokenTile>(p, work, output);
  }
}

}  // namespace motet::cuda
