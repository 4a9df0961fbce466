// A chunk of a cache of 8-bit integers (int8_page.cuh). Products take them as half precision, which
// has them exactly: scores are multiplied by the scales of keys afterwards, values by theirs
// before, as half precision has no range to spare for p times a scale.
#pragma once

#include "cuda/kernels/int8_operands.cuh"

namespace motet::cuda {

// For AttendTokensKernel. A lane's words come to where it alone reads them; of values, lanes of the
// same number do in all warps, as a warp scores a page but multiplies columns of all pages.
template <int kDim>
class Int8TokenChunk {
 public:
  struct alignas(16) Shared {
    uint4 keys[kChunkPages][kBlocks<kDim>][kWarpSize],
        values[kChunkPages][kBlocks<kDim>][kWarpSize];
    float key_scales[kChunkPages][kPageTokens];
    ValueScales scales[kChunkPages];
  };

  __device__ __forceinline__ Int8TokenChunk(const TokenPages& pages, Shared& shared)
      : pages_(pages), shared_(shared) {}

  __device__ __forceinline__ void Prefetch(const WarpPage& page) const {
    if (page.page < 0) return;
    Of(pages_.args.cache.keys, page).Prefetch();
    Of(pages_.args.cache.values, page).Prefetch();
  }

  __device__ __forceinline__ void StartKeys(const WarpPage& page) {
    const Int8Page<kDim> keys = Of(pages_.args.cache.keys, page);
#pragma unroll
    for (int i = 0; i < kBlocks<kDim>; ++i) {
      CopyAsync16(&shared_.keys[WarpIndex()][i][LaneIndex()], keys.Block(i));
    }
    if (LaneIndex() < kPageTokens / 4) {
      CopyAsync16(&shared_.key_scales[WarpIndex()][4 * LaneIndex()],
                  keys.Scales() + 4 * LaneIndex());
    }
  }
  __device__ __forceinline__ void Scores(const uint16_t* q,
                                         float (&s)[1][kPageTokens / 8][4]) const {
    SetZero(s[0]);
#pragma unroll
    for (int i = 0; i < kBlocks<kDim>; ++i) {
      uint32_t a[4];
      LoadRows(a, q + 16 * i, kSharedStride<kDim>);
      uint4 b[2];
      Operands<kKeyUnits>(shared_.keys[WarpIndex()][i][LaneIndex()], b);
#pragma unroll
      for (int n = 0; n < kPageTokens / 8; n += 2) {
        MmaF16(s[0][n], a, b[n / 2].x, b[n / 2].y);
        MmaF16(s[0][n + 1], a, b[n / 2].z, b[n / 2].w);
      }
    }
#pragma unroll
    for (int n = 0; n < kPageTokens / 8; ++n) {
      const float* scales = shared_.key_scales[WarpIndex()];
      MultiplyScores(s[0][n], reinterpret_cast<const float2*>(scales)[4 * n + LaneIndex() % 4]);
    }
  }

  __device__ __forceinline__ void StartValues(const WarpPage& page) {
    const Int8Page<kDim> values = Of(pages_.args.cache.values, page);
#pragma unroll
    for (int i = 0; i < kBlocks<kDim>; ++i) {
      CopyAsync16(&shared_.values[WarpIndex()][i][LaneIndex()], values.Block(i));
    }
    value_scale_ = ScaleOrZero(values.Scales(), page.start, pages_.keys);
  }
  __device__ __forceinline__ void FinishValues() { shared_.scales[WarpIndex()].Set(value_scale_); }
  __device__ __forceinline__ void Values(const uint32_t (&p)[1][kChunkKeys / 16][4], int column,
                                         float (&sums)[1][2][4]) const {
    SetZero(sums[0]);
#pragma unroll
    for (int page = 0; page < kChunkPages; ++page) {
      uint4 b[2];
      ScaledOperands(shared_.values[page][column / 16][LaneIndex()], shared_.scales[page].OfLane(),
                     b);
#pragma unroll
      for (int h = 0; h < 2; ++h) MmaF16(sums[0][h], p[0][2 * page], b[h].x, b[h].y);
#pragma unroll
      for (int h = 0; h < 2; ++h) MmaF16(sums[0][h], p[0][2 * page + 1], b[h].z, b[h].w);
    }
  }

 private:
  __device__ __forceinline__ Int8Page<kDim> Of(const void* pages, const WarpPage& page) const {
    return {pages_.args, pages, pages_.kv_head, page.page};
  }

  const TokenPages& pages_;
  Shared& shared_;
  float value_scale_;
};

// For AttendRunsKernel: all warps need all of a chunk, which becomes half precision once, in shared
// memory. There the bytes come to where what they become will be; the thread that asked for them
// puts it there. A warp takes (part of) a page.
template <int kDim, int kThreads>
class Int8RunChunk {
  static constexpr int kWarps = kThreads / kWarpSize;
  struct Chunk {
    uint4 operands[kChunkPages][kBlocks<kDim>][2][kWarpSize];
    float scales[kWarps][kPageTokens];  // of the page of each warp; the first have all pages
  };

 public:
  struct alignas(16) Shared {
    Chunk keys, values;
    ValueScales value_scales[kWarps];
  };

  __device__ __forceinline__ Int8RunChunk(const AttentionArgs& args, int kv_head,
                                          const RunPages& pages, Shared& shared)
      : args_(args), kv_head_(kv_head), pages_(pages), shared_(shared) {}

  __device__ __forceinline__ void FindPages(int first) {
    page_ = pages_.At(args_, first + Page() * kPageTokens);
  }
  __device__ __forceinline__ void StartKeys(int /*first*/) {
    Start(shared_.keys, args_.cache.keys);
  }
  __device__ __forceinline__ void FinishKeys() {
    CopyWait<0>();
    ForBlocks(shared_.keys, [](int, uint4* lane) {
      uint4 b[2];
      Operands<kKeyUnits>(*lane, b);
      lane[0] = b[0];
      lane[kWarpSize] = b[1];
    });
  }
  __device__ __forceinline__ void StartValues(int /*first*/) {
    Start(shared_.values, args_.cache.values);
  }
  __device__ __forceinline__ void FinishValues(int first) {
    CopyWait<0>();
    SyncWarp();  // for scales
    ValueScales& of_page = shared_.value_scales[WarpIndex()];
    of_page.Set(
        ScaleOrZero(shared_.values.scales[WarpIndex()], first + Page() * kPageTokens, pages_.keys));
    SyncWarp();
    const uint4 scales = of_page.OfLane();
    ForBlocks(shared_.values, [&](int, uint4* lane) {
      uint4 b[2];
      ScaledOperands(*lane, scales, b);
      lane[0] = b[0];
      lane[kWarpSize] = b[1];
    });
  }

  template <int kRowTiles, int kTiles>
  __device__ __forceinline__ void Scores(const uint16_t* q,
                                         float (&s)[kRowTiles][kTiles][4]) const {
#pragma unroll
    for (auto& tiles : s) SetZero(tiles);
#pragma unroll
    for (int i = 0; i < kBlocks<kDim>; ++i) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        LoadRows(a[r], q + 16 * r * kSharedStride<kDim> + 16 * i, kSharedStride<kDim>);
      }
#pragma unroll
      for (int n = 0; n < kTiles; n += 2) {
        const uint4 b = shared_.keys.operands[n / 4][i][n / 2 % 2][LaneIndex()];
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          MmaF16(s[r][n], a[r], b.x, b.y);
          MmaF16(s[r][n + 1], a[r], b.z, b.w);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const float2 scales =
          reinterpret_cast<const float2*>(shared_.keys.scales)[4 * n + LaneIndex() % 4];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) MultiplyScores(s[r][n], scales);
    }
  }

  template <int kRowTiles, int kTiles>
  __device__ __forceinline__ void Values(const uint32_t (&p)[kRowTiles][kChunkKeys / 16][4],
                                         int column, float (&sums)[kRowTiles][kTiles][4]) const {
#pragma unroll
    for (auto& tiles : sums) SetZero(tiles);
#pragma unroll
    for (int page = 0; page < kChunkPages; ++page) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const uint4 b = shared_.values.operands[page][column / 16 + n / 2][n % 2][LaneIndex()];
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) MmaF16(sums[r][n], p[r][2 * page], b.x, b.y);
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) MmaF16(sums[r][n], p[r][2 * page + 1], b.z, b.w);
      }
    }
  }

 private:
  static constexpr int kWarpsOfPage = kWarps / kChunkPages;

  // The warp's, of the chunk.
  __device__ __forceinline__ int Page() const {
    return kWarpsOfPage == 1 ? WarpIndex() : WarpIndex() % kChunkPages;
  }
  // Calls f(block, where it is for this lane) for the warp's part of its page.
  template <class F>
  __device__ __forceinline__ void ForBlocks(Chunk& chunk, const F& f) const {
    const int my_first = kWarpsOfPage == 1 ? 0 : WarpIndex() / kChunkPages;
#pragma unroll
    for (int first = 0; first < kBlocks<kDim>; first += kWarpsOfPage) {
      const int block = first + my_first;
      if (kBlocks<kDim> % kWarpsOfPage != 0 && block >= kBlocks<kDim>) break;
      f(block, &chunk.operands[Page()][block][0][LaneIndex()]);
    }
  }
  __device__ __forceinline__ void Start(Chunk& chunk, const void* pages) {
    const Int8Page<kDim> page(args_, pages, kv_head_, page_);
    ForBlocks(chunk, [&](int block, uint4* lane) { CopyAsync16(lane, page.Block(block)); });
    if (LaneIndex() < kPageTokens / 4) {
      CopyAsync16(&chunk.scales[WarpIndex()][4 * LaneIndex()], page.Scales() + 4 * LaneIndex());
    }
    CopyCommit();
  }

  const AttentionArgs& args_;
  const int kv_head_;
  const RunPages& pages_;
  Shared& shared_;
  int page_;  // the warp's
};

struct Int8Cache {
  static constexpr int kMaxDimOfTwoTiles = 48;  // of rows a warp of AttendRunsKernel, by registers
  static constexpr int kMaxDimOfTwoBlocks = 0;  // of it a multiprocessor
  template <int kDim>
  using TokenChunk = Int8TokenChunk<kDim>;
  template <int kDim, int kThreads>
  using RunChunk = Int8RunChunk<kDim, kThreads>;
};

}  // namespace motet::cuda
