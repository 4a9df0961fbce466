// MXFP4 weights as the GPU multiplies them: packed once, at load, from the checkpoint's layout
// (base/mxfp4.h). Here is the packed layout's one home.
//
// A matrix [rows, columns] is tiles of 16 rows x 64 columns, filled up with zeros: tile rows after
// one another, the tiles of one in ascending order of columns. A tile is 544 bytes: 512 of codes,
// 16 a lane, and 32 of scales. Lane = 4 g + t holds of rows g and g + 8 the columns 8t .. 8t+7 of
// both blocks of 32 columns; word 2 b + h has those of block b that operand A of an mma (m16n8k16)
// takes in the block's step h:
//   pair 0   row g      columns 8t + 4h, + 1        a[0]
//   pair 1   row g + 8  columns 8t + 4h, + 1        a[1]
//   pair 2   row g      columns 8t + 4h + 2, + 3    a[2]
//   pair 3   row g + 8  columns 8t + 4h + 2, + 3    a[3]
// So operand B of both steps is 8 columns that follow each other, 16 bytes at column 8t.
//
// An f16 with a code's sign at bit 15 and its other three bits at 11..9 is the code's value times
// 2^-14, exactly. In each half of a word (the low one has the even column) the pairs' codes lie so
// that few instructions move them there:
//   bit      15  14  13  12  11..9  8..6  5..3  2..0
//   of pair   0   2   3   1    0      1     2     3     (one bit: the sign)
// The sign and the other bits of pair 2, and of pair 3, are moved apart and brought together by an
// exclusive or; what else comes there is in the word beforehand.
//
// Scales: byte 4 g + 2 b + i is that of row g + 8 i in block b, the high byte of an f16 that is a
// power of two; codes are multiplied by it before they are operands. The byte of a row's unit
// (row_unit.cuh), behind the tiles of 16 rows, is the largest of the row's E8M0 scales (of blocks
// that are not all zeros), whose f16 is 2^15. So
//   weight = (code as f16) * (scale as f16) * 2^(byte - 128)
// exactly, where a block's scale is 2^-24 of the row's largest or more; other weights are rounded
// to multiples of 2^-25 of that. So sums need no scales of blocks.
#pragma once

#include <cstdint>

#include "cuda/kernels/pack.h"
#include "cuda/primitives.h"

namespace motet::cuda {

inline constexpr int kMxfp4CodeBytes = kTileRows * kStepColumns / 2;
static_assert(kMxfp4TileBytes == kMxfp4CodeBytes + 2 * kTileRows);
static_assert(kMxfp4RowBytes == kTileRows);

// A word of four codes of row g and of row g + 8 each, that of the lowest column in the lowest
// nibble.
constexpr __host__ __device__ uint32_t PackMxfp4Word(uint32_t row, uint32_t row_plus_8) {
  uint32_t a[4] = {};  // what is to be decoded
  for (int pair = 0; pair < 4; ++pair) {
    const uint32_t codes = (pair % 2 == 0 ? row : row_plus_8) >> (pair / 2 * 8);
    for (int half = 0; half < 2; ++half) {
      const uint32_t code = codes >> (4 * half) & 15;
      a[pair] |= ((code >> 3) << 15 | (code & 7) << 9) << (16 * half);
    }
  }
  constexpr uint32_t kSigns = 0x80008000u, kMagnitudes = 0x0E000E00u;
  const uint32_t w = a[0] | a[1] >> 3;
  return w | ((a[2] ^ w << 1) & kMagnitudes) >> 6 | ((a[2] ^ w << 6) & kSigns) >> 1 |
         ((a[3] ^ w << 2) & kMagnitudes) >> 9 | ((a[3] ^ w << 9) & kSigns) >> 2;
}

// The pairs of a word as f16, times 2^-14: operand A of an mma.
constexpr __host__ __device__ __forceinline__ void DecodeMxfp4Word(uint32_t word,
                                                                   uint32_t (&a)[4]) {
  constexpr uint32_t kBoth = 0x8E008E00u;
  a[0] = word & kBoth;
  a[1] = word << 3 & kBoth;
  a[2] = (word << 6 ^ word << 1) & kBoth;
  a[3] = (word << 9 ^ word << 2) & kBoth;
}

// Two f16 of the scale that is byte `i` of `scales`.
__device__ __forceinline__ uint32_t Mxfp4ScaleF16(uint32_t scales, int i) {
  return PickBytes(scales, 0, 0x0404u + 0x1010u * static_cast<uint32_t>(i));
}

// The byte of scale `s` in a row whose largest is `largest`.
constexpr __host__ __device__ __forceinline__ uint32_t Mxfp4ScaleByte(int s, int largest) {
  const int exponent = 30 - (largest - s);  // the f16's field
  return static_cast<uint32_t>(exponent < 0 ? 0 : exponent > 30 ? 30 : exponent) << 2;
}

// Where a weight is: its tile, and in it its word, pair and half, and its scale.
struct Mxfp4Place {
  int64_t tile;    // where its bytes start in the matrix
  int word;        // of the tile, 4 bytes each
  int pair, half;  // of the word
  int scale;       // byte among the tile's scales
};

constexpr __host__ __device__ Mxfp4Place PlaceOfMxfp4(int64_t columns, int64_t row,
                                                      int64_t column) {
  const int64_t steps = (columns + kStepColumns - 1) / kStepColumns;
  const int r = static_cast<int>(row % kTileRows), c = static_cast<int>(column % kStepColumns);
  const int block = c / 32, t = c % 32 / 8, h = c % 8 / 4, j = c % 4 / 2;
  const int64_t tile_row_bytes = steps * kMxfp4TileBytes + kMxfp4RowBytes;
  return {row / kTileRows * tile_row_bytes + column / kStepColumns * kMxfp4TileBytes,
          (4 * (r % 8) + t) * 4 + 2 * block + h, 2 * j + r / 8, c % 2,
          4 * (r % 8) + 2 * block + r / 8};
}

}  // namespace motet::cuda
