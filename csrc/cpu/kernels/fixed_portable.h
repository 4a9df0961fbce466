// Fixed-point products of two blocks (a group) in plain C++, eight rows side by side.
#pragma once

#include <cstdint>

#include "base/fixed.h"
#include "base/mxfp4.h"
#include "cpu/kernels/vec_portable.h"

namespace motet {
namespace {

constexpr int kGroupBlocks = 2;

// Where value `i` lives among the integers of kFixedGroup blocks.
int FixedIndex(int i) { return i; }

// One row's group as integers.
struct FixedWeights {
  int16_t integers[kGroupBlocks * kFixedBlockSize];
};

struct FixedInputs {
  const int16_t* integers;
};

// Sums of one row's two blocks.
struct FixedSums {
  int32_t block[kGroupBlocks];
};

// An MXFP4 weight's value, before its scale, for an integer of 1.
constexpr float kMxfp4Unit = 0.5f;

FixedWeights DecodeMxfp4Group(const uint8_t* codes) {
  FixedWeights w;
  for (int j = 0; j < kGroupBlocks * kMxfp4BlockBytes; ++j) {
    w.integers[2 * j] = static_cast<int16_t>(2 * kE2m1[codes[j] & 15]);
    w.integers[2 * j + 1] = static_cast<int16_t>(2 * kE2m1[codes[j] >> 4]);
  }
  return w;
}

// `scales` of the group's two blocks.
FixedWeights DecodeBf16Group(const uint8_t* bits, const uint8_t* scales) {
  FixedWeights w;
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

FixedInputs LoadInputs(const int16_t* integers) { return {integers}; }

FixedSums MultiplyGroup(const FixedWeights& w, const FixedInputs& x) {
  FixedSums sums{};
  for (int b = 0; b < kGroupBlocks; ++b) {
    for (int i = 0; i < kFixedBlockSize; ++i) {
      sums.block[b] += w.integers[b * kFixedBlockSize + i] * x.integers[b * kFixedBlockSize + i];
    }
  }
  return sums;
}

// Eight rows' sums of one block each, as floats.
void SumsOfRows(const FixedSums* rows, Vec* block0, Vec* block1) {
  *block0 = Each([&](int r) { return static_cast<float>(rows[r].block[0]); });
  *block1 = Each([&](int r) { return static_cast<float>(rows[r].block[1]); });
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
