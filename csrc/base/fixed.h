// Activations as 15-bit fixed point, the input of MXFP4 products in exact mode.
//
// A block is 32 values that follow each other along the input axis, as in MXFP4: integers that
// share a power of two, chosen such that the largest magnitude lies in [2^13, 2^14].
//   value = integer * scale
// MXFP4's codes are small integers too (doubled: 0 1 2 3 4 6 8 12), so a block's product is an
// exact integer, in any order, below 2^24: exact as a float as well. That is some 60 times finer
// than bf16 and bit-identical on every instruction set.
#pragma once

#include <cstdint>

namespace motet {

inline constexpr int kFixedBlockSize = 32;  // values
inline constexpr int kFixedBits = 14;       // magnitudes up to 2^14
inline constexpr int kFixedGroup = 2;       // blocks that kernels take at once

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
