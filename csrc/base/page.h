// The unit in which the KV cache is owned, shared and given back.
#pragma once

#include <cstdint>

namespace motet {

// Attention takes pages whole, aligned to absolute positions, so this also fixes the order of its
// sums; 32 keys fill four AVX2 registers and one 64-byte line of bf16 a dimension.
inline constexpr int kPageTokens = 32;

// A page to be copied, in every layer of its kind.
struct PageCopy {
  int32_t from, to;
};

}  // namespace motet
