// The inner loops, compiled once an instruction set. A table holds one set's functions; every
// function runs on one thread, allocates nothing and never throws.
//
// Each output is summed in one fixed order over its input axis, the same for every number of
// tokens, split of rows and thread: a token's result is the same bits alone or in a batch.
#pragma once

#include <cstdint>

#include "base/fixed.h"
#include "base/matrix.h"
#include "base/page.h"

namespace motet {

// out[t, r - row_begin] = sum_k W[r, k] * x[t, k] + bias[r]   for rows [row_begin, row_end)
// Token t reads row x_rows[t] of x (t where x_rows is null) and writes row t of out.
struct MatmulArgs {
  WeightMatrix weight;
  Bf16Vector bias;  // [rows], or null
  int64_t row_begin, row_end;
  int tokens;
  const float* x;         // [*, x_stride], cols of each used
  int64_t x_stride;       // floats
  const int32_t* x_rows;  // [tokens], or null
  float* out;             // [tokens, out_stride], row_end - row_begin of each written
  int64_t out_stride;     // floats
};

// x as a row of integers, see base/fixed.h.
struct QuantizeArgs {
  const float* x;  // [size]
  int64_t size;
  WeightFormat weights;  // what it will be multiplied by
  FixedRows out;         // one row; the scale of a block with a NaN or an infinity is NaN
};

// As MatmulArgs, for x as integers and weights with scales.
struct FixedMatmulArgs {
  WeightMatrix weight;
  Bf16Vector bias;  // [rows], or null
  int64_t row_begin, row_end;
  int tokens;
  FixedRows x;            // of weight.cols values
  const int32_t* x_rows;  // [tokens], or null
  float* out;             // [tokens, out_stride], row_end - row_begin of each written
  int64_t out_stride;     // floats
};

// out = x / sqrt(mean(x^2) + eps) * weight
struct RmsNormArgs {
  const float* x;     // [size]
  Bf16Vector weight;  // [size]
  int64_t size;
  float eps;
  float* out;  // [size]
};

// Rotates the halves (i, i + head_dim/2) of each head in place.
struct RopeArgs {
  float* x;          // [heads, head_dim]
  const float* cos;  // [head_dim/2]
  const float* sin;  // [head_dim/2]
  int64_t heads, head_dim;
};

// out[i] = (u + 1) * g * sigmoid(1.702 g), g = min(gate_up[2i], limit), u = clamp(gate_up[2i+1])
struct SwigluArgs {
  const float* gate_up;  // [2 * size], gate and up alternating
  float* out;            // [size]
  int64_t size;
  float limit;
};

// Attention of one token's heads that share a KV head, over key positions [first, last].
// Keys and values are one KV head's parts of the cache's pages, see ops/kv_page.h.
struct AttentionArgs {
  const float* q;        // [heads, head_dim]
  const void* keys;      // page p of this KV head starts at p * page_stride bytes
  const void* values;    // the same
  int64_t page_stride;   // bytes
  const int32_t* pages;  // [last / kPageTokens + 1] page of each run of positions
  int64_t first, last;
  Bf16Vector sinks;  // [heads]: a logit that takes part in the softmax and has no value
  int64_t heads, head_dim;
  float scale;
  float* out;  // [heads, head_dim]
};

struct KernelTable {
  const char* name;
  void (*matmul)(const MatmulArgs&);
  void (*matmul_fixed)(const FixedMatmulArgs&);  // x and weights of 16 bits
  void (*quantize_fixed)(const QuantizeArgs&);
  void (*matmul_int8)(const FixedMatmulArgs&);  // of 8 bits
  void (*quantize_int8)(const QuantizeArgs&);
  void (*rms_norm)(const RmsNormArgs&);
  void (*rope)(const RopeArgs&);
  void (*swiglu)(const SwigluArgs&);
  void (*attention_f16)(const AttentionArgs&);  // cache of half precision
  void (*attention_f32)(const AttentionArgs&);  // cache of float32
  void (*attention_int8)(const AttentionArgs&);
  int64_t (*peak_fixed_dots)(int64_t rounds);  // see peak.inl
  int64_t (*peak_int8_dots)(int64_t rounds);
};

// Null where this build has no such kernels.
const KernelTable* PortableKernels();
const KernelTable* Avx2Kernels();
const KernelTable* Avx512Kernels();      // F, BW, VL
const KernelTable* Avx512VnniKernels();  // those and VNNI
const KernelTable* AmxKernels();         // all those, AMX-TILE and AMX-INT8
const KernelTable* NeonKernels();
const KernelTable* NeonDotprodKernels();

inline constexpr int64_t kMaxHeadDim = 256;

}  // namespace motet
