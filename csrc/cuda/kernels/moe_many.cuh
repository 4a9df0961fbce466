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
__device__ __forceinline__ void ManyProduct(const ExpertProduct& p, const ExpertTile& work,
                                            int tile_row) {
  using Stage = ManyStage<Tile>;
  constexpr int kArrays = Tile::kRowArrays, kStages = Tile::kStages;
  constexpr int kChunks = kStepColumns / 8, kTokensAtOnce = kMoeThreads / kChunks;
  constexpr int kCopies = (kTokenTiles * kTokenTile + kTokensAtOnce - 1) / kTokensAtOnce;
  const int lane = LaneIndex(), warp = WarpIndex();
  const int thread = static_cast<int>(threadIdx.x);
  const bool has_rows = tile_row < p.TileRows();

  // What this thread copies each step.
  const int chunk = thread % kChunks;
  int in_at[kCopies];  // below 0: no such token
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const int token = thread / kChunks + i * kTokensAtOnce;
    in_at[i] = token < work.count ? p.InAt(work.first + token) + 8 * chunk : -1;
  }
  const uint8_t* weights =
      p.weights +
      (int64_t{work.expert} * p.TileRows() + (has_rows ? tile_row : 0)) * p.steps * Tile::kBytes +
      16 * lane;
  const auto copy = [&](int step) {
    char* stage = SharedMemory() + step % kStages * Stage::kBytes;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int token = thread / kChunks + i * kTokensAtOnce;
      if (token >= kTokenTiles * kTokenTile) break;
      char* to = stage + ChunkAt(token, chunk);
      const bool valid = in_at[i] >= 0;
      const int at = valid ? in_at[i] + step * kStepColumns : 0;
      CopyAsync16(to, p.in.high + at, valid);
      if constexpr (kArrays == 2) CopyAsync16(to + Stage::kArrayBytes, p.in.low + at, valid);
    }
    if (!has_rows) return;
    char* to = stage + Stage::kWeightsAt + warp * Tile::kBytes + 16 * lane;
    const uint8_t* from = weights + int64_t{step} * Tile::kBytes;
#pragma unroll
    for (int i = 0; i < Tile::kBytes; i += 16 * kWarpSize) {
      if (i + 16 * lane < Tile::kBytes) CopyAsync16(to + i, from + i);
    }
  };
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < p.steps) copy(s);
    CopyCommit();
  }

  float acc[kTokenTiles][4] = {};
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n) Total<Tile>(n) = make_float4(0, 0, 0, 0);
  const int lane_at = ChunkAt(lane / 4, lane % 4);
  int next_segment = 1;
  for (int step = 0; step < p.steps; ++step) {
    CopyWait<kStages - 2>();
    __syncthreads();  // the step has come for all, and all are done with the one before
    if (step + kStages - 1 < p.steps) copy(step + kStages - 1);
    CopyCommit();
    if (!has_rows) continue;
    const char* stage = SharedMemory() + step % kStages * Stage::kBytes;
    const Tile tile = Tile::LoadShared(stage + Stage::kWeightsAt + warp * Tile::kBytes);
    tile.MultiplyAdd(acc, [&](int n, int block, int array) {
      return *reinterpret_cast<const uint4*>(stage + array * Stage::kArrayBytes +
                                             n * kTokenTile * Stage::kTokenBytes +
                                             (lane_at ^ (64 * block)));
    });
    while (SegmentBegin(p.steps, next_segment) <= step) ++next_segment;
    if (SegmentBegin(p.steps, next_segment) > step + 1) continue;
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
__device__ __forceinline__ void ManyTokens(const ExpertProduct& p, const ExpertTile& work,
                                           const Output& output) {
  const int tile_row = static_cast<int>(blockIdx.x) * (kManyRows / kTileRows) + WarpIndex();
  ManyProduct<Tile, kTokenTiles>(p, work, tile_row);
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
