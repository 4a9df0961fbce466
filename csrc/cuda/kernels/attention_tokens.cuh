// Attention of single tokens: a block computes the partials of some chunks for the query heads of
// one KV head. Where that is all that the token sees, it merges them as it goes.
#pragma once

#include "cuda/kernels/attention_f16.cuh"
#include "cuda/kernels/attention_int8.cuh"
#include "cuda/kernels/attention_merge.cuh"
#include "cuda/kernels/last_block.cuh"

namespace motet::cuda {

template <int kDim, class Cache>
struct TokenShared {
  static constexpr int kPStride = kSharedStride<kChunkKeys>;
  struct Chunks {
    uint16_t q[kMaxGroup * kSharedStride<kDim>];
    typename Cache::template TokenChunk<kDim>::Shared chunk;
    uint16_t p[kMaxGroup * kPStride];
  };
  using Last = LastMerge<LastMergeChunks(sizeof(Chunks))>;

  alignas(16) char memory[sizeof(Chunks)];
  float max[kChunkPages][kMaxGroup];
  float sum[kMaxGroup];
  unsigned place;

  __device__ __forceinline__ Chunks& chunks() { return *reinterpret_cast<Chunks*>(memory); }
  __device__ __forceinline__ Last& last() { return *reinterpret_cast<Last*>(memory); }
};

// Blocks that share a multiprocessor, by shared memory: for the compiler to leave them registers.
template <int kDim>
inline constexpr int kTokenBlocks = kDim <= 64 ? 5 : 3;

template <int kDim, class Cache>
__global__ void __launch_bounds__(kTokenThreads, kTokenBlocks<kDim>)
    AttendTokensKernel(TokenKernelArgs a) {
  using Shared = TokenShared<kDim, Cache>;
  // Columns of values that a warp takes: 16, then 16 more behind those of the other warps.
  constexpr int kColumnStep = kChunkPages * 16, kSteps = (kDim + kColumnStep - 1) / kColumnStep;
  const int kv_head = blockIdx.y, first_chunk = blockIdx.x * a.chunks_per_block;
  const TokenChunks c = ChunksOf(a, blockIdx.z);
  if (first_chunk >= c.count && blockIdx.x > 0) {
    WaitForInputs();
    return;
  }
  const AttentionArgs& args = a.attention;
  const int group = a.group, warp = WarpIndex();
  const int g = LaneIndex() / 4, t = LaneIndex() % 4;
  const int end_chunk = min(c.count, first_chunk + a.chunks_per_block);
  const bool all = c.count <= a.chunks_per_block;
  auto& shared = *reinterpret_cast<Shared*>(SharedMemory());
  auto& chunks = shared.chunks();

  // A warp takes a page's keys to the maxima, then columns of the values. What the kernel before
  // this one writes is only the query and the newest keys: the rest is fetched while it ends.
  const int32_t* table = args.cache.page_table + max(c.slot, 0) * args.cache.pages_per_sequence;
  const TokenPages pages = {args, table, c.token, kv_head, group, c.keys};
  const auto page_of = [&](int index) -> WarpPage {
    const int start = (c.first + index) * kChunkKeys + warp * kPageTokens;
    return {index < end_chunk ? PageAt(table, start, c.keys) : -1, start};
  };
  WarpPage page = page_of(first_chunk);
  typename Cache::template TokenChunk<kDim> chunk(pages, chunks.chunk);
  chunk.Prefetch(page);
  WaitForInputs();
  LetNextStart();

  // From here on the newest two groups of copies are a chunk's keys and its values, or its values
  // and the next one's keys.
  LoadQuery<kDim>(chunks.q, pages);
  chunk.StartKeys(page);
  CopyCommit();
  chunk.StartValues(page);
  CopyCommit();
  float2 max = make_float2(-INFINITY, -INFINITY), sum = make_float2(1, 1);
  float out[kSteps][2][4];
#pragma unroll
  for (auto& tiles : out) SetZero(tiles);
  if (all && g < group) max.x = SinkMax(args.sinks[kv_head * group + g]);
  if (all && g + 8 < group) max.y = SinkMax(args.sinks[kv_head * group + g + 8]);
  CopyWait<1>();
  __syncthreads();  // the query is there

  for (int i = first_chunk; i < end_chunk; ++i) {
    const WarpPage next = page_of(i + 1);
    CopyWait<1>();
    SyncWarp();  // the warp's keys are there
    float s[1][kPageTokens / 8][4];
    chunk.Scores(chunks.q, s);
    SyncWarp();
    if (i + 1 < end_chunk) chunk.StartKeys(next);
    CopyCommit();
    Mask(s[0], page.start, c.keys, c.keys);
    const float2 page_max = RowMax(s[0]);
    if (t == 0) {
      shared.max[warp][g] = page_max.x;
      shared.max[warp][g + 8] = page_max.y;
    }
    CopyWait<1>();
    chunk.FinishValues();
    __syncthreads();  // maxima and values are there

    float2 chunk_max = make_float2(-INFINITY, -INFINITY);
#pragma unroll
    for (const auto& of_page : shared.max) {
      chunk_max.x = fmaxf(chunk_max.x, of_page[g]);
      chunk_max.y = fmaxf(chunk_max.y, of_page[g + 8]);
    }
    chunk_max = make_float2(ChunkMax(chunk_max.x, a.scale), ChunkMax(chunk_max.y, a.scale));
    uint32_t page_p[kPageTokens / 16][4];
    Probabilities(s[0], a.scale, chunk_max, page_p);
#pragma unroll
    for (int k = 0; k < kPageTokens / 16; ++k) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint16_t* to = chunks.p + (g + j % 2 * 8) * Shared::kPStride + warp * kPageTokens + 16 * k +
                       j / 2 * 8 + 2 * t;
        *reinterpret_cast<uint32_t*>(to) = page_p[k][j];
      }
    }
    __syncthreads();

    uint32_t p[1][kChunkKeys / 16][4];
#pragma unroll
    for (int k = 0; k < kChunkKeys / 16; ++k) {
      LoadRows(p[0][k], chunks.p + 16 * k, Shared::kPStride);
    }
    const auto partial = [&](int row) {  // its index
      return (int64_t{blockIdx.z} * args.heads + kv_head * group + row) * a.chunk_stride + i;
    };
    const MergeFactors factors[2] = {FactorsOf(max.x, chunk_max.x), FactorsOf(max.y, chunk_max.y)};
    if (warp == kChunkPages - 1) {
      float sums[4];
      RowSums(p[0], sums);
      sum = make_float2(Merge(sum.x, sums[0], factors[0]), Merge(sum.y, sums[2], factors[1]));
      if (!all && t == 0) {
        if (g < group) a.partials[partial(g)] = make_float2(chunk_max.x, sums[0]);
        if (g + 8 < group) a.partials[partial(g + 8)] = make_float2(chunk_max.y, sums[2]);
      }
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int column = warp * 16 + step * kColumnStep;
      if (kDim % kColumnStep != 0 && column >= kDim) break;
      float sums[1][2][4];
      chunk.Values(p, column, sums);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float* merged = &out[step][n][2 * half];
          const float x = sums[0][n][2 * half], y = sums[0][n][2 * half + 1];
          merged[0] = Merge(merged[0], x, factors[half]);
          merged[1] = Merge(merged[1], y, factors[half]);
          if (all || g + 8 * half >= group) continue;
          *reinterpret_cast<float2*>(a.values + partial(g + 8 * half) * kDim + column + 8 * n +
                                     2 * t) = make_float2(x, y);
        }
      }
    }
    max = make_float2(fmaxf(max.x, chunk_max.x), fmaxf(max.y, chunk_max.y));
    if (i + 1 < end_chunk) {
      __syncthreads();  // values are done with
      chunk.StartValues(next);
    }
    CopyCommit();
    page = next;
  }
  CopyWait<0>();

  if (!all) {
    if (!a.tickets) return;
    const int blocks = (c.count + a.chunks_per_block - 1) / a.chunks_per_block;
    unsigned* ticket = a.tickets + blockIdx.z * args.kv_heads + kv_head;
    if (!IsLastBlock(ticket, blocks, shared.place)) return;
    MergeAsLast<kDim>(a, c, shared.last());
    if (kv_head == args.kv_heads - 1) StorePadding(args, c.token);
    return;
  }
  if (warp == kChunkPages - 1 && t == 0) {
    shared.sum[g] = sum.x;
    shared.sum[g + 8] = sum.y;
  }
  __syncthreads();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = g + 8 * half;
    if (row >= group) break;
    const float row_sum = shared.sum[row];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int column = warp * 16 + step * kColumnStep;
      if (kDim % kColumnStep != 0 && column >= kDim) break;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        StorePair(args.out, c.token, int64_t{kv_head * group + row} * kDim + column + 8 * n + 2 * t,
                  Output(out[step][n][2 * half], row_sum),
                  Output(out[step][n][2 * half + 1], row_sum));
      }
    }
  }
  if (kv_head == args.kv_heads - 1) StorePadding(args, c.token);
}

}  // namespace motet::cuda
