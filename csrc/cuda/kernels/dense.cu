#include "cuda/kernels/dense.h"

#include <initializer_list>

#include "base/page.h"
#include "cuda/device.h"
#include "cuda/kernels/dense_few.cuh"
#include "cuda/kernels/dense_many.cuh"

namespace motet::cuda {
namespace {

using Shape64x32 = ManyShape<2, 2, 4>;
using Shape128x64 = ManyShape<4, 2, 8>;
using Shape256x64 = ManyShape<8, 2, 8>;

__device__ __forceinline__ float Bf16At(const uint16_t* p, int64_t i) {
  return BitsToFloat(uint32_t{p[i]} << 16);
}

__device__ __forceinline__ uint16_t SaturatedF16(float x) {
  constexpr float kLargest = 65504;
  const float y = x > kLargest ? kLargest : x < -kLargest ? -kLargest : x;  // NaN stays
  return static_cast<uint16_t>(PackF16(y, 0));
}

struct StoreQkv {
  QkvArgs a;
  int first_k, first_v;  // row tiles

  __device__ __forceinline__ void operator()(int tile, int token, const float (&sums)[4]) const {
    const int tiles_per_head = static_cast<int>(a.head_dim) / kTileRows, g = LaneIndex() / 4;
    const bool is_q = tile < first_k, is_v = tile >= first_v;
    tile -= is_q ? 0 : is_v ? first_v : first_k;
    const int head = tile / tiles_per_head, j = tile % tiles_per_head;
    const int row = is_v ? kTileRows * j + g : 8 * j + g;  // of the head
    const int distance = is_v ? 8 : static_cast<int>(a.head_dim) / 2;
    const uint16_t* bias = (is_q ? a.q_bias : is_v ? a.v_bias : a.k_bias) + head * a.head_dim;
    const float bias0 = Bf16At(bias, row), bias1 = Bf16At(bias, row + distance);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (token + i >= a.num_tokens) return;
      float x = sums[i] + bias0, y = sums[2 + i] + bias1;
      if (!is_v) Rotate(x, y, (token + i) * (a.head_dim / 2) + row);
      uint16_t* out = is_q ? a.out_q + ((token + i) * a.heads + head) * a.head_dim
                           : CacheRow(is_v ? a.values : a.keys, token + i, head);
      if (!out) continue;
      out[row] = SaturatedF16(x);
      out[row + distance] = SaturatedF16(y);
    }
  }

  // Written so that there is one way to fuse products and sums, whatever kernel this is part of.
  __device__ __forceinline__ void Rotate(float& x, float& y, int64_t angle) const {
    const float cos = a.cos[angle], sin = a.sin[angle];
    const float rotated = fmaf(x, cos, -(y * sin));
    y = fmaf(y, cos, x * sin);
    x = rotated;
  }

  // Where the cache has the token's head; null for padding.
  __device__ __forceinline__ uint16_t* CacheRow(uint16_t* pages, int token, int head) const {
    const int slot = a.slots[token], position = a.positions[token];
    if (slot < 0) return nullptr;
    const int64_t page = a.page_table[slot * a.pages_per_sequence + position / kPageTokens];
    const int64_t row = (page * a.kv_heads + head) * kPageTokens + position % kPageTokens;
    return pages + row * a.head_dim;
  }
};

struct StoreOutProj {
  OutProjArgs a;

  __device__ __forceinline__ void operator()(int tile, int token, const float (&sums)[4]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int64_t row = kTileRows * tile + LaneIndex() / 4 + 8 * r;
      if (row >= a.weight.rows) return;
      const float bias = Bf16At(a.bias, row);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (token + i < a.num_tokens) {
          a.x[(token + i) * a.weight.rows + row] += sums[2 * r + i] + bias;
        }
      }
    }
  }
};

struct StoreLogits {
  LmHeadArgs a;

  __device__ __forceinline__ void operator()(int tile, int token, const float (&sums)[4]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int64_t row = kTileRows * tile + LaneIndex() / 4 + 8 * r;
      if (row >= a.weight.rows) return;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (token + i < a.num_rows) a.logits[(token + i) * a.weight.rows + row] = sums[2 * r + i];
      }
    }
  }
};

const DeviceProperties& Device() {
  static const DeviceProperties device = Devices().at(0);
  return device;
}

// Matrices one below the other; all but the last have whole tiles of rows.
DenseProduct Product(int num_tokens, const Rows& in, std::initializer_list<WeightMatrix> matrices) {
  DenseProduct p{num_tokens, static_cast<int>(in.stride / kStepColumns), 0, false, in, {}, {}};
  int i = 0;
  for (const WeightMatrix& matrix : matrices) {
    p.weights[i] = matrix.data;
    p.first_tile[i++] = p.row_tiles;
    p.row_tiles += static_cast<int>((matrix.rows + kTileRows - 1) / kTileRows);
  }
  for (; i < DenseProduct::kMatrices; ++i) p.first_tile[i] = p.row_tiles;
  p.prefetch = p.row_tiles * p.steps * kBf16TileBytes <= Device().l2_bytes * 2 / 3;
  return p;
}

// The shape that takes the least time if all blocks of one take the same, as many at a time as
// there are multiprocessors.
DenseShape BestShape(const DenseProduct& p) {
  if (p.num_tokens <= kFewTokens) return DenseShape::k16x8;
  if (p.num_tokens <= Shape64x32::kTokens) return DenseShape::k64x32;
  struct Candidate {
    DenseShape shape;
    int rows, tokens;
    int time;  // of a block: arithmetic, and bytes of a step by the second-level cache's rate
  };
  constexpr Candidate kCandidates[] = {
      {DenseShape::k256x64, Shape256x64::kRows, Shape256x64::kTokens, 7},
      {DenseShape::k128x64, Shape128x64::kRows, Shape128x64::kTokens, 4},
      {DenseShape::k64x32, Shape64x32::kRows, Shape64x32::kTokens, 2},
  };
  const auto quotient = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  DenseShape best = DenseShape::kAuto;
  int64_t least = 0;
  for (const Candidate& c : kCandidates) {
    const int64_t blocks =
        quotient(p.row_tiles * kTileRows, c.rows) * quotient(p.num_tokens, c.tokens);
    const int64_t time = c.time * quotient(blocks, Device().multiprocessors);
    if (best != DenseShape::kAuto && time >= least) continue;
    best = c.shape;
    least = time;
  }
  return best;
}

template <class Store>
void Run(const DenseProduct& p, const Store& store, DenseShape shape, Stream stream) {
  if (p.num_tokens == 0) return;
  if (shape == DenseShape::kAuto) shape = BestShape(p);
  switch (shape) {
    case DenseShape::k256x64:
      return LaunchManyTokens<Shape256x64>(p, store, stream);
    case DenseShape::k128x64:
      return LaunchManyTokens<Shape128x64>(p, store, stream);
    case DenseShape::k64x32:
      return LaunchManyTokens<Shape64x32>(p, store, stream);
    default:
      return LaunchFewTokens(p, store, stream);
  }
}

}  // namespace

void Qkv(const QkvArgs& args, Stream stream) {
  const DenseProduct p = Product(args.num_tokens, args.in, {args.q, args.k, args.v});
  Run(p, StoreQkv{args, p.first_tile[1], p.first_tile[2]}, args.shape, stream);
}

void OutProj(const OutProjArgs& args, Stream stream) {
  Run(Product(args.num_tokens, args.in, {args.weight}), StoreOutProj{args}, args.shape, stream);
}

void LmHead(const LmHeadArgs& args, Stream stream) {
  Run(Product(args.num_rows, args.in, {args.weight}), StoreLogits{args}, args.shape, stream);
}

}  // namespace motet::cuda
