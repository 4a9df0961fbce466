// A chunk of a cache in half precision: keys and values go to shared memory by asynchronous copies,
// and from there to operands of products.
#pragma once

#include "cuda/kernels/attention_chunk.cuh"

namespace motet::cuda {

// Keys or values of a page into rows of shared memory, by kThreads threads; zeros outside of
// `range` and where there is no page. `pages` is the KV head's part of the cache's first page.
template <int kDim, int kThreads>
__device__ __forceinline__ void LoadPage(uint16_t* to, const uint16_t* pages, int page,
                                         int kv_heads, int start, const KeyRange& range,
                                         int thread) {
  constexpr int kPieces = kDim / 8, kKeysAtOnce = kThreads / kPieces;
  const int my_key = thread / kPieces, column = thread % kPieces * 8;
  if (my_key >= kKeysAtOnce) return;
  const uint16_t* from = pages + int64_t{max(page, 0)} * (kv_heads * kPageTokens * kDim);
#pragma unroll
  for (int first = 0; first < kPageTokens; first += kKeysAtOnce) {
    const int key = my_key + first, position = start + key;
    if (kPageTokens % kKeysAtOnce != 0 && key >= kPageTokens) continue;
    CopyAsync16(to + key * kSharedStride<kDim> + column, from + key * kDim + column,
                page >= 0 && position >= range.begin && position < range.end);
  }
}

// The same of a chunk.
template <int kDim, int kThreads>
__device__ __forceinline__ void LoadChunk(uint16_t* to, const uint16_t* pages, const int32_t* table,
                                          int kv_heads, int start, const KeyRange& range,
                                          int thread) {
#pragma unroll
  for (int p = 0; p < kChunkPages; ++p) {
    const int page_start = start + p * kPageTokens;
    LoadPage<kDim, kThreads>(to + p * kPageTokens * kSharedStride<kDim>, pages,
                             PageAt(table, page_start, range), kv_heads, page_start, range, thread);
  }
}

// s[r][n]: products of rows 16r to 16r + 15 of q and keys 8n to 8n + 7.
template <int kDim, int kRowTiles, int kTiles>
__device__ __forceinline__ void F16Scores(const uint16_t* q, const uint16_t* keys,
                                          float (&s)[kRowTiles][kTiles][4]) {
  constexpr int kStride = kSharedStride<kDim>;
  const int lane = LaneIndex();
  keys += (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
  for (auto& tiles : s) SetZero(tiles);
#pragma unroll
  for (int k = 0; k < kDim; k += 16) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) LoadRows(a[r], q + 16 * r * kStride + k, kStride);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      LoadMatrices<false>(b, keys + 8 * n * kStride + k);
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        MmaF16(s[r][n], a[r], b[0], b[1]);
        MmaF16(s[r][n + 1], a[r], b[2], b[3]);
      }
    }
  }
}

// Sums of p v for 8 kTiles columns of v from `values` on; kTiles is even.
template <int kDim, int kRowTiles, int kTiles>
__device__ __forceinline__ void F16Values(const uint32_t (&p)[kRowTiles][kChunkKeys / 16][4],
                                          const uint16_t* values,
                                          float (&sums)[kRowTiles][kTiles][4]) {
  constexpr int kStride = kSharedStride<kDim>;
  const int lane = LaneIndex();
  values += lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
  for (auto& tiles : sums) SetZero(tiles);
#pragma unroll
  for (int k = 0; k < kChunkKeys / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      LoadMatrices<true>(b, values + 16 * k * kStride + 8 * n);
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        MmaF16(sums[r][n], p[r][k], b[0], b[1]);
        MmaF16(sums[r][n + 1], p[r][k], b[2], b[3]);
      }
    }
  }
}

template <int kDim>
struct F16Chunk {
  uint16_t keys[kChunkKeys * kSharedStride<kDim>], values[kChunkKeys * kSharedStride<kDim>];
};

// For AttendTokensKernel.
template <int kDim>
class F16TokenChunk {
 public:
  struct alignas(16) Shared {
    uint16_t q[kMaxGroup * kSharedStride<kDim>];
    F16Chunk<kDim> chunk;
  };

  __device__ __forceinline__ F16TokenChunk(const WarpPage& page, Shared& shared)
      : page_(page), shared_(shared) {
    const int64_t head_offset = int64_t{page.kv_head} * kPageTokens * kDim;
    keys_ = static_cast<const uint16_t*>(page.args.cache.keys) + head_offset;
    values_ = static_cast<const uint16_t*>(page.args.cache.values) + head_offset;
  }

  __device__ __forceinline__ void Prefetch() const {
    if (page_.page < 0) return;
    const int64_t offset = int64_t{page_.page} * (page_.args.kv_heads * kPageTokens * kDim);
    for (int i = LaneIndex() * 64; i < kPageTokens * kDim; i += kWarpSize * 64) {
      PrefetchLineToL2(keys_ + offset + i);
      PrefetchLineToL2(values_ + offset + i);
    }
  }

  __device__ __forceinline__ void Load() {
    LoadQuery<kDim>(shared_.q, page_);
    LoadRowsOfPage(shared_.chunk.keys, keys_);
    CopyCommit();
    LoadRowsOfPage(shared_.chunk.values, values_);
    CopyCommit();
  }

  __device__ __forceinline__ void Scores(float (&s)[1][kPageTokens / 8][4]) const {
    CopyWait<1>();
    __syncthreads();
    F16Scores<kDim>(shared_.q, shared_.chunk.keys + FirstElement(), s);
  }

  __device__ __forceinline__ void WaitForValues() const { CopyWait<0>(); }

  __device__ __forceinline__ void Values(const uint32_t (&p)[1][kChunkKeys / 16][4], int column,
                                         float (&sums)[1][2][4]) const {
    F16Values<kDim>(p, shared_.chunk.values + column, sums);
  }

 private:
  __device__ __forceinline__ int FirstElement() const {
    return WarpIndex() * kPageTokens * kSharedStride<kDim>;
  }
  __device__ __forceinline__ void LoadRowsOfPage(uint16_t* to, const uint16_t* pages) const {
    LoadPage<kDim, kWarpSize>(to + FirstElement(), pages, page_.page, page_.args.kv_heads,
                              page_.start, page_.keys, LaneIndex());
  }

  const WarpPage& page_;
  Shared& shared_;
  const uint16_t* keys_;
  const uint16_t* values_;
};

// For AttendRunsKernel.
template <int kDim, int kThreads>
class F16RunChunk {
 public:
  using Shared = F16Chunk<kDim>;

  __device__ __forceinline__ F16RunChunk(const RunPages& pages, Shared& shared)
      : pages_(pages), shared_(shared) {
    const int64_t head_offset = int64_t{pages.kv_head} * kPageTokens * kDim;
    keys_ = static_cast<const uint16_t*>(pages.args.cache.keys) + head_offset;
    values_ = static_cast<const uint16_t*>(pages.args.cache.values) + head_offset;
  }

  __device__ __forceinline__ void StartKeys(int first) { Start(shared_.keys, keys_, first); }
  __device__ __forceinline__ void FinishKeys() { CopyWait<0>(); }
  __device__ __forceinline__ void StartValues(int first) { Start(shared_.values, values_, first); }
  __device__ __forceinline__ void FinishValues(int /*first*/) { CopyWait<0>(); }

  template <int kRowTiles, int kTiles>
  __device__ __forceinline__ void Scores(const uint16_t* q,
                                         float (&s)[kRowTiles][kTiles][4]) const {
    F16Scores<kDim>(q, shared_.keys, s);
  }
  template <int kRowTiles, int kTiles>
  __device__ __forceinline__ void Values(const uint32_t (&p)[kRowTiles][kChunkKeys / 16][4],
                                         int column, float (&sums)[kRowTiles][kTiles][4]) const {
    F16Values<kDim>(p, shared_.values + column, sums);
  }

 private:
  __device__ __forceinline__ void Start(uint16_t* to, const uint16_t* pages, int first) {
    LoadChunk<kDim, kThreads>(to, pages, pages_.table, pages_.args.kv_heads, first, pages_.keys,
                              threadIdx.x);
    CopyCommit();
  }

  const RunPages& pages_;
  Shared& shared_;
  const uint16_t* keys_;
  const uint16_t* values_;
};

struct F16Cache {
  static constexpr int kMaxDimOfTwoTiles = 64;  // of rows a warp of AttendRunsKernel, by registers
  template <int kDim>
  using TokenChunk = F16TokenChunk<kDim>;
  template <int kDim, int kThreads>
  using RunChunk = F16RunChunk<kDim, kThreads>;
};

}  // namespace motet::cuda
