// Matrix products in exact mode: 16-bit integers a block, whose products add up exactly.
//
// A block is 32 numbers that follow each other along the input axis, as in MXFP4: integers that
// share a power of two.                                                  number = integer * scale
//   x               the largest magnitude of a block lies in [2^(bits-1), 2^bits]
//   MXFP4 weights   twice their codes: 0 1 2 3 4 6 8 12
//   bf16 weights    the largest lies in [2^12, 2^13), so that all above a 32nd of it are exact and
//                   the rest is off by 2^-14 of it at most; the powers of two are found at load
// A block's products add up to less than 2^31, exactly and in any order: the same bits on every
// instruction set, and some thirty times finer than inputs rounded to bf16.
#pragma once

#include <cstdint>

#include "base/matrix.h"

namespace motet {

inline constexpr int kFixedBlockSize = 32;  // values
inline constexpr int kFixedGroup = 4;       // blocks whose integers a kernel may order as it likes
inline constexpr int kFixedWeightBits = 13;

// Bits of the magnitude of inputs for weights of a format.
constexpr int FixedInputBits(WeightFormat weights) {
  return weights == WeightFormat::kMxfp4 ? 14 : 13;
}

// Blocks in a row of `size` values, filled with zeros to whole groups.
constexpr int64_t FixedBlocks(int64_t size) {
  const int64_t group = kFixedGroup * kFixedBlockSize;
  return (size + group - 1) / group * kFixedGroup;
}

// Rows of fixed-point values; the order of integers within a group of blocks is the kernel's own.
struct FixedRows {
  int16_t* integers = nullptr;  // [rows, FixedBlocks(size) * 32]
  float* scales = nullptr;      // [rows, FixedBlocks(size)]
};

}  // namespace motet
