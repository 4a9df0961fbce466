// Merging partials that AttendTokensKernel wrote: by a kernel of its own, or by the last block of a
// token and KV head to end.
#pragma once

#include "cuda/kernels/attention_chunk.cuh"

namespace motet::cuda {

struct TokenKernelArgs {
  AttentionArgs attention;
  const int32_t* tokens;  // or null
  int first_token;        // of the list, or of all
  float scale;            // of scores: log2(e) / sqrt(head_dim)
  int group;              // query heads a KV head
  int chunks_per_block;
  // Of tokens with more chunks than that.
  int chunk_stride;   // even, so that partials are 16 bytes aligned
  float2* partials;   // [tokens, heads, chunk_stride] max and sum
  float* values;      // [tokens, heads, chunk_stride, head_dim]
  unsigned* tickets;  // [tokens, kv_heads] zeros, or null: MergeKernel follows
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

// For the last block: it merges up to kAtOnce partials of a head at a time, four columns a thread.
template <int kAtOnce>
struct alignas(16) LastMerge {
  static_assert(kAtOnce % 2 == 0);
  float4 values[kAtOnce][kTokenThreads];
  float2 partials[kMaxGroup][kAtOnce];
};
// As many as fit where something else was.
constexpr int LastMergeChunks(int64_t bytes) {
  constexpr int kMost = 16;
  return std::min(kMost, static_cast<int>(bytes / static_cast<int64_t>(sizeof(LastMerge<2>))) * 2);
}

template <int kDim, int kAtOnce>
__device__ __forceinline__ void MergeAsLast(const TokenKernelArgs& a, const TokenChunks& c,
                                            LastMerge<kAtOnce>& shared) {
  const AttentionArgs& args = a.attention;
  const int first_head = blockIdx.y * a.group;
  const int64_t start = (int64_t{blockIdx.z} * args.heads + first_head) * a.chunk_stride;
  for (int first_item = 0; first_item < a.group * (kDim / 4); first_item += kTokenThreads) {
    const int item = first_item + threadIdx.x;
    const int row = item / (kDim / 4), column = item % (kDim / 4) * 4;
    const bool mine = row < a.group;
    const float* values =
        a.values + (start + (mine ? row : 0) * a.chunk_stride) * kDim + (mine ? column : 0);
    float max = SinkMax(args.sinks[first_head + (mine ? row : 0)]), sum = 1;
    float4 out = make_float4(0, 0, 0, 0);
    for (int first = 0; first < c.count; first += kAtOnce) {
      const int count = min(c.count - first, kAtOnce);
      for (int i = threadIdx.x; i < a.group * (kAtOnce / 2); i += kTokenThreads) {
        const int of_row = i / (kAtOnce / 2), chunk = i % (kAtOnce / 2) * 2;
        if (chunk >= count) continue;  // the next one may be one too many
        CopyAsync16(&shared.partials[of_row][chunk],
                    a.partials + start + of_row * a.chunk_stride + first + chunk);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (i < count) {
          CopyAsync16(&shared.values[i][threadIdx.x], values + int64_t{first + i} * kDim);
        }
      }
      CopyCommit();
      CopyWait<0>();
      __syncthreads();
#pragma unroll 4
      for (int i = 0; i < count; ++i) {
        const float2 partial = shared.partials[mine ? row : 0][i];
        const float4 value = shared.values[i][threadIdx.x];
        const MergeFactors factors = FactorsOf(max, partial.x);
        max = fmaxf(max, partial.x);
        sum = Merge(sum, partial.y, factors);
        out = make_float4(Merge(out.x, value.x, factors), Merge(out.y, value.y, factors),
                          Merge(out.z, value.z, factors), Merge(out.w, value.w, factors));
      }
      __syncthreads();
    }
    if (!mine) continue;
    const int64_t at = int64_t{first_head + row} * kDim + column;
    StorePair(args.out, c.token, at, Output(out.x, sum), Output(out.y, sum));
    StorePair(args.out, c.token, at + 2, Output(out.z, sum), Output(out.w, sum));
  }
}

// MergeKernel takes kMergeChunks partials at a time, kMergeStages times as many on their way.
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
  if (c.count <= a.chunks_per_block) return;  // its block has merged
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
  if (head == args.heads - 1) StorePadding(args, c.token);
}

}  // namespace motet::cuda
