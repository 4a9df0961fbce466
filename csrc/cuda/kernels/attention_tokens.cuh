// Attention of single tokens: a block computes the partial of one chunk for the query heads of one
// KV head; a second kernel merges.
#pragma once

#include "cuda/kernels/attention_f16.cuh"
#include "cuda/kernels/attention_int8.cuh"
#include "cuda/kernels/store_rows.cuh"

namespace motet::cuda {

struct TokenKernelArgs {
  AttentionArgs attention;
  const int32_t* tokens;  // or null
  int first_token;        // of the list, or of all
  float scale;            // of scores: log2(e) / sqrt(head_dim)
  int group;              // query heads a KV head
  int chunk_stride;       // even, so that partials are 16 bytes aligned
  float2* partials;       // [tokens, heads, chunk_stride] max and sum
  float* values;          // [tokens, heads, chunk_stride, head_dim]
};

struct TokenChunks {
  int token;
  int slot;  // negative: there are none
  KeyRange keys;
  int first, count;
};
__device__ __forceinline__ TokenChunks ChunksOf(const TokenKernelArgs& a, int index) {
  const int i = a.first_token + index, token = a.tokens ? a.tokens[i] : i;
  const int slot = a.attention.slots[token], position = a.attention.positions[token];
  const KeyRange keys = VisibleKeys(position, a.attention.cache.window);
  const int first = keys.begin / kChunkKeys;
  return {token, slot, keys, first, slot < 0 ? 0 : position / kChunkKeys + 1 - first};
}

template <int kDim, class Cache>
struct TokenShared {
  static constexpr int kPStride = kSharedStride<kChunkKeys>;
  typename Cache::template TokenChunk<kDim>::Shared chunk;
  uint16_t p[kMaxGroup * kPStride];
  float max[kChunkPages][kMaxGroup];
};

template <int kDim, class Cache>
__global__ void __launch_bounds__(kTokenThreads) AttendTokensKernel(TokenKernelArgs a) {
  using Shared = TokenShared<kDim, Cache>;
  const int chunk_index = blockIdx.x, kv_head = blockIdx.y;
  const TokenChunks c = ChunksOf(a, blockIdx.z);
  if (chunk_index >= c.count) {
    WaitForInputs();
    return;
  }
  const AttentionArgs& args = a.attention;
  const int group = a.group, warp = WarpIndex();
  const int g = LaneIndex() / 4, t = LaneIndex() % 4;
  auto& shared = *reinterpret_cast<Shared*>(SharedMemory());

  // A warp takes a page's keys to the maxima, then columns of the values. What the kernel before
  // this one writes is only the query and the newest keys: the rest is fetched while it ends.
  const int first = (c.first + chunk_index) * kChunkKeys, page_start = first + warp * kPageTokens;
  const int32_t* table = args.cache.page_table + c.slot * args.cache.pages_per_sequence;
  const WarpPage page = {args,       c.token, kv_head, group, PageAt(table, page_start, c.keys),
                         page_start, c.keys};
  typename Cache::template TokenChunk<kDim> chunk(page, shared.chunk);
  chunk.Prefetch();
  WaitForInputs();
  LetNextStart();

  chunk.Load();
  float s[1][kPageTokens / 8][4];
  chunk.Scores(s);
  Mask(s[0], page_start, c.keys, c.keys);
  const float2 page_max = RowMax(s[0]);
  if (t == 0) {
    shared.max[warp][g] = page_max.x;
    shared.max[warp][g + 8] = page_max.y;
  }
  chunk.WaitForValues();
  __syncthreads();

  float2 max = make_float2(-INFINITY, -INFINITY);
#pragma unroll
  for (const auto& of_page : shared.max) {
    max.x = fmaxf(max.x, of_page[g]);
    max.y = fmaxf(max.y, of_page[g + 8]);
  }
  max = make_float2(ChunkMax(max.x, a.scale), ChunkMax(max.y, a.scale));
  uint32_t page_p[kPageTokens / 16][4];
  Probabilities(s[0], a.scale, max, page_p);
#pragma unroll
  for (int k = 0; k < kPageTokens / 16; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      uint16_t* to = shared.p + (g + i % 2 * 8) * Shared::kPStride + warp * kPageTokens + 16 * k +
                     i / 2 * 8 + 2 * t;
      *reinterpret_cast<uint32_t*>(to) = page_p[k][i];
    }
  }
  __syncthreads();

  uint32_t p[1][kChunkKeys / 16][4];
#pragma unroll
  for (int k = 0; k < kChunkKeys / 16; ++k) LoadRows(p[0][k], shared.p + 16 * k, Shared::kPStride);
  const auto partial = [&](int row) {  // its index
    return (int64_t{blockIdx.z} * args.heads + kv_head * group + row) * a.chunk_stride +
           chunk_index;
  };
  for (int column = warp * 16; column < kDim; column += kChunkPages * 16) {
    float sums[1][2][4];
    chunk.Values(p, column, sums);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (g + 8 * half >= group) continue;
        *reinterpret_cast<float2*>(a.values + partial(g + 8 * half) * kDim + column + 8 * n +
                                   2 * t) =
            make_float2(sums[0][n][2 * half], sums[0][n][2 * half + 1]);
      }
    }
  }
  if (warp == kChunkPages - 1) {
    float sums[4];
    RowSums(p[0], sums);
    if (t == 0 && g < group) a.partials[partial(g)] = make_float2(max.x, sums[0]);
    if (t == 0 && g + 8 < group) a.partials[partial(g + 8)] = make_float2(max.y, sums[2]);
  }
}

// Merging takes kMergeChunks partials at a time, kMergeStages times as many on their way.
inline constexpr int kMergeChunks = kWarpSize, kMergeColumns = kWarpSize, kMergeStages = 4;
inline constexpr int kMergeMaxThreads = 128;

struct alignas(16) MergeStage {
  float values[kMergeChunks][kMergeColumns];
  float2 partials[kMergeChunks];
};
struct alignas(16) MergeShared {  // of a warp
  MergeStage stages[kMergeStages];
  float4 factors[kMergeChunks];  // and the chunk's sum
};

__device__ __forceinline__ void LoadStage(MergeStage& stage, const float* values,
                                          const float2* partials, int columns, int head_dim,
                                          int first, int count) {
  constexpr int kPieces = kMergeColumns / 4;
  const int lane = LaneIndex();
#pragma unroll
  for (int i = lane; i < kMergeChunks * kPieces; i += kWarpSize) {
    const int chunk = i / kPieces, column = i % kPieces * 4;
    const bool valid = first + chunk < count && column < columns;
    CopyAsync16(&stage.values[chunk][column],
                values + (valid ? int64_t{first + chunk} * head_dim + column : 0), valid);
  }
  if (lane < kMergeChunks / 2) {
    const int chunk = 2 * lane;  // and the next, which may be one too many
    const bool valid = first + chunk < count;
    CopyAsync16(&stage.partials[chunk], partials + (valid ? first + chunk : 0), valid);
  }
}

// A warp merges kMergeColumns columns of one query head of one token.
__global__ void __launch_bounds__(kMergeMaxThreads) MergeKernel(TokenKernelArgs a) {
  const AttentionArgs& args = a.attention;
  const int head = blockIdx.x, lane = LaneIndex(), column = WarpIndex() * kMergeColumns;
  const int columns = args.head_dim - column;
  const TokenChunks c = ChunksOf(a, blockIdx.y);
  WaitForInputs();
  LetNextStart();
  auto& shared = reinterpret_cast<MergeShared*>(SharedMemory())[WarpIndex()];
  const int64_t start = (int64_t{blockIdx.y} * args.heads + head) * a.chunk_stride;
  const float* values = a.values + start * args.head_dim + column;
  const auto load = [&](int stage) {
    if (stage * kMergeChunks < c.count) {
      LoadStage(shared.stages[stage % kMergeStages], values, a.partials + start, columns,
                args.head_dim, stage * kMergeChunks, c.count);
    }
    CopyCommit();
  };
#pragma unroll
  for (int i = 0; i < kMergeStages; ++i) load(i);

  float max = SinkMax(args.sinks[head]), sum = 1, value = 0;
  for (int i = 0; i * kMergeChunks < c.count; ++i) {
    CopyWait<kMergeStages - 1>();
    SyncWarp();
    const MergeStage& stage = shared.stages[i % kMergeStages];
    const int count = min(c.count - i * kMergeChunks, kMergeChunks);
    const float2 partial = lane < count ? stage.partials[lane] : make_float2(-INFINITY, 0);
    float up_to = fmaxf(max, partial.x);
#pragma unroll
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      up_to = fmaxf(up_to, ShuffleUp(up_to, distance));
    }
    const float before = ShuffleUp(up_to, 1);
    const MergeFactors factors = FactorsOf(lane == 0 ? max : before, partial.x);
    shared.factors[lane] = make_float4(factors.so_far, factors.chunk, partial.y, 0);
    max = Shuffle(up_to, kWarpSize - 1);
    SyncWarp();
    for (int j = 0; j < count; ++j) {
      const float4 f = shared.factors[j];
      sum = Merge(sum, f.z, {f.x, f.y});
      value = Merge(value, stage.values[j][lane], {f.x, f.y});
    }
    SyncWarp();
    load(i + kMergeStages);
  }
  CopyWait<0>();

  const float mine = Output(value, sum), next = ShuffleXor(mine, 1);
  if (lane % 2 == 0 && lane < columns) {
    StorePair(args.out, c.token, int64_t{head} * args.head_dim + column + lane, mine, next);
  }
  if (head == args.heads - 1) {
    const int64_t used = int64_t{args.heads} * args.head_dim;
    for (int64_t i = used + 2 * threadIdx.x; i < args.out.stride; i += 2 * blockDim.x) {
      StorePair(args.out, c.token, i, 0, 0);
    }
  }
}

}  // namespace motet::cuda
