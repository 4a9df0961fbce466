#include "cpu/pack_int8.h"

#include <algorithm>
#include <cstring>

#include "base/bf16.h"
#include "base/matrix.h"

namespace motet {
namespace {

constexpr int kBlockSize = kInt8BlockSize;
constexpr uint16_t kInfinity = 0x7F80;  // bf16; larger magnitudes are NaN

// One row's block of 32 as bytes with their offset, even columns first; returns its scale.
uint16_t QuantizeBlock(const uint16_t* weights, uint16_t largest, uint8_t* bytes) {
  const uint16_t scale = Int8Scale(largest);
  if (scale == 0) {
    std::memset(bytes, kInt8Offset, kBlockSize);
    return 0;
  }
  uint8_t in_order[kBlockSize];
  for (int i = 0; i < kBlockSize; ++i) {
    in_order[i] = Int8Byte(Bf16ToFloat(weights[i]), Bf16ToFloat(scale));
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
