// Many tokens: each weight is read once for kTokens of them, and they, from shared memory, for the
// kRows rows of a block. Warps side by side have different rows; where that makes too few warps,
// groups of them have different segments of the columns.
#pragma once

#include "cuda/kernels/dense_product.cuh"
#include "cuda/launch.h"

namespace motet::cuda {

inline constexpr int kManyThreads = 256;

template <class WeightsOf, int kRowWarpsOf8, int kRowTilesOf16, int kTokenTilesOf8>
struct ManyShape {
  using Weights = WeightsOf;
  static constexpr int kRowWarps = kRowWarpsOf8, kRowTiles = kRowTilesOf16,
                       kTokenTiles = kTokenTilesOf8;
  static constexpr int kGroups = kManyThreads / kWarpSize / kRowWarps;
  static constexpr int kBlockTiles = kRowWarps * kRowTiles;
  static constexpr int kRows = kBlockTiles * kTileRows, kTokens = 8 * kTokenTiles;
  static constexpr int kTokenBytes = kStepColumns * 2;
  static constexpr int kStepBytes = kTokens * kTokenBytes;  // a step's columns of a group
  static constexpr int kTotalAt = 2 * kGroups * kStepBytes;  // two buffers come first
  static constexpr int kSharedBytes = kTotalAt + kRows * kTokens * 4;
  static_assert(kSharedBytes <= kSharedEverywhere);
  static constexpr int kBlocksAtOnce = kRowTiles * kTokenTiles > 8 ? 1 : 2;  // by registers
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
  __device__ __forceinline__ bool EndsRound() const { return left_ == 1; }
  __device__ __forceinline__ bool HasStep() const { return !Done() && step_ < end_; }
  __device__ __forceinline__ int Step() const { return step_; }
  __device__ __forceinline__ void Advance() {
    ++step_;
    if (--left_ > 0) return;
    first_ += kGroups;
    StartRound();
  }

 private:
  // Of the first round from first_ that has steps.
  __device__ __forceinline__ void StartRound() {
#pragma unroll 1
    for (; first_ < kSegments; first_ += kGroups) {
      left_ = 0;
#pragma unroll
      for (int s = 0; s < kGroups; ++s) {
        const int begin = SegmentBegin(steps_, first_ + s),
                  end = SegmentBegin(steps_, first_ + s + 1);
        left_ = end - begin > left_ ? end - begin : left_;
        if (s == group_) {
          step_ = begin;
          end_ = end;
        }
      }
      if (left_ > 0) break;
    }
  }

  int steps_, group_;
  int first_ = 0, step_ = 0, end_ = 0;
  int left_ = 0;  // iterations of the round
};

// Where `chunk` of 16 bytes of a token is: halves of 64 bytes change places in odd tokens, so that
// the lanes of a warp find theirs in different banks.
__device__ __forceinline__ int SwizzledBytes(int token, int chunk) {
  return 16 * (chunk ^ (4 * (token & 1)));
}

// This thread's share, of the kThreads of its group, of copying a step.
template <class Shape>
__device__ __forceinline__ void CopyStep(const DenseProduct& p, int first_token, int step,
                                         int thread, char* to) {
  constexpr int kChunks = Shape::kTokenBytes / 16, kThreads = Shape::kRowWarps * kWarpSize;
  constexpr int kTokensAtOnce = kThreads / kChunks;
  static_assert(kTokensAtOnce % 2 == 0);
  const int chunk = thread % kChunks, token = thread / kChunks;
  // 32 bits: 64 would take more registers than there are. So for weights below.
  const int stride = static_cast<int>(p.in.stride);
  const int from = (first_token + token) * stride + kStepColumns * step + 8 * chunk;
  to += token * Shape::kTokenBytes + SwizzledBytes(token, chunk);
#pragma unroll
  for (int i = 0; i < Shape::kTokens / kTokensAtOnce; ++i) {
    CopyAsync16(to + i * kTokensAtOnce * Shape::kTokenBytes,
                p.in.data + from + i * kTokensAtOnce * stride,
                first_token + token + i * kTokensAtOnce < p.num_tokens);
  }
  CopyCommit();
}

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
  constexpr int kRowWarps = Shape::kRowWarps, kGroups = Shape::kGroups;
  using Weights = typename Shape::Weights;
  constexpr int kTileBytes = Weights::kTileBytes, kTileVectors = kTileBytes / kVectorBytes;
  const int lane = LaneIndex(), g = lane / 4, t = lane % 4;
  const int group = WarpIndex() / kRowWarps, row_warp = WarpIndex() % kRowWarps;
  const int thread = static_cast<int>(threadIdx.x) % (kRowWarps * kWarpSize);
  const int first_token = static_cast<int>(blockIdx.x) * Shape::kTokens;
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
      weights[c][r] = Weights::Load(p.Vectors(tiles[r] + step * kTileVectors), c);
    }
  };

  StepCursor<kGroups> next(p.steps, group);
  if (next.HasStep()) {
    load(next.Step(), 0);
    load(next.Step(), 1);
  }
  if (p.prefetch && blockIdx.x == 0 && lane < kRowTiles) {
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
  const int lane_at = g * Shape::kTokenBytes + SwizzledBytes(g, t);
  int buffer = group * Shape::kStepBytes;
  const int both_buffers = 2 * buffer + kGroups * Shape::kStepBytes;
  if (next.HasStep()) {
    CopyStep<Shape>(p, first_token, next.Step(), thread, SharedMemory() + buffer);
  }

  float sums[kRowTiles][kTokenTiles][4] = {};
  // Of the segments so far: out of the registers, since they change eight times only; groups add
  // theirs by turns.
  bool first_round = true;
  const auto total = [&](int r, int n) -> float4& {
    auto* all = reinterpret_cast<float4*>(SharedMemory() + Shape::kTotalAt);
    return all[((row_warp * kRowTiles + r) * kTokenTiles + n) * kWarpSize + lane];
  };
  while (!next.Done()) {
    CopyWait<0>();
    __syncthreads();  // the step has come to all, and all are done with the one before
    const bool has_step = next.HasStep(), ends_round = next.EndsRound();
    next.Advance();
    if (next.HasStep()) {
      CopyStep<Shape>(p, first_token, next.Step(), thread, SharedMemory() + both_buffers - buffer);
    }
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
    buffer = both_buffers - buffer;

    if (!ends_round) continue;
    for (int turn = 0; turn < kGroups; ++turn) {
      if (turn > 0) __syncthreads();
      if (turn != group) continue;
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) {
          float so_far[4] = {};
          if (group > 0 || !first_round) Add(so_far, total(r, n));
          Add(so_far, Taken(sums[r][n]));
          total(r, n) = make_float4(so_far[0], so_far[1], so_far[2], so_far[3]);
        }
      }
    }
    first_round = false;
  }

  if constexpr (kGroups > 1) __syncthreads();  // a group stores what others added to
  constexpr int kOwn = kTokenTiles / kGroups, kAtOnce = kOwn < 4 ? kOwn : 4;
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    if (first_tile + r >= p.row_tiles) break;
    const auto rows = store.Rows(first_tile + r);
    const float2 units = p.Units<Weights>(first_tile + r);
#pragma unroll
    for (int first = 0; first < kOwn; first += kAtOnce) {
      typename Store::LaneTokens tokens[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        tokens[i] = store.Load(rows, first_token + 8 * (group + (first + i) * kGroups) + 2 * t);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        float d[4] = {};
        Add(d, total(r, group + (first + i) * kGroups));
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
