// Many tokens: each weight is read once for kTokens of them, and they, from shared memory, for the
// kRows rows of a block. Warps side by side have different rows or tokens; where that makes too few
// warps, groups of them have different segments of the columns.
#pragma once

#include <bit>
#include <type_traits>

#include "cuda/kernels/dense_product.cuh"
#include "cuda/launch.h"

namespace motet::cuda {

inline constexpr int kManyThreads = 256;

template <class WeightsOf, int kRowWarpsOfGroup, int kTokenWarpsOfGroup, int kTokenTilesOf8>
struct ManyShape {
  using Weights = WeightsOf;
  static constexpr int kRowWarps = kRowWarpsOfGroup, kTokenWarps = kTokenWarpsOfGroup;
  static constexpr int kRowTiles = 2, kTokenTiles = kTokenTilesOf8;  // of a warp
  static constexpr int kGroupWarps = kRowWarps * kTokenWarps;
  static constexpr int kGroups = kManyThreads / kWarpSize / kGroupWarps;
  static constexpr int kBlockTiles = kRowWarps * kRowTiles;
  static constexpr int kRows = kBlockTiles * kTileRows;
  static constexpr int kTokens = kTokenWarps * kTokenTiles * 8;
  static constexpr int kTokenBytes = kStepColumns * 2;
  static constexpr int kStepBytes = kTokens * kTokenBytes;   // a step's columns of a group
  static constexpr int kTotalAt = 2 * kGroups * kStepBytes;  // two buffers come first
  static constexpr int kSharedBytes = kTotalAt + kRows * kTokens * 4;
  static_assert(kSharedBytes <= kSharedEverywhere);
  static constexpr int kOtherBuffer = kGroups * kStepBytes;  // the bit that tells them apart
  static_assert(std::has_single_bit(static_cast<unsigned>(kOtherBuffer)));
  // By registers: decoding takes some.
  static constexpr int kBlocksAtOnce =
      kTokenTiles <= 4 || std::is_same_v<typename Weights::Decoded, Weights> ? 2 : 1;
};

// The steps of a group, one an iteration of the block. Round r has the segments of all groups,
// r * kGroups and on; those that have fewer steps than others wait.
template <int kGroups>
class StepCursor {
 public:
  __device__ __forceinline__ StepCursor(int steps, int group) : steps_(steps), group_(group) {
    StartRound();
  }
  __device__ __forceinline__ bool Done() const { return first_ >= kSegments; }
  __device__ __forceinline__ bool EndsRound() const { return step_ + 1 == RoundEnd(); }
  __device__ __forceinline__ bool HasStep() const { return !Done() && step_ < SegmentEnd(); }
  __device__ __forceinline__ int Step() const { return step_; }
  __device__ __forceinline__ void Advance() {
    if (++step_ < RoundEnd()) return;
    first_ += kGroups;
    StartRound();
  }

 private:
  // Of the first round from first_ that has steps.
  __device__ __forceinline__ void StartRound() {
#pragma unroll 1
    for (; first_ < kSegments; first_ += kGroups) {
      step_ = SegmentBegin(steps_, first_ + group_);
      int longest = 0;
#pragma unroll 1
      for (int s = first_; s < first_ + kGroups; ++s) {
        longest = max(longest, SegmentBegin(steps_, s + 1) - SegmentBegin(steps_, s));
      }
      round_end_ = step_ + longest;
      if (longest > 0) break;
    }
  }
  // Computed each time, for want of registers.
  __device__ __forceinline__ int SegmentEnd() const {
    return SegmentBegin(steps_, first_ + group_ + 1);
  }
  __device__ __forceinline__ int RoundEnd() const {
    return kGroups == 1 ? SegmentEnd() : round_end_;
  }

  int steps_, group_;
  int first_ = 0, step_ = 0;
  int round_end_ = 0;  // the step at which the round would end if the group had one each iteration
};

// Where `chunk` of 16 bytes of a token is: halves of 64 bytes change places in odd tokens, so that
// the lanes of a warp find theirs in different banks.
__device__ __forceinline__ int SwizzledBytes(int token, int chunk) {
  return 16 * (chunk ^ (4 * (token & 1)));
}

// A thread's share, of the kThreads of its group, of copying steps.
template <class Shape>
class StepCopy {
 public:
  __device__ __forceinline__ StepCopy(const DenseProduct& p, int first_token) {
    const int thread = static_cast<int>(threadIdx.x) % kThreads;
    const int chunk = thread % kChunks, token = thread / kChunks;
    from_ = (first_token + token) * static_cast<int>(p.in.stride) + 8 * chunk;
    to_ = token * Shape::kTokenBytes + SwizzledBytes(token, chunk);
    tokens_left_ = p.num_tokens - first_token - token;
  }

  __device__ __forceinline__ void operator()(const DenseProduct& p, int step, int buffer) const {
    // 32 bits: 64 would take more registers than there are. So for weights below.
    const int stride = static_cast<int>(p.in.stride), from = from_ + kStepColumns * step;
    char* to = SharedMemory() + buffer + to_;
#pragma unroll
    for (int i = 0; i < Shape::kTokens; i += kTokensAtOnce) {
      CopyAsync16(to + i * Shape::kTokenBytes, p.in.data + from + i * stride, i < tokens_left_);
    }
    CopyCommit();
  }

 private:
  static constexpr int kChunks = Shape::kTokenBytes / 16;
  static constexpr int kThreads = Shape::kGroupWarps * kWarpSize;
  static constexpr int kTokensAtOnce = kThreads / kChunks;
  static_assert(kTokensAtOnce % 2 == 0);  // or SwizzledBytes() would differ

  int from_, to_, tokens_left_;
};

// d's sums, which become zero.
__device__ __forceinline__ float4 Taken(float (&d)[4]) {
  const float4 sums = make_float4(d[0], d[1], d[2], d[3]);
  d[0] = d[1] = d[2] = d[3] = 0;
  return sums;
}

template <class Shape, class Store>
__global__ void __launch_bounds__(kManyThreads, Shape::kBlocksAtOnce)
    ManyTokensKernel(DenseProduct p, Store store) {
  constexpr int kRowTiles = Shape::kRowTiles, kTokenTiles = Shape::kTokenTiles;
  constexpr int kTokenWarps = Shape::kTokenWarps, kGroups = Shape::kGroups;
  using Weights = typename Shape::Weights;
  constexpr int kTileBytes = Weights::kTileBytes, kTileVectors = kTileBytes / kVectorBytes;
  const int lane = LaneIndex(), g = lane / 4, t = lane % 4;
  const int group = WarpIndex() / Shape::kGroupWarps;
  const int row_warp = WarpIndex() / kTokenWarps % Shape::kRowWarps;
  const int token_warp = WarpIndex() % kTokenWarps;
  const int block_token = static_cast<int>(blockIdx.x) * Shape::kTokens;
  const int first_tile = static_cast<int>(blockIdx.y) * Shape::kBlockTiles + row_warp * kRowTiles;

  int tiles[kRowTiles];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {  // past the last: the last again, not stored
    const int tile = first_tile + r < p.row_tiles ? first_tile + r : p.row_tiles - 1;
    tiles[r] = p.TileAt<Weights>(tile);
  }
  Weights weights[2][kRowTiles];
  const auto load = [&](int step, int c) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const uint8_t* tile = p.Vectors(tiles[r] + step * kTileVectors);
      weights[c][r] = kTokenWarps == 1 ? Weights::Load(tile, c) : Weights::LoadPlain(tile, c);
    }
  };

  StepCursor<kGroups> next(p.steps, group);
  if (next.HasStep()) {
    load(next.Step(), 0);
    load(next.Step(), 1);
  }
  if (p.prefetch && blockIdx.x == 0 && token_warp == 0 && lane < kRowTiles) {
#pragma unroll 1
    for (int s = group; s < kSegments; s += kGroups) {
      const int begin = SegmentBegin(p.steps, s), end = SegmentBegin(p.steps, s + 1);
      const int tile = first_tile + lane;
      if (begin == end || tile >= p.row_tiles) continue;
      PrefetchToL2(p.Vectors(p.TileAt<Weights>(tile) + begin * kTileVectors),
                   (end - begin) * kTileBytes);
    }
  }
  WaitForInputs();
  LetNextStart();
  // Of this lane's first vector in a step; that of the other 32 columns is 64 bytes off.
  const int lane_at = (token_warp * kTokenTiles * 8 + g) * Shape::kTokenBytes + SwizzledBytes(g, t);
  int buffer = group * Shape::kStepBytes;
  const StepCopy<Shape> copy(p, block_token);
  if (next.HasStep()) copy(p, next.Step(), buffer);

  float sums[kRowTiles][kTokenTiles][4] = {};
  // Of the segments so far: out of the registers, since they change eight times only; groups add
  // theirs by turns.
  const auto total = [&](int r, int n) -> float4& {
    auto* all = reinterpret_cast<float4*>(SharedMemory() + Shape::kTotalAt);
    return all[((WarpIndex() % Shape::kGroupWarps * kRowTiles + r) * kTokenTiles + n) * kWarpSize +
               lane];
  };
  if (group == 0) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) total(r, n) = make_float4(0, 0, 0, 0);
    }
  }
  while (!next.Done()) {
    CopyWait<0>();
    // The step has come to all of the group, and all are done with the one before.
    if constexpr (Shape::kGroupWarps == 1) {
      SyncWarp();
    } else {
      __syncthreads();
    }
    const bool has_step = next.HasStep(), ends_round = next.EndsRound();
    next.Advance();
    if (next.HasStep()) copy(p, next.Step(), buffer ^ Shape::kOtherBuffer);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (has_step) {
        const char* from = SharedMemory() + ((buffer + lane_at) ^ (64 * c));
        typename Weights::Decoded decoded[kRowTiles];
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) decoded[r] = weights[c][r].Decode();
        constexpr int kTogether = 2;  // token tiles whose sums are independent
#pragma unroll
        for (int n = 0; n < kTokenTiles; n += kTogether) {
          uint4 x[kTogether];
#pragma unroll
          for (int i = 0; i < kTogether; ++i) {
            x[i] = *reinterpret_cast<const uint4*>(from + 8 * (n + i) * Shape::kTokenBytes);
          }
          Weights::Multiply(sums, n, decoded, x);
        }
      }
      if (next.HasStep()) load(next.Step(), c);
    }
    buffer ^= Shape::kOtherBuffer;

    if (!ends_round) continue;
    for (int turn = 0; turn < kGroups; ++turn) {
      if (turn > 0) __syncthreads();
      if (turn != group) continue;
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) {
          float so_far[4] = {};
          Add(so_far, total(r, n));
          Add(so_far, Taken(sums[r][n]));
          total(r, n) = make_float4(so_far[0], so_far[1], so_far[2], so_far[3]);
        }
      }
    }
  }

  const int first_token = block_token + token_warp * kTokenTiles * 8;
  if constexpr (kGroups > 1) __syncthreads();  // a group stores what others added to
  // The groups have different tiles of tokens, or, where they are more than those, of rows too.
  constexpr int kTokenGroups = kGroups < kTokenTiles ? kGroups : kTokenTiles;
  constexpr int kRowGroups = kGroups / kTokenGroups, kOwn = kTokenTiles / kTokenGroups;
  constexpr int kAtOnce = kOwn < 4 ? kOwn : 4;
#pragma unroll 1
  for (int r = group / kTokenGroups; r < kRowTiles; r += kRowGroups) {
    if (first_tile + r >= p.row_tiles) break;
    const auto rows = store.Rows(first_tile + r);
    const float2 units = p.Units<Weights>(first_tile + r);
    const auto own = [&](int i) { return group % kTokenGroups + i * kTokenGroups; };
#pragma unroll 1
    for (int first = 0; first < kOwn; first += kAtOnce) {
      typename Store::LaneTokens tokens[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        tokens[i] = store.Load(rows, first_token + 8 * own(first + i) + 2 * t);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        float d[4] = {};
        Add(d, total(r, own(first + i)));
        Multiply(d, units);
        store(rows, tokens[i], d);
      }
    }
  }
}

template <class Shape, class Store>
void LaunchManyTokens(const DenseProduct& p, const Store& store, Stream stream) {
  const auto blocks = [](int size, int of) { return static_cast<unsigned>((size + of - 1) / of); };
  Launch(ManyTokensKernel<Shape, Store>,
         {dim3(blocks(p.num_tokens, Shape::kTokens), blocks(p.row_tiles, Shape::kBlockTiles)),
          kManyThreads, Shape::kSharedBytes},
         static_cast<cudaStream_t>(stream), p, store);
}

}  // namespace motet::cuda
