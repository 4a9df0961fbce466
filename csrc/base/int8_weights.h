// int8 mode's weights, from bf16: integers in blocks of 32, which follow each other along the input
// axis and share a scale; a weight is integer * scale.
//
//   scale     bf16: a 127th of the largest magnitude, rounded up; 0 if all are (as good as) zeros
//   integer   to nearest, ties to even, at most 127 in magnitude; kept as a byte that is 128 more
//
// Each device orders bytes and scales as it multiplies them (base/matrix.h, cuda/kernels/pack.h).
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define MOTET_ON_EVERY_DEVICE __host__ __device__
#else
#define MOTET_ON_EVERY_DEVICE
#endif

namespace motet {

inline constexpr int kInt8BlockSize = 32;  // weights
inline constexpr int kInt8Offset = 128;

// The scale's bits, where `largest` are the bits of the block's largest magnitude.
[[maybe_unused]] MOTET_ON_EVERY_DEVICE static inline uint16_t Int8Scale(uint16_t largest) {
  constexpr uint16_t kTiny = 0x0D80;  // 2^-100
  if (largest < kTiny) return 0;
  uint32_t bits = uint32_t{largest} << 16;
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  scale /= 127.0f;
  memcpy(&bits, &scale, sizeof bits);
  return static_cast<uint16_t>((bits + 0xFFFF) >> 16);  // up, so that no integer gets too large
}

// The byte of a weight in a block whose scale is not 0. Dividing keeps ties what they are.
[[maybe_unused]] MOTET_ON_EVERY_DEVICE static inline uint8_t Int8Byte(float weight, float scale) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits.
  const float rounded = weight / scale + (12582912.0f + kInt8Offset);
  uint32_t bits;
  memcpy(&bits, &rounded, sizeof bits);
  return static_cast<uint8_t>(bits);
}

}  // namespace motet
