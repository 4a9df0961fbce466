// MXFP4, as gpt-oss checkpoints store expert weights. (OCP Microscaling Formats specification 1.0)
//
// A block is 32 weights that follow each other along the input axis: 16 bytes of codes and one
// byte of scale, kept in two separate tensors:
//   blocks U8 [rows, cols/32, 16]   byte j holds weight 2j in its low and 2j+1 in its high nibble
//   scales U8 [rows, cols/32]       E8M0: 2^(scale-127); 255 is NaN and refused at load
//   weight = kE2m1[code] * 2^(scale-127)
#pragma once

#include <cstdint>
#include <cstring>

namespace motet {

inline constexpr int kMxfp4BlockSize = 32;   // weights
inline constexpr int kMxfp4BlockBytes = 16;  // bytes of codes

// e2m1: one sign bit (8), two of exponent, one of mantissa.
inline constexpr float kE2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// 2^(scale-127) for scale < 255. Scale 0 is 2^-127, a subnormal float.
[[maybe_unused]] static inline float Mxfp4Scale(uint8_t scale) {
  const uint32_t bits = scale == 0 ? 0x00400000u : static_cast<uint32_t>(scale) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// 1 / Mxfp4Scale(scale) for 1 <= scale < 254.
[[maybe_unused]] static inline float InverseScale(uint8_t scale) {
  const uint32_t bits = static_cast<uint32_t>(254 - scale) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace motet
