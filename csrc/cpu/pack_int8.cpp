#include "cpu/pack_int8.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bf16.h"
#include "base/matrix.h"

namespace motet {
namespace {

constexpr int kBlockSize = 32;
constexpr uint16_t kInfinity = 0x7F80;  // bf16; larger magnitudes are NaN
constexpr uint16_t kTiny = 0x0D80;      // 2^-100: a block below is as good as zeros

// The least bf16 number that is at least x >= 0, so that no integer gets larger than it may.
uint16_t Bf16Above(float x) {
  return static_cast<uint16_t>((std::bit_cast<uint32_t>(x) + 0xFFFF) >> 16);
}

// One row's block of 32 as bytes with their offset, even columns first; returns its scale.
uint16_t QuantizeBlock(const uint16_t* weights, uint16_t largest, uint8_t* bytes) {
  if (largest < kTiny) {
    std::memset(bytes, kInt8Offset, kBlockSize);
    return 0;
  }
  const uint16_t scale = Bf16Above(Bf16ToFloat(largest) / 127.0f);
  const float step = Bf16ToFloat(scale);  // dividing keeps ties what they are
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits.
  uint8_t in_order[kBlockSize];
  for (int i = 0; i < kBlockSize; ++i) {
    const float rounded = Bf16ToFloat(weights[i]) / step + (12582912.0f + kInt8Offset);
    in_order[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(rounded));
  }
  for (int i = 0; i < kBlockSize; ++i) bytes[i % 2 * (kBlockSize / 2) + i / 2] = in_order[i];
  return scale;
}

}  // namespace

bool PackInt8(const uint16_t* weights, int64_t rows, int64_t cols, uint8_t* data,
              uint16_t* scales) {
  bool finite = true;
  for (int64_t k = 0; k < cols; k += kBlockSize) {
    const int64_t n = std::min<int64_t>(kBlockSize, cols - k);
    for (int64_t r = 0; r < kInt8Rows; ++r) {
      uint16_t block[kBlockSize] = {};
      if (r < rows) std::memcpy(block, weights + r * cols + k, 2 * n);
      int16_t largest = 0;
      for (const uint16_t bits : block) {
        largest = std::max(largest, static_cast<int16_t>(bits & 0x7FFF));
      }
      finite &= largest < kInfinity;
      uint8_t bytes[kBlockSize];
      scales[r] = QuantizeBlock(block, static_cast<uint16_t>(largest), bytes);
      // Bytes 4 j of the even columns are word 2 j, those of the odd ones word 2 j + 1.
      for (int p = 0; p < 8; ++p) {
        std::memcpy(data + (p * kInt8Rows + r) * 4, bytes + p % 2 * 16 + p / 2 * 4, 4);
      }
    }
    data += kInt8BlockBytes;
    scales += kInt8Rows;
  }
  return finite;
}

}  // namespace motet
