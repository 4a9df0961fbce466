// Products with the weights outside of experts, bf16 or int8. They are packed (pack.h).
//
// An output has the same bits alone and in any batch, and with every shape of kernel.
#pragma once

#include <cstdint>

#include "base/matrix.h"
#include "cuda/memory.h"
#include "cuda/rows.h"

namespace motet::cuda {

// Rows of weights x tokens that a block of threads multiplies.
enum class DenseShape {
  kAuto,  // by the sizes
  k16x8,  // at most 8 tokens
  k32x32,
  k64x64,
  k128x128,
  // By warpgroups, where HasWarpgroups() and weights have no scales of blocks. Not chosen by kAuto
  // before it has been seen right on a GPU at full size.
  kWide128x64,
};

// q = rope(in Wq + bq); rope(in Wk + bk) and in Wv + bv go into the cache. All as half precision,
// where what is too large becomes the largest number. Or keys and values are left as they are, to
// be appended by a kernel that comes next.
struct QkvArgs {
  int num_tokens;
  Rows in;  // [T, hidden]
  int64_t heads, kv_heads;
  int64_t head_dim;        // a multiple of 16
  WeightMatrix q, k, v;    // [heads * head_dim, hidden], [kv_heads * head_dim, hidden] twice, in
                           // one piece of memory; q and k in RowOrder::kRope
  const uint16_t* q_bias;  // [rows] bf16 each
  const uint16_t* k_bias;
  const uint16_t* v_bias;
  const float* cos;          // [T, head_dim/2]
  const float* sin;          // [T, head_dim/2]
  const int32_t* positions;  // [T]
  const int32_t* slots;  // [T] row of the page table; negative: no such token, nothing is cached
  const int32_t* page_table;  // [*, pages_per_sequence]
  int64_t pages_per_sequence;
  uint16_t* out_q;   // [T, heads, head_dim]
  uint16_t* keys;    // [pages, kv_heads, kPageTokens, head_dim]
  uint16_t* values;  // the same
  float* kv;         // null: into the cache; or [T, 2, kv_heads, head_dim], keys first
  DenseShape shape = DenseShape::kAuto;
};
void Qkv(const QkvArgs& args, Stream stream);

// x += in W + bias
struct OutProjArgs {
  int num_tokens;
  Rows in;               // [T, cols]
  WeightMatrix weight;   // [hidden, cols]
  const uint16_t* bias;  // [hidden] bf16
  float* x;              // [T, hidden]
  DenseShape shape = DenseShape::kAuto;
};
void OutProj(const OutProjArgs& args, Stream stream);

// logits = in W
struct LmHeadArgs {
  int num_rows;
  Rows in;              // [num_rows, hidden]
  WeightMatrix weight;  // [vocab, hidden]
  float* logits;        // [num_rows, vocab]
  DenseShape shape = DenseShape::kAuto;
};
void LmHead(const LmHeadArgs& args, Stream stream);

}  // namespace motet::cuda
