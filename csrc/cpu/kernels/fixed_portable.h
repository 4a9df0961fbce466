// Fixed-point products of two blocks (a group) in plain C++, eight rows side by side.
#pragma once

#include <cstdint>

#include "base/fixed.h"
#include "base/mxfp4.h"
#include "cpu/kernels/vec_portable.h"

namespace motet {
namespace {

constexpr int kGroupBlocks = 2;

// Where value `i` lives among the integers of kFixedGroup blocks: bytes of even columns and of odd
// ones apart, which makes words of int8 weights' columns.
template <class Integer>
int FixedIndex(int i) {
  if constexpr (sizeof(Integer) == 2) return i;
  const int group = i / (kGroupBlocks * kFixedBlockSize);
  const int block = i / kFixedBlockSize % kGroupBlocks, column = i % kFixedBlockSize;
  return (group * 2 + column % 2) * kFixedBlockSize + block * 16 + column / 2;
}

// One row's group as integers.
template <class Integer>
struct FixedWeights {
  Integer integers[kGroupBlocks * kFixedBlockSize];
};

template <class Integer>
struct FixedInputs {
  const Integer* integers;
};

// Sums of one row's two blocks.
struct FixedSums {
  int32_t block[kGroupBlocks];
};

// An MXFP4 weight's value, before its scale, for an integer of 1.
template <class Integer>
constexpr float kMxfp4Unit = 0.5f;

// Bytes have kMxfp4Offset.
template <class Integer>
FixedWeights<Integer> DecodeMxfp4Group(const uint8_t* codes) {
  constexpr int kOffset = sizeof(Integer) == 1 ? kMxfp4Offset : 0;
  FixedWeights<Integer> w;
  for (int j = 0; j < kGroupBlocks * kMxfp4BlockBytes; ++j) {
    w.integers[FixedIndex<Integer>(2 * j)] =
        static_cast<Integer>(2 * kE2m1[codes[j] & 15] + kOffset);
    w.integers[FixedIndex<Integer>(2 * j + 1)] =
        static_cast<Integer>(2 * kE2m1[codes[j] >> 4] + kOffset);
  }
  return w;
}

// `scales` of the group's two blocks.
FixedWeights<int16_t> DecodeBf16Group(const uint8_t* bits, const uint8_t* scales) {
  FixedWeights<int16_t> w;
  for (int b = 0; b < kGroupBlocks; ++b) {
    const float inverse = InverseScale(scales[b]);
    for (int i = 0; i < kFixedBlockSize; ++i) {
      const int at = b * kFixedBlockSize + i;
      uint16_t value;
      std::memcpy(&value, bits + 2 * at, sizeof value);
      w.integers[at] = static_cast<int16_t>(__builtin_nearbyintf(Bf16ToFloat(value) * inverse));
    }
  }
  return w;
}

template <class Integer>
FixedInputs<Integer> LoadInputs(const Integer* integers) {
  return {integers};
}

template <class Integer>
FixedSums MultiplyGroup(const FixedWeights<Integer>& w, const FixedInputs<Integer>& x) {
  FixedSums sums{};
  for (int b = 0; b < kGroupBlocks; ++b) {
    for (int i = 0; i < kFixedBlockSize; ++i) {
      const int at = FixedIndex<Integer>(b * kFixedBlockSize + i);
      sums.block[b] += w.integers[at] * x.integers[at];
    }
  }
  return sums;
}

FixedSums AddSums(FixedSums a, const FixedSums& b) {
  for (int i = 0; i < kGroupBlocks; ++i) a.block[i] += b.block[i];
  return a;
}

// Eight rows of int8 weights, a word of four each, times x's word.
struct Int8Sums {
  int32_t row[8];
};
Int8Sums NoSums() { return {}; }
Vec ToFloats(const Int8Sums& sums) {
  return FromInts([&](int r) { return sums.row[r]; });
}
Int8Sums AddWords(Int8Sums sums, const uint8_t* weights, const int8_t* x) {
  for (int r = 0; r < 8; ++r) {
    for (int i = 0; i < 4; ++i) sums.row[r] += (weights[4 * r + i] - kInt8Offset) * x[i];
  }
  return sums;
}

// Eight rows' sums of one block each, as floats.
void SumsOfRows(const FixedSums* rows, Vec* block0, Vec* block1) {
  *block0 = FromInts([&](int r) { return rows[r].block[0]; });
  *block1 = FromInts([&](int r) { return rows[r].block[1]; });
}

// out[b] = the scales of block b < 8, eight rows side by side; `n` blocks of each row are there,
// the others get some finite number.
void ScalesOfRows(const uint8_t* const* rows, int n, Vec* out) {
  for (int b = 0; b < 8; ++b) {
    out[b] = Each([&](int r) { return b < n ? Mxfp4Scale(rows[r][b]) : 0; });
  }
}

}  // namespace
}  // namespace motet
