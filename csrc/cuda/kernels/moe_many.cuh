// Products of the experts for many tokens each. A block has 128 rows of an expert's matrix, 16 a
// warp, and up to 64 of its tokens: weights are decoded once for all of these, and tokens come
// through shared memory for all of those. Both arrive by asynchronous copies, steps ahead.
#pragma once

#include "cuda/kernels/moe_tile.cuh"

namespace motet::cuda {

inline constexpr int kManyRows = kMoeThreads / kWarpSize * kTileRows;

template <class Tile>
struct ManyStage {
  static constexpr int kTokenBytes = kStepColumns * 2;
  static constexpr int kArrayBytes = kManyMoeTokens * kTokenBytes;
  static constexpr int kWeightsAt = Tile::kRowArrays * kArrayBytes;
  static constexpr int kBytes = kWeightsAt + kMoeThreads / kWarpSize * Tile::kBytes;
  static constexpr int kTotalsAt = Tile::kStages * kBytes;
  static constexpr int kAllBytes = kTotalsAt + kManyRows * kManyMoeTokens * 4;
};

// A lane's sums over the segments so far, one for each token tile: out of the registers, since
// they change eight times only.
template <class Tile>
__device__ __forceinline__ float4& Total(int n) {
  auto* totals = reinterpret_cast<float4*>(SharedMemory() + ManyStage<Tile>::kTotalsAt);
  return totals[n * kMoeThreads + static_cast<int>(threadIdx.x)];
}

// Where a token's chunk of 16 bytes lies: halves of 64 bytes change places in odd tokens, so that
// the lanes of a warp, four chunks of eight tokens, are in different banks.
__device__ __forceinline__ int ChunkAt(int token, int chunk) {
  return token * (kStepColumns * 2) + 16 * (chunk ^ (token % 2 * 4));
}

// Total() of the block's rows and 8 * kTokenTiles tokens, which are as many as the work has or
// more.
template <class Tile, int kTokenTiles>
__device__ __forceinline__ void ManyProduct(const ExpertProduct& p, int tile_row) {
  using Stage = ManyStage<Tile>;
  constexpr int kArrays = Tile::kRowArrays, kStages = Tile::kStages;
  constexpr int kTokens = kTokenTiles * kTokenTile;
  constexpr int kChunks = kStepColumns / 8, kTokensAtOnce = kMoeThreads / kChunks;
  constexpr int kCopies = (kTokens + kTokensAtOnce - 1) / kTokensAtOnce;
  const ExpertTile work = p.tiles[blockIdx.y];
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
  // In vectors of 16 bytes: 32 bits reach far enough, and registers are scarce.
  constexpr int kVectors = Tile::kBytes / 16;
  int weights_at = (work.expert * p.TileRows() + tile_row) * p.steps * kVectors + lane;
  char* const in_to = SharedMemory() + ChunkAt(first_token, chunk);
  char* const weights_to = SharedMemory() + Stage::kWeightsAt + warp * Tile::kBytes + 16 * lane;
  const auto copy = [&](int stage) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int token = first_token + i * kTokensAtOnce;
      if (kTokens % kTokensAtOnce != 0 && token >= kTokens) break;
      char* to = in_to + stage + i * kTokensAtOnce * Stage::kTokenBytes;
      CopyAsync16(to, p.in.high + in_at[i], token < work.count);
      if constexpr (kArrays == 2) {
        CopyAsync16(to + Stage::kArrayBytes, p.in.low + in_at[i], token < work.count);
      }
      in_at[i] += kStepColumns;
    }
    const auto* weights = reinterpret_cast<const uint4*>(p.weights) + weights_at;
#pragma unroll
    for (int i = 0; i < kVectors; i += kWarpSize) {
      if (i + lane < kVectors) CopyAsync16(weights_to + stage + 16 * i, weights + i);
    }
    weights_at += kVectors;
  };
  const auto advance = [](int& stage) {
    stage = stage + Stage::kBytes < Stage::kTotalsAt ? stage + Stage::kBytes : 0;
  };
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < p.steps) copy(s * Stage::kBytes);
    CopyCommit();
  }

  float acc[kTokenTiles][4] = {};
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n) Total<Tile>(n) = make_float4(0, 0, 0, 0);
  // Operands of a step's two blocks of columns.
  const char* const rows[2] = {SharedMemory() + ChunkAt(lane / 4, lane % 4),
                               SharedMemory() + ChunkAt(lane / 4, lane % 4 + 4)};
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
    const Tile tile =
        Tile::LoadShared(SharedMemory() + stage + Stage::kWeightsAt + warp * Tile::kBytes);
    tile.MultiplyAdd(acc, [&](int n, int block, int array) {
      return *reinterpret_cast<const uint4*>(rows[block] + stage + array * Stage::kArrayBytes +
                                             n * kTokenTile * Stage::kTokenBytes);
    });
    advance(stage);
    if (step + 1 < segment_end) continue;
    segment_end = end_of_segment(segment_end);
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      const float4 sums = Total<Tile>(n);
      Total<Tile>(n) = make_float4(Add(sums.x, acc[n][0]), Add(sums.y, acc[n][1]),
                                   Add(sums.z, acc[n][2]), Add(sums.w, acc[n][3]));
#pragma unroll
      for (float& sum : acc[n]) sum = 0;
    }
  }
  CopyWait<0>();
}

template <class Tile, int kTokenTiles, class Output>
__device__ __forceinline__ void ManyTokens(const ExpertProduct& p, const Output& output) {
  const int tile_row = static_cast<int>(blockIdx.x) * (kManyRows / kTileRows) + WarpIndex();
  // Rows that only fill up the block take the last ones' weights, and become zeros.
  const bool has_rows = tile_row < p.TileRows();
  ManyProduct<Tile, kTokenTiles>(p, has_rows ? tile_row : p.TileRows() - 1);
  const ExpertTile work = p.tiles[blockIdx.y];  // again: cheaper than to keep it
  if (!has_rows) {
    for (int n = 0; n < kTokenTiles; ++n) Total<Tile>(n) = make_float4(0, 0, 0, 0);
  }
  const int row = tile_row * kTileRows + LaneIndex() / 4;
  const float bias = p.Bias(work.expert, row), bias_plus_8 = p.Bias(work.expert, row + 8);
  output.template StoreTile<kTokenTiles>(work, tile_row, [&](int n) {
    const float4 sums = Total<Tile>(n);
    return make_float4(Add(Multiply(sums.x, Tile::kUnit), bias),
                       Add(Multiply(sums.y, Tile::kUnit), bias),
                       Add(Multiply(sums.z, Tile::kUnit), bias_plus_8),
                       Add(Multiply(sums.w, Tile::kUnit), bias_plus_8));
  });
}

// Calls output.StoreTile(work, tile_row, values) in all threads; values(n) are those of a token
// tile as MmaF16 has them.
template <class Tile, class Output>
__global__ void __launch_bounds__(kMoeThreads, Tile::kBlocks)
    MoeManyKernel(ExpertProduct p, Output output) {
  WaitForInputs();
  LetNextStart();
  const int count = p.tiles[blockIdx.y].count;
  if (count == 0) return;
  if (count <= kTokenTile) {
    ManyTokens<Tile, 1>(p, output);
  } else if (count <= 2 * kTokenTile) {
    ManyTokens<Tile, 2>(p, output);
  } else if (count <= 4 * kTokenTile) {
    ManyTokens<Tile, 4>(p, output);
  } else {
    ManyTokens<Tile, kManyMoeTokens / kTokenTile>(p, output);
  }
}

}  // namespace motet::cuda
