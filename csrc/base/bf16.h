// bfloat16: the upper half of an IEEE float32.
// Functions here are `static`: files compiled for a later instruction set include this header, and
// an inline function with external linkage could leave its AVX copy to be called on an older CPU.
#pragma once

#include <cstdint>
#include <cstring>

namespace motet {

[[maybe_unused]] static inline float Bf16ToFloat(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// Round to nearest, ties to even; a NaN stays a NaN.
[[maybe_unused]] static inline uint16_t FloatToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace motet
