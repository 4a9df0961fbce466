// Matrix products in exact mode: 16-bit integers a block, whose products add up exactly.
//
// A block is 32 numbers that follow each other along the input axis, as in MXFP4: integers that
// share a power of two.                                                  number = integer * scale
//   x, bf16 weights   the largest magnitude lies in [2^14, 2^15), and is halved, all others with
//   it,
//                     once or twice where the block's Euclidean norm would exceed 2^15.5
//   MXFP4 weights     twice their codes: 0 1 2 3 4 6 8 12
// By Cauchy and Schwarz a block's products, or any part of them, add up to less than 2^31: exactly,
// in any order, with the same bits on every instruction set. Normal numbers lose a hundredth of
// what rounding to bf16 costs them; bf16 weights above a 64th of their block's largest lose
// nothing.
#pragma once

#include <cstdint>

#include "base/matrix.h"

namespace motet {

inline constexpr int kFixedBlockSize = 32;  // values
inline constexpr int kFixedGroup = 4;       // blocks whose integers a kernel may order as it likes
inline constexpr int kFixedBits = 15;       // of the largest magnitude, before halving

// Squares of norms, of integers not yet rounded, above which all are halved: once, twice. Short of
// 2^31 by more than rounding adds.
inline constexpr float kHalvedAbove = 2147483648.0f * (1 - 1.0f / 512);
inline constexpr float kHalvedTwiceAbove = 4 * kHalvedAbove;

constexpr int Halvings(float squared_norm) {
  return (squared_norm > kHalvedAbove) + (squared_norm > kHalvedTwiceAbove);
}

// Blocks in a row of `size` values, filled with zeros to whole groups.
constexpr int64_t FixedBlocks(int64_t size) {
  const int64_t group = kFixedGroup * kFixedBlockSize;
  return (size + group - 1) / group * kFixedGroup;
}

// int8 mode multiplies bytes instead: x's integers have magnitudes up to 127, the largest of a
// block has that, and the scale is any float. The dot of bytes takes one operand without a sign:
// codes of MXFP4 (doubled) and int8 weights are given an offset, and `starts` takes out what it
// adds. (So it may be for 16 bits, where a kernel takes them apart into bytes.)
inline constexpr int kMxfp4Offset = 12;

// Rows of x as integers; their order within a group of blocks is the kernel's own.
struct FixedRows {
  void* integers = nullptr;   // [rows, FixedBlocks(size) * 32] int16; int8 mode: int8
  float* scales = nullptr;    // [rows, FixedBlocks(size)]
  int32_t* starts = nullptr;  // [rows, FixedBlocks(size)] -offset * sum of the integers, if used
};

}  // namespace motet
