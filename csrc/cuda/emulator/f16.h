// Half precision as the GPU converts it: infinities stay, too large becomes one.
#pragma once

#include <bit>
#include <cstdint>

#include "base/f16.h"

namespace motet {

inline uint16_t FloatToF16Inf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u && magnitude <= 0x7f800000u) {  // 65520 and more
    return static_cast<uint16_t>((bits >> 16 & 0x8000u) | 0x7c00u);
  }
  return FloatToF16(value);
}

inline float F16ToFloat(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16, magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u)
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Shifted into place, the exponent is short of 112; multiplying mends it, subnormals too.
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

}  // namespace motet
