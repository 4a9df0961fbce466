// Writes into a cache of 8-bit integers. (Into one of half precision Qkv writes itself: a scale
// needs all of a head's columns, which no block of a matrix product has.)
#pragma once

#include <cstdint>

#include "cuda/memory.h"
#include "ops/ops.h"

namespace motet::cuda {

// Of the keys and values that Qkv leaves for this.
constexpr int64_t UnappendedKvBytes(int64_t num_tokens, int64_t kv_heads, int64_t head_dim) {
  return num_tokens * 2 * kv_heads * head_dim * static_cast<int64_t>(sizeof(float));
}

struct AppendInt8Args {
  int num_tokens;
  const int32_t* positions;  // [T]
  const int32_t* slots;      // [T] negative: no such token
  LayerCache cache;          // pages of int8_page.cuh
  const float* kv;           // [T, 2, kv_heads, head_dim], keys first
  int kv_heads;
  int head_dim;  // a multiple of 16 up to 128
};
void AppendInt8(const AppendInt8Args& args, Stream stream);

}  // namespace motet::cuda
