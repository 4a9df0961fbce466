// A chunk of a cache in half precision: keys and values go to shared memory by asynchronous copies,
// and from there to operands of products.
#pragma once

#include "cuda/kernels/attention_chunk.cuh"

namespace motet::cuda {

// A KV head's keys or values of a page into rows of shared memory, by kThreads threads. `head`
// counts heads of all pages; where it is negative there is no page. Outside of `range` come zeros,
// or without kZeros, anything.
template <int kDim, int kThreads, bool kZeros>
__device__ __forceinline__ void LoadPage(uint16_t* to, const void* pages, int head, int start,
                                         const KeyRange& range, int thread) {
  constexpr int kPieces = kDim / 8, kKeysAtOnce = kThreads / kPieces;
  if (kThreads % kPieces != 0 && thread >= kKeysAtOnce * kPieces) return;
  const int my_key = thread / kPieces;
  to += my_key * kSharedStride<kDim> + thread % kPieces * 8;
  // In pieces of 16 bytes, short numbers: a thread's is the one of its own number.
  const uint4* from = static_cast<const uint4*>(pages) +
                      (static_cast<unsigned>(max(head, 0)) * (kPageTokens * kPieces) + thread);
#pragma unroll
  for (int first = 0; first < kPageTokens; first += kKeysAtOnce) {
    if (kPageTokens % kKeysAtOnce != 0 && my_key + first >= kPageTokens) continue;
    const int position = start + my_key + first;
    CopyAsync16(to + first * kSharedStride<kDim>, from + first * kPieces,
                !kZeros || (position >= range.begin && position < range.end));
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
  using Shared = F16Chunk<kDim>;

  __device__ __forceinline__ F16TokenChunk(const TokenPages& pages, Shared& shared)
      : pages_(pages), shared_(shared) {}

  __device__ __forceinline__ void Prefetch(const WarpPage& page) const {
    if (page.page < 0) return;
    const int head = page.page * pages_.args.kv_heads + pages_.kv_head;
    const int64_t offset = int64_t{head} * (kPageTokens * kDim);
    for (int i = LaneIndex() * 64; i < kPageTokens * kDim; i += kWarpSize * 64) {
      PrefetchLineToL2(static_cast<const uint16_t*>(pages_.args.cache.keys) + offset + i);
      PrefetchLineToL2(static_cast<const uint16_t*>(pages_.args.cache.values) + offset + i);
    }
  }

  __device__ __forceinline__ void StartKeys(const WarpPage& page) {
    Start(shared_.keys, pages_.args.cache.keys, page);
  }
  __device__ __forceinline__ void Scores(const uint16_t* q,
                                         float (&s)[1][kPageTokens / 8][4]) const {
    F16Scores<kDim>(q, shared_.keys + FirstElement(), s);
  }

  __device__ __forceinline__ void StartValues(const WarpPage& page) {
    Start(shared_.values, pages_.args.cache.values, page);
  }
  __device__ __forceinline__ void FinishValues() const {}
  __device__ __forceinline__ void Values(const uint32_t (&p)[1][kChunkKeys / 16][4], int column,
                                         float (&sums)[1][2][4]) const {
    F16Values<kDim>(p, shared_.values + column, sums);
  }

 private:
  __device__ __forceinline__ int FirstElement() const {
    return WarpIndex() * kPageTokens * kSharedStride<kDim>;
  }
  __device__ __forceinline__ void Start(uint16_t* to, const void* from,
                                        const WarpPage& page) const {
    const int head = page.page * pages_.args.kv_heads + pages_.kv_head;
    LoadPage<kDim, kWarpSize, true>(to + FirstElement(), from, head, page.start, pages_.keys,
                                    LaneIndex());
  }

  const TokenPages& pages_;
  Shared& shared_;
};

// For AttendRunsKernel.
template <int kDim, int kThreads>
class F16RunChunk {
 public:
  using Shared = F16Chunk<kDim>;

  __device__ __forceinline__ F16RunChunk(const AttentionArgs& args, int kv_head,
                                         const RunPages& pages, Shared& shared)
      : args_(args), kv_head_(kv_head), pages_(pages), shared_(shared) {}

  __device__ __forceinline__ void FindPages(int first) {
    page_ = pages_.At(args_, first + LaneIndex() % kChunkPages * kPageTokens);
  }
  // Scores of keys that a row does not see are masked, whatever they are.
  __device__ __forceinline__ void StartKeys(int first) {
    Start<false>(shared_.keys, args_.cache.keys, first);
  }
  __device__ __forceinline__ void FinishKeys() { CopyWait<0>(); }
  __device__ __forceinline__ void StartValues(int first) {
    Start<true>(shared_.values, args_.cache.values, first);
  }
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
  template <bool kZeros>
  __device__ __forceinline__ void Start(uint16_t* to, const void* from, int first) {
    const KeyRange keys = pages_.keys;
    const int head = page_ * args_.kv_heads + kv_head_;
#pragma unroll
    for (int p = 0; p < kChunkPages; ++p) {
      LoadPage<kDim, kThreads, kZeros>(to + p * kPageTokens * kSharedStride<kDim>, from,
                                       Shuffle(head, p), first + p * kPageTokens, keys,
                                       threadIdx.x);
    }
    CopyCommit();
  }

  const AttentionArgs& args_;
  const int kv_head_;
  const RunPages& pages_;
  Shared& shared_;
  int page_;  // number lane % kChunkPages of the chunk
};

struct F16Cache {
  static constexpr int kMaxDimOfTwoTiles = 48;   // of rows a warp of AttendRunsKernel, by registers
  static constexpr int kMaxDimOfTwoBlocks = 64;  // of it a multiprocessor
  template <int kDim>
  using TokenChunk = F16TokenChunk<kDim>;
  template <int kDim, int kThreads>
  using RunChunk = F16RunChunk<kDim, kThreads>;
};

}  // namespace motet::cuda
