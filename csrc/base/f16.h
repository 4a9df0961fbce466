// IEEE half precision, the KV cache's element: 11 significant bits, up to 65504.
// `static` for the same reason as in bf16.h.
#pragma once

#include <cstdint>
#include <cstring>

namespace motet {

// Round to nearest, ties to even. What is too large becomes the largest finite number: one key
// that is off a little does less harm than an infinity in every later sum. A NaN stays a NaN.
[[maybe_unused]] static inline uint16_t FloatToF16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return sign | 0x7e00u;
  if (bits >= 0x477ff000u) return sign | 0x7bffu;  // 65520 and more
  if (bits < 0x38800000u) {  // below 2^-14: an addend whose last bit is 2^-24 rounds for us
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, sizeof bits);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13));
}

}  // namespace motet
