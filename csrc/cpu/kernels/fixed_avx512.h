// What AVX-512 kernels need to know about fixed-point rows: the order of a block's integers and
// the dot product of pairs.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "base/fixed.h"
#include "base/mxfp4.h"

namespace motet {
namespace {

// Integers go in pairs, columns 8 j + i and 8 j + i + 4 of a block, see matmul_fixed_avx512.inl.
// Four blocks' pairs (j, i) follow each other as [i][block][j]: sixteen of one i fill a register.
constexpr int PairIndex(int block, int j, int i) { return 2 * (16 * i + 4 * block + j); }

inline int FixedIndex(int k) {
  const int column = k % kFixedBlockSize;
  return PairIndex(k / kFixedBlockSize, column / 8, column % 4) + column % 8 / 4;
}

// The integers of a row's block: PairIndex(0, j, i) from here.
inline const int16_t* BlockOf(const int16_t* row, int64_t block) {
  return row + block / kFixedGroup * kFixedGroup * kFixedBlockSize +
         PairIndex(static_cast<int>(block % kFixedGroup), 0, 0);
}

// An MXFP4 weight's value, before its scale, for an integer of 1.
constexpr float kMxfp4Unit = 0.5f;

// sum += a0 b0 + a1 b1 in each 32-bit lane.
inline __m512i Dot(__m512i sum, __m512i a, __m512i b) {
#ifdef __AVX512VNNI__
  return _mm512_dpwssd_epi32(sum, a, b);
#else
  return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
}

}  // namespace
}  // namespace motet
