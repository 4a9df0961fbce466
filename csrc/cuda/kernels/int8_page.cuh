// Pages of 8-bit integers on the GPU: the integers and scales of ops/kv_page.h in the order in
// which attention's lanes read them. A KV head's part of a page is
//
//   [head_dim / 16] blocks of 16 columns, where each lane = 4 g + t of a warp has 16 bytes: four
//     words, each operand B of an mma (m16n8k16), elements 2t, 2t + 1, 2t + 8, 2t + 9 in turn
//       keys    word n       these columns of token 8 n + g
//       values  word 2h + k  these of tokens 16 k to 16 k + 15, in column 8 h + g
//   [kPageTokens] float, the scale of each token
//
// A byte is the integer plus 128: that way one instruction puts two of them into the mantissas of a
// pair of half-precision numbers.
#pragma once

#include "base/page.h"
#include "cuda/primitives.h"

namespace motet::cuda {

constexpr __host__ __device__ __forceinline__ int Int8HeadBytes(int head_dim) {
  return kPageTokens * (head_dim + static_cast<int>(sizeof(float)));
}

// In the word of lane 4 g + element % 8 / 2.
constexpr __host__ __device__ __forceinline__ int Int8ByteOfWord(int element) {
  return element % 16 / 8 * 2 + element % 2;
}
// Which byte of its head's part a key, or a value, is.
constexpr __host__ __device__ __forceinline__ int Int8KeyAt(int token, int column) {
  const int lane = token % 8 * 4 + column % 8 / 2, word = token / 8;
  return (column / 16 * kWarpSize + lane) * 16 + word * 4 + Int8ByteOfWord(column);
}
constexpr __host__ __device__ __forceinline__ int Int8ValueAt(int token, int column) {
  const int lane = column % 8 * 4 + token % 8 / 2, word = column % 16 / 8 * 2 + token / 16;
  return (column / 16 * kWarpSize + lane) * 16 + word * 4 + Int8ByteOfWord(token);
}

}  // namespace motet::cuda
