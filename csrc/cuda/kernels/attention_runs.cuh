// Attention of runs of tokens: a block takes all rows (token, query head) of a run and a KV head, a
// warp 16 of them, and merges chunk after chunk into registers.
#pragma once

#include "cuda/kernels/attention_chunk.cuh"
#include "cuda/kernels/store_rows.cuh"

namespace motet::cuda {

template <int kDim>
inline constexpr int kRunRows = MaxRunTokens(1, 1, kDim);
template <int kDim>
inline constexpr int kRunThreads = kRunRows<kDim> / 16 * kWarpSize;

struct RunKernelArgs {
  AttentionArgs attention;
  const TokenRun* runs;
  float scale;  // of scores: log2(e) / sqrt(head_dim)
};

template <int kDim>
struct RunShared {
  static constexpr int kStride = kSharedStride<kDim>;
  uint16_t q[kRunRows<kDim> * kStride];
  uint16_t keys[kChunkKeys * kStride], values[kChunkKeys * kStride];
};

template <int kDim>
__global__ void __launch_bounds__(kRunThreads<kDim>) AttendRunsKernel(RunKernelArgs a) {
  using Shared = RunShared<kDim>;
  constexpr int kTiles = kChunkKeys / 8, kThreads = kRunThreads<kDim>;
  constexpr int kColumns = kDim % 32 == 0 ? 32 : 16;  // of values at a time
  WaitForInputs();
  LetNextStart();
  const AttentionArgs& args = a.attention;
  const int kv_head = blockIdx.x, group = args.heads / args.kv_heads;
  const TokenRun run = a.runs[gridDim.y - 1 - blockIdx.y];  // the longest contexts first
  const int rows = run.count * group, position = args.positions[run.first];
  const int64_t window = args.cache.window;
  const int32_t* table =
      args.cache.page_table + args.slots[run.first] * args.cache.pages_per_sequence;
  const int64_t head_offset = int64_t{kv_head} * kPageTokens * kDim;
  const auto* keys = static_cast<const uint16_t*>(args.cache.keys) + head_offset;
  const auto* values = static_cast<const uint16_t*>(args.cache.values) + head_offset;
  const KeyRange all = {VisibleKeys(position, window).begin, position + run.count};
  auto& shared = *reinterpret_cast<Shared*>(SharedMemory());

  const uint16_t* q = args.q + (int64_t{run.first} * args.heads + kv_head * group) * kDim;
  for (int i = threadIdx.x; i < kRunRows<kDim> * kDim / 8; i += kThreads) {
    const int row = i / (kDim / 8), column = i % (kDim / 8) * 8;
    const bool valid = row < rows;
    const int64_t at = (int64_t{row / group} * args.heads + row % group) * kDim + column;
    CopyAsync16(shared.q + row * Shared::kStride + column, q + (valid ? at : 0), valid);
  }
  const int first_chunk = all.begin / kChunkKeys, end_chunk = (all.end - 1) / kChunkKeys + 1;
  LoadPages<kDim, kChunkPages>(shared.keys, keys, table, args.kv_heads, first_chunk * kChunkKeys,
                               all, threadIdx.x, kThreads);
  CopyCommit();

  // Rows that are not there do as the last one does.
  const int first_row = WarpIndex() * 16, lane = LaneIndex(), t = lane % 4;
  const auto token_of = [&](int row) { return min(row, rows - 1) / group; };
  const auto seen_by = [&](int row) { return VisibleKeys(position + token_of(row), window); };
  const int row[2] = {first_row + lane / 4, first_row + lane / 4 + 8};
  const KeyRange seen[2] = {seen_by(row[0]), seen_by(row[1])};
  const KeyRange seen_first = seen_by(first_row), seen_last = seen_by(first_row + 15);

  float max[2], sum[2] = {1, 1}, out[kDim / 8][4];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    max[i] = SinkMax(args.sinks[kv_head * group + min(row[i], rows - 1) % group]);
  }
#pragma unroll
  for (auto& tile : out) {
#pragma unroll
    for (float& x : tile) x = 0;
  }

  for (int chunk = first_chunk; chunk < end_chunk; ++chunk) {
    const int first = chunk * kChunkKeys, end = first + kChunkKeys;
    const bool some = first_row < rows && first < seen_last.end && end > seen_first.begin;
    CopyWait<0>();
    __syncthreads();  // keys are there, the last values are done with
    LoadPages<kDim, kChunkPages>(shared.values, values, table, args.kv_heads, first, all,
                                 threadIdx.x, kThreads);
    CopyCommit();
    float s[kTiles][4];
    if (some) {
      Scores<kDim>(shared.q + first_row * Shared::kStride, shared.keys, s);
      if (first < seen_last.begin || end > seen_first.end) Mask(s, first, seen[0], seen[1]);
    }
    CopyWait<0>();
    __syncthreads();  // values are there, the keys are done with
    if (chunk + 1 < end_chunk) {
      LoadPages<kDim, kChunkPages>(shared.keys, keys, table, args.kv_heads, end, all, threadIdx.x,
                                   kThreads);
    }
    CopyCommit();
    if (!some) continue;

    float2 chunk_max = RowMax(s);
    chunk_max = make_float2(ChunkMax(chunk_max.x, a.scale), ChunkMax(chunk_max.y, a.scale));
    uint32_t p[kTiles / 2][4];
    Probabilities(s, a.scale, chunk_max, p);
    const MergeFactors factors[2] = {FactorsOf(max[0], chunk_max.x),
                                     FactorsOf(max[1], chunk_max.y)};
    max[0] = fmaxf(max[0], chunk_max.x);
    max[1] = fmaxf(max[1], chunk_max.y);
    float sums[4];
    RowSums(p, sums);
    sum[0] = Merge(sum[0], sums[0], factors[0]);
    sum[1] = Merge(sum[1], sums[2], factors[1]);
#pragma unroll
    for (int column = 0; column < kDim; column += kColumns) {
      float chunk_out[kColumns / 8][4];
      Values<kDim>(p, shared.values + column, chunk_out);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& x = out[column / 8 + n][i];
          x = Merge(x, chunk_out[n][i], factors[i / 2]);
        }
      }
    }
  }
  CopyWait<0>();

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (row[half] >= rows) continue;
    const int64_t token = run.first + row[half] / group;
    const int64_t column = int64_t{kv_head * group + row[half] % group} * kDim + 2 * t;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      StorePair(args.out, token, column + 8 * n, Output(out[n][2 * half], sum[half]),
                Output(out[n][2 * half + 1], sum[half]));
    }
  }
  if (kv_head == args.kv_heads - 1) {
    const int64_t used = int64_t{args.heads} * kDim;
    for (int i = 0; i < run.count; ++i) {
      for (int64_t j = used + 2 * threadIdx.x; j < args.out.stride; j += 2 * kThreads) {
        StorePair(args.out, run.first + i, j, 0, 0);
      }
    }
  }
}

}  // namespace motet::cuda
