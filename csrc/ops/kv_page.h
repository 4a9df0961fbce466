// The KV cache's format. A page is the keys, or the values, that all KV heads of one layer have of
// kPageTokens tokens: one run of bytes, a part for each KV head after the other.
//
//   keys    [head_dim, kPageTokens] elements, after RoPE
//   values  [kPageTokens, head_dim] elements
//   kInt8   then [kPageTokens] float, the scale of each token:        number = integer * scale
//
// A token's scale is its largest magnitude by 127; integers are rounded to nearest, ties to even.
// Zeros have the scale 0. An infinity counts as half precision's largest number and NaN as 0, so
// that scales are finite and what is wrong with one token is no other's.
#pragma once

#include <cstdint>

#include "base/page.h"
#include "model/config.h"

namespace motet {

// Of the keys, or of the values, of one KV head.
inline int64_t KvHeadBytes(int64_t head_dim, KvDtype dtype) {
  const int64_t elements = head_dim * kPageTokens, scales = kPageTokens * sizeof(float);
  if (dtype == KvDtype::kInt8) return elements + scales;
  return elements * (dtype == KvDtype::kF32 ? 4 : 2);
}

// Of a page.
inline int64_t KvPageBytes(const ModelConfig& config, KvDtype dtype) {
  return config.num_kv_heads * KvHeadBytes(config.head_dim, dtype);
}

}  // namespace motet
