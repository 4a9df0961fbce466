// The partial of a chunk, and how partials merge: the arithmetic that attention's kernels share, so
// that they agree in every bit. A warp computes 16 rows (a row is a query head of a token).
//
// How keys and values come from a cache into products is the matter of attention_f16.cuh and
// attention_int8.cuh, classes that the kernels are templates over.
#pragma once

#include "cuda/kernels/attention.h"
#include "cuda/kernels/store_rows.cuh"
#include "cuda/primitives.h"

namespace motet::cuda {

inline constexpr float kLog2E = 1.44269504088896340736f;

// Elements from row to row in shared memory: an odd number of 16-byte pieces, so that eight rows
// lie in different banks.
template <int kColumns>
inline constexpr int kSharedStride = kColumns + 8;

// What a row sees.
struct KeyRange {
  int begin, end;
};
__device__ __forceinline__ KeyRange VisibleKeys(int position, int64_t window) {
  const int end = position + 1;
  return {window != 0 && window < end ? end - static_cast<int>(window) : 0, end};
}

// The page that starts at a position, -1 if a row that sees `range` needs none of it. `table` is
// the sequence's row of the page table.
__device__ __forceinline__ int PageAt(const int32_t* table, int start, const KeyRange& range) {
  const bool seen = start < range.end && start + kPageTokens > range.begin;
  return seen ? table[start / kPageTokens] : -1;
}

// What a block of AttendTokensKernel reads: keys of one token and KV head.
struct TokenPages {
  const AttentionArgs& args;
  const int32_t* table;
  int64_t token;
  int kv_head, group;
  KeyRange keys;
};
// The page of a chunk that a warp of it fetches and scores.
struct WarpPage {
  int page;   // -1: there is none
  int start;  // position of its first key
};
// What a block of AttendRunsKernel reads. In shared memory, as registers are short there.
struct RunPages {
  int64_t table_row;  // the sequence's, where it starts
  KeyRange keys;      // that some row sees

  __device__ __forceinline__ int At(const AttentionArgs& args, int start) const {
    return PageAt(args.cache.page_table + table_row, start, keys);
  }
};
inline constexpr int kTokenThreads = kChunkPages * kWarpSize;

// A token's query heads of a KV head, [kMaxGroup] rows, by all threads of AttendTokensKernel.
template <int kDim>
__device__ __forceinline__ void LoadQuery(uint16_t* to, const TokenPages& pages) {
  const uint16_t* q =
      pages.args.q + (pages.token * pages.args.heads + pages.kv_head * pages.group) * kDim;
#pragma unroll
  for (int first = 0; first < kMaxGroup * kDim / 8; first += kTokenThreads) {
    const unsigned i = first + threadIdx.x;
    if (i >= kMaxGroup * kDim / 8) break;
    const int row = i / (kDim / 8), column = i % (kDim / 8) * 8;
    const bool valid = row < pages.group;
    CopyAsync16(to + row * kSharedStride<kDim> + column, q + (valid ? row * kDim + column : 0),
                valid);
  }
}

// Sixteen rows and columns from shared memory, as the first operand of a product.
__device__ __forceinline__ void LoadRows(uint32_t (&a)[4], const uint16_t* rows, int stride) {
  const int lane = LaneIndex();
  LoadMatrices<false>(a, rows + lane % 16 * stride + lane / 16 * 8);
}

template <int kTiles>
__device__ __forceinline__ void SetZero(float (&tiles)[kTiles][4]) {
#pragma unroll
  for (auto& tile : tiles) {
#pragma unroll
    for (float& x : tile) x = 0;
  }
}

// The keys of s start at position `first`; rows g and g + 8 see `low` and `high`.
template <int kTiles>
__device__ __forceinline__ void Mask(float (&s)[kTiles][4], int first, const KeyRange& low,
                                     const KeyRange& high) {
  const int column = first + LaneIndex() % 4 * 2;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const KeyRange& range = i < 2 ? low : high;
      const int key = column + 8 * n + i % 2;
      if (key < range.begin || key >= range.end) s[n][i] = -INFINITY;
    }
  }
}

// Of rows g and g + 8.
template <int kTiles>
__device__ __forceinline__ float2 RowMax(const float (&s)[kTiles][4]) {
  float2 m = make_float2(-INFINITY, -INFINITY);
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    m.x = fmaxf(m.x, fmaxf(s[n][0], s[n][1]));
    m.y = fmaxf(m.y, fmaxf(s[n][2], s[n][3]));
  }
#pragma unroll
  for (int mask = 1; mask <= 2; mask *= 2) {
    m.x = fmaxf(m.x, ShuffleXor(m.x, mask));
    m.y = fmaxf(m.y, ShuffleXor(m.y, mask));
  }
  return m;
}

// The partial's max. Rounded by itself: a kernel must not fuse the product with what follows.
__device__ __forceinline__ float ChunkMax(float largest_product, float scale) {
  return Multiply(largest_product, scale);
}
// Of a row that sees none of the keys the max is -infinity, and every p shall be 0.
__device__ __forceinline__ float FiniteOrZero(float max) { return max == -INFINITY ? 0.0f : max; }

// p of rows g and g + 8, as first operands of products with values, 16 keys each.
template <int kTiles>
__device__ __forceinline__ void Probabilities(const float (&s)[kTiles][4], float scale, float2 max,
                                              uint32_t (&p)[kTiles / 2][4]) {
  max = make_float2(FiniteOrZero(max.x), FiniteOrZero(max.y));
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    p[n / 2][n % 2 * 2] =
        PackF16(Exp2(fmaf(s[n][0], scale, -max.x)), Exp2(fmaf(s[n][1], scale, -max.x)));
    p[n / 2][n % 2 * 2 + 1] =
        PackF16(Exp2(fmaf(s[n][2], scale, -max.y)), Exp2(fmaf(s[n][3], scale, -max.y)));
  }
}

// Sums of p, of row g in [0] and of g + 8 in [2], as products with ones. Of the rounded p, so that
// the weights of values add up to one: what all values share is then exact. (Rounding loses p below
// 2^-25 of the chunk's largest only, 128 of them at most.)
__device__ __forceinline__ void RowSums(const uint32_t (&p)[kChunkKeys / 16][4], float (&sums)[4]) {
  constexpr uint32_t kOnes = 0x3C003C00u;
#pragma unroll
  for (float& x : sums) x = 0;
#pragma unroll
  for (const auto& a : p) MmaF16(sums, a, kOnes, kOnes);
}

// What the sums so far and those of a chunk are multiplied by when they are merged.
struct MergeFactors {
  float so_far, chunk;
};
__device__ __forceinline__ MergeFactors FactorsOf(float max, float chunk_max) {
  const float base = FiniteOrZero(fmaxf(max, chunk_max));
  return {Exp2(max - base), Exp2(chunk_max - base)};
}
__device__ __forceinline__ float Merge(float sum, float chunk_sum, const MergeFactors& factors) {
  return fmaf(sum, factors.so_far, Multiply(chunk_sum, factors.chunk));
}
__device__ __forceinline__ float SinkMax(uint16_t sink) {
  return Multiply(Bf16Value(sink), kLog2E);
}
__device__ __forceinline__ float Output(float values, float sum) {
  return Multiply(values, 1.0f / sum);
}

// Zeros of the output's columns after the last head's, by all threads of a block.
__device__ __forceinline__ void StorePadding(const AttentionArgs& args, int token) {
  const int64_t used = int64_t{args.heads} * args.head_dim;
  for (int64_t i = used + 2 * threadIdx.x; i < args.out.stride; i += 2 * blockDim.x) {
    StorePair(args.out, token, i, 0, 0);
  }
}

}  // namespace motet::cuda
