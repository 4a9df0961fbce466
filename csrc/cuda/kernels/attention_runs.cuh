// Attention of runs of tokens: a block takes all rows (token, query head) of a run and a KV head, a
// warp 16 or 32 of them, and merges chunk after chunk into registers.
#pragma once

#include "cuda/kernels/attention_f16.cuh"
#include "cuda/kernels/attention_int8.cuh"

namespace motet::cuda {

template <int kDim>
inline constexpr int kRunRows = MaxRunTokens(1, 1, kDim);
// Tiles of 16 rows a warp. With two, it reads keys and values from shared memory half as often, but
// there are half as many warps, too few to hide what each waits for.
template <int kDim, class Cache>
inline constexpr int kRowTiles = kDim <= Cache::kMaxDimOfTwoTiles ? 2 : 1;
template <int kDim, class Cache>
inline constexpr int kRunThreads = kRunRows<kDim> / (16 * kRowTiles<kDim, Cache>)*kWarpSize;

struct RunKernelArgs {
  AttentionArgs attention;
  const TokenRun* runs;
  float scale;  // of scores: log2(e) / sqrt(head_dim)
};

template <int kDim, class Cache>
struct RunShared {
  using Chunk = typename Cache::template RunChunk<kDim, kRunThreads<kDim, Cache>>;
  static constexpr int kStride = kSharedStride<kDim>;
  uint16_t q[kRunRows<kDim> * kStride];
  // Here, as registers are short:
  RunPages pages;
  int32_t positions[kRunRows<kDim>];
  float2 merged[kRunRows<kDim>];  // max and sum
  typename Chunk::Shared chunk;
  static_assert(sizeof(q) + sizeof(pages) + sizeof(positions) + sizeof(merged) + sizeof(chunk) <=
                99 << 10);
};

// Blocks that share a multiprocessor at least. One is said aloud too: else the compiler may spill
// to make room for three.
template <int kDim, class Cache>
inline constexpr int kRunBlocks =
    kRowTiles<kDim, Cache> == 1 && kDim <= Cache::kMaxDimOfTwoBlocks ? 2 : 1;

template <int kDim, class Cache>
__global__ void __launch_bounds__(kRunThreads<kDim, Cache>, kRunBlocks<kDim, Cache>)
    AttendRunsKernel(RunKernelArgs a) {
  using Shared = RunShared<kDim, Cache>;
  constexpr int kTiles = kChunkKeys / 8, kThreads = kRunThreads<kDim, Cache>,
                kRows = kRowTiles<kDim, Cache>;
  constexpr int kColumns = kDim % 32 == 0 ? 32 : 16;  // of values at a time
  const AttentionArgs& args = a.attention;
  const int kv_head = blockIdx.x, group = args.heads / args.kv_heads;
  const TokenRun run = a.runs[gridDim.y - 1 - blockIdx.y];  // the longest contexts first
  const int rows = run.count * group, position = args.positions[run.first];
  const int64_t window = args.cache.window;
  auto& shared = *reinterpret_cast<Shared*>(SharedMemory());
  const KeyRange all = {VisibleKeys(position, window).begin, position + run.count};
  int first = all.begin / kChunkKeys * kChunkKeys;  // key of a chunk
  if (threadIdx.x == 0) {
    shared.pages = {args.slots[run.first] * args.cache.pages_per_sequence, all};
  }
  // Rows that are not there do as the last one does, a warp that has none sees nothing.
  for (int row = threadIdx.x; row < kRunRows<kDim>; row += kThreads) {
    const bool warp_has_some = row - row % (16 * kRows) < rows;
    shared.positions[row] = warp_has_some ? position + min(row, rows - 1) / group : -1;
    shared.merged[row] = make_float2(SinkMax(args.sinks[kv_head * group + row % group]), 1);
  }
  typename Shared::Chunk chunk(args, kv_head, shared.pages, shared.chunk);
  __syncthreads();
  chunk.FindPages(first);
  WaitForInputs();
  LetNextStart();

  const uint16_t* q = args.q + (int64_t{run.first} * args.heads + kv_head * group) * kDim;
  for (int j = threadIdx.x; j < kRunRows<kDim> * kDim / 8; j += kThreads) {
    const int row = j / (kDim / 8), column = j % (kDim / 8) * 8;
    const bool valid = row < rows;
    const int64_t at = (int64_t{row / group} * args.heads + row % group) * kDim + column;
    CopyAsync16(shared.q + row * Shared::kStride + column, q + (valid ? at : 0), valid);
  }
  chunk.StartKeys(first);

  const int first_row = WarpIndex() * 16 * kRows, g = LaneIndex() / 4, t = LaneIndex() % 4;
  const auto seen_by = [&](int row) { return VisibleKeys(shared.positions[row], window); };

  float out[kRows][kDim / 8][4];
#pragma unroll
  for (auto& tiles : out) SetZero(tiles);

  for (; first < shared.pages.keys.end; first += kChunkKeys) {
    const int end = first + kChunkKeys;
    chunk.FinishKeys();
    __syncthreads();  // keys are there, the last values are done with
    chunk.StartValues(first);
    const KeyRange seen_first = seen_by(first_row), seen_last = seen_by(first_row + 16 * kRows - 1);
    const bool some = first < seen_last.end && end > seen_first.begin;
    uint32_t p[kRows][kTiles / 2][4];
    MergeFactors factors[kRows][2];
    if (some) {
      const bool masked = first < seen_last.begin || end > seen_first.end;
      float s[kRows][kTiles][4];
      chunk.Scores(shared.q + first_row * Shared::kStride, s);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int row = first_row + 16 * r;
        if (masked) Mask(s[r], first, seen_by(row + g), seen_by(row + g + 8));
        const float2 largest = RowMax(s[r]);
        const float chunk_max[2] = {ChunkMax(largest.x, a.scale), ChunkMax(largest.y, a.scale)};
        Probabilities(s[r], a.scale, make_float2(chunk_max[0], chunk_max[1]), p[r]);
        float sums[4];
        RowSums(p[r], sums);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float2& merged = shared.merged[row + 8 * half + g];
          const float2 before = merged;
          factors[r][half] = FactorsOf(before.x, chunk_max[half]);
          SyncWarp();
          if (t == 0) {
            merged = make_float2(fmaxf(before.x, chunk_max[half]),
                                 Merge(before.y, sums[2 * half], factors[r][half]));
          }
        }
      }
    }
    chunk.FindPages(end);
    chunk.FinishValues(first);
    __syncthreads();  // values are there, the keys are done with
    if (end < shared.pages.keys.end) chunk.StartKeys(end);
    if (!some) continue;

#pragma unroll
    for (int column = 0; column < kDim; column += kColumns) {
      float chunk_out[kRows][kColumns / 8][4];
      chunk.Values(p, column, chunk_out);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            float& x = out[r][column / 8 + n][j];
            x = Merge(x, chunk_out[r][n][j], factors[r][j / 2]);
          }
        }
      }
    }
  }
  CopyWait<0>();
  SyncWarp();  // sums are there

  // Read again, rather than kept.
  const TokenRun done = a.runs[gridDim.y - 1 - blockIdx.y];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + 16 * r + 8 * half + g;
      if (row >= done.count * group) continue;
      const float sum = shared.merged[row].y;
      const int64_t token = done.first + row / group;
      const int64_t column = int64_t{kv_head * group + row % group} * kDim + 2 * t;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        StorePair(args.out, token, column + 8 * n, Output(out[r][n][2 * half], sum),
                  Output(out[r][n][2 * half + 1], sum));
      }
    }
  }
  if (kv_head == args.kv_heads - 1) {
    for (int token = 0; token < done.count; ++token) StorePadding(args, done.first + token);
  }
}

}  // namespace motet::cuda
