// Where the sums of dense.cu go. A lane has rows g and g + 8 of a row tile and two tokens:
//
//   Rows(tile)            what the lane needs of its rows
//   Load(rows, token)     what it needs of `token` and the next, with the rows; at best long before
//                         the sums are there
//   operator()(rows, tokens, sums)   stores; sums as MmaF16 has them, times units
#pragma once

#include "base/page.h"
#include "cuda/kernels/dense.h"
#include "cuda/kernels/pack.h"
#include "cuda/primitives.h"

namespace motet::cuda {

__device__ __forceinline__ uint16_t SaturatedF16(float x) {
  constexpr float kLargest = 65504;
  const float y = x > kLargest ? kLargest : x < -kLargest ? -kLargest : x;  // NaN stays
  return static_cast<uint16_t>(PackF16(y, 0));
}

// kCached: keys and values go into the cache, otherwise to args.kv.
template <bool kCached>
struct StoreQkv {
  QkvArgs a;
  int first_k, first_v;  // row tiles

  struct LaneRows {
    float bias[2];
    uint16_t* out;  // the first row, of token 0 or of the first place in page 0
    int64_t row_of_kv;
    int row;       // the first, of the head
    int distance;  // of the second
    bool cached, rotated;
  };
  struct LaneTokens {
    float cos[2], sin[2];
    uint16_t* out[2];  // null: not stored
    float* kv[2];      // the same
  };

  __device__ __forceinline__ LaneRows Rows(int tile) const {
    const int head_dim = static_cast<int>(a.head_dim), tiles_per_head = head_dim / kTileRows;
    const bool is_q = tile < first_k, is_v = tile >= first_v;
    tile -= is_q ? 0 : is_v ? first_v : first_k;
    const int head = tile / tiles_per_head, j = tile % tiles_per_head;
    LaneRows r;
    r.row = (is_v ? kTileRows : 8) * j + LaneIndex() / 4;
    r.distance = is_v ? 8 : head_dim / 2;
    r.cached = !is_q;
    r.rotated = !is_v;
    if constexpr (kCached) {
      r.out = (is_q   ? a.out_q
               : is_v ? a.values
                      : a.keys) +
              r.row + head * a.head_dim * (r.cached ? kPageTokens : 1);
    } else {
      r.out = a.out_q + r.row + head * a.head_dim;
      r.row_of_kv = r.row + (is_v ? a.kv_heads + head : head) * a.head_dim;
    }
    const uint16_t* bias = (is_q ? a.q_bias : is_v ? a.v_bias : a.k_bias) + head * a.head_dim;
    r.bias[0] = Bf16Value(bias[r.row]);
    r.bias[1] = Bf16Value(bias[r.row + r.distance]);
    return r;
  }

  __device__ __forceinline__ LaneTokens Load(const LaneRows& r, int token) const {
    LaneTokens tokens{};
#pragma unroll
    for (int i = 0; i < 2; ++i, ++token) {
      if (token >= a.num_tokens) break;
      if (r.rotated) {
        const int64_t angle = token * (a.head_dim / 2) + r.row;
        tokens.cos[i] = a.cos[angle];
        tokens.sin[i] = a.sin[angle];
      }
      if (!r.cached) {
        tokens.out[i] = r.out + token * a.heads * a.head_dim;
        continue;
      }
      if constexpr (kCached) {
        const int slot = a.slots[token], position = a.positions[token];
        if (slot < 0) continue;
        const int64_t page = a.page_table[slot * a.pages_per_sequence + position / kPageTokens];
        const int64_t place = page * a.kv_heads * kPageTokens + position % kPageTokens;
        tokens.out[i] = r.out + place * a.head_dim;
      } else {
        tokens.kv[i] = a.kv + token * 2 * a.kv_heads * a.head_dim + r.row_of_kv;
      }
    }
    return tokens;
  }

  // Products and sums can be fused in one way only, whatever kernel this is part of.
  __device__ __forceinline__ void operator()(const LaneRows& r, const LaneTokens& tokens,
                                             const float (&sums)[4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!tokens.out[i] && !tokens.kv[i]) continue;
      const float x = sums[i] + r.bias[0], y = sums[2 + i] + r.bias[1];
      const float rotated_x = fmaf(x, tokens.cos[i], -(y * tokens.sin[i]));
      const float rotated_y = fmaf(y, tokens.cos[i], x * tokens.sin[i]);
      const float first = r.rotated ? rotated_x : x, second = r.rotated ? rotated_y : y;
      if (tokens.kv[i]) {
        tokens.kv[i][0] = first;
        tokens.kv[i][r.distance] = second;
      } else {
        tokens.out[i][0] = SaturatedF16(first);
        tokens.out[i][r.distance] = SaturatedF16(second);
      }
    }
  }
};

struct StoreOutProj {
  OutProjArgs a;

  struct LaneRows {
    int64_t row;
    bool valid[2];
    float bias[2];
  };
  struct LaneTokens {
    float x[2][2];  // of rows and tokens
    float* out[2];  // the first row; null: not stored
  };

  __device__ __forceinline__ LaneRows Rows(int tile) const {
    LaneRows r{};
    r.row = kTileRows * tile + LaneIndex() / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      r.valid[i] = r.row + 8 * i < a.weight.rows;
      if (r.valid[i]) r.bias[i] = Bf16Value(a.bias[r.row + 8 * i]);
    }
    return r;
  }

  __device__ __forceinline__ LaneTokens Load(const LaneRows& r, int token) const {
    LaneTokens tokens{};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!r.valid[0] || token + i >= a.num_tokens) break;
      tokens.out[i] = a.x + (token + i) * a.weight.rows + r.row;
      tokens.x[0][i] = tokens.out[i][0];
      if (r.valid[1]) tokens.x[1][i] = tokens.out[i][8];
    }
    return tokens;
  }

  __device__ __forceinline__ void operator()(const LaneRows& r, const LaneTokens& tokens,
                                             const float (&sums)[4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!tokens.out[i]) continue;
      tokens.out[i][0] = tokens.x[0][i] + (sums[i] + r.bias[0]);
      if (r.valid[1]) tokens.out[i][8] = tokens.x[1][i] + (sums[2 + i] + r.bias[1]);
    }
  }
};

struct StoreLogits {
  LmHeadArgs a;

  struct LaneRows {
    int64_t row;
  };
  struct LaneTokens {
    int token;
  };

  __device__ __forceinline__ LaneRows Rows(int tile) const {
    return {kTileRows * tile + LaneIndex() / 4};
  }
  __device__ __forceinline__ LaneTokens Load(const LaneRows&, int token) const { return {token}; }

  __device__ __forceinline__ void operator()(const LaneRows& r, const LaneTokens& tokens,
                                             const float (&sums)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t row = r.row + 8 * (i / 2);
      const int token = tokens.token + i % 2;
      if (row < a.weight.rows && token < a.num_rows) {
        a.logits[token * a.weight.rows + row] = sums[i];
      }
    }
  }
};

}  // namespace motet::cuda
