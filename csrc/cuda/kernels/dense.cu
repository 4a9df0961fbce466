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

  struct Operands {
    float bias[2];         // of the lane's rows
    float cos[2], sin[2];  // of its tokens
    uint16_t* out[2];      // the lane's first row of its tokens; null: not stored
    int64_t distance;      // of the rows
    bool rotated;
  };

  __device__ __forceinline__ Operands Load(int tile, int token) const {
    const int tiles_per_head = static_cast<int>(a.head_dim) / kTileRows, g = LaneIndex() / 4;
    const bool is_q = tile < first_k, is_v = tile >= first_v;
    tile -= is_q ? 0 : is_v ? first_v : first_k;
    const int head = tile / tiles_per_head, j = tile % tiles_per_head;
    const int row = is_v ? kTileRows * j + g : 8 * j + g;  // of the head
    const uint16_t* bias = (is_q ? a.q_bias : is_v ? a.v_bias : a.k_bias) + head * a.head_dim + row;
    Operands o{};
    o.rotated = !is_v;
    o.distance = is_v ? 8 : a.head_dim / 2;
    o.bias[0] = Bf16At(bias, 0);
    o.bias[1] = Bf16At(bias, o.distance);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (token + i >= a.num_tokens) break;
      if (!is_v) {
        const int64_t angle = (token + i) * (a.head_dim / 2) + row;
        o.cos[i] = a.cos[angle];
        o.sin[i] = a.sin[angle];
      }
      uint16_t* out = is_q ? a.out_q + ((token + i) * a.heads + head) * a.head_dim
                           : CacheRow(is_v ? a.values : a.keys, token + i, head);
      o.out[i] = out ? out + row : nullptr;
    }
    return o;
  }

  // Products and sums can be fused in one way only, whatever kernel this is part of.
  __device__ __forceinline__ void operator()(const Operands& o, const float (&sums)[4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!o.out[i]) continue;
      const float x = sums[i] + o.bias[0], y = sums[2 + i] + o.bias[1];
      const float rotated_x = fmaf(x, o.cos[i], -(y * o.sin[i]));
      const float rotated_y = fmaf(y, o.cos[i], x * o.sin[i]);
      o.out[i][0] = SaturatedF16(o.rotated ? rotated_x : x);
      o.out[i][o.distance] = SaturatedF16(o.rotated ? rotated_y : y);
    }
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

  struct Operands {
    float bias[2];  // of the lane's rows
    float x[2][2];  // of its rows and tokens
    float* out[2];  // the first row of its tokens; null: not stored
    bool second;    // whether there is a second row
  };

  __device__ __forceinline__ Operands Load(int tile, int token) const {
    Operands o{};
    const int64_t row = kTileRows * tile + LaneIndex() / 4;
    if (row >= a.weight.rows) return o;
    o.second = row + 8 < a.weight.rows;
    o.bias[0] = Bf16At(a.bias, row);
    if (o.second) o.bias[1] = Bf16At(a.bias, row + 8);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (token + i >= a.num_tokens) break;
      o.out[i] = a.x + (token + i) * a.weight.rows + row;
      o.x[0][i] = o.out[i][0];
      if (o.second) o.x[1][i] = o.out[i][8];
    }
    return o;
  }

  __device__ __forceinline__ void operator()(const Operands& o, const float (&sums)[4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!o.out[i]) continue;
      o.out[i][0] = o.x[0][i] + (sums[i] + o.bias[0]);
      if (o.second) o.out[i][8] = o.x[1][i] + (sums[2 + i] + o.bias[1]);
    }
  }
};

struct StoreLogits {
  LmHeadArgs a;

  struct Operands {
    int tile, token;
  };

  __device__ __forceinline__ Operands Load(int tile, int token) const { return {tile, token}; }

  __device__ __forceinline__ void operator()(const Operands& o, const float (&sums)[4]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int64_t row = kTileRows * o.tile + LaneIndex() / 4 + 8 * r;
      if (row >= a.weight.rows) return;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int token = o.token + i;
        if (token < a.num_rows) a.logits[token * a.weight.rows + row] = sums[2 * r + i];
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
