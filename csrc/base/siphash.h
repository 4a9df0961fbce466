// SipHash-2-4 with 128 bits of output: a keyed hash that who does not know the key cannot make
// collide. (J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", 2012.)
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace motet {

struct Hash128 {
  uint64_t low = 0, high = 0;
  friend constexpr bool operator==(const Hash128&, const Hash128&) = default;
};

// Of whole words: messages whose length is a multiple of eight bytes.
constexpr Hash128 SipHash128(const Hash128& key, const uint64_t* words, size_t n) {
  uint64_t v0 = key.low ^ 0x736f6d6570736575u, v1 = key.high ^ 0x646f72616e646f6du ^ 0xee;
  uint64_t v2 = key.low ^ 0x6c7967656e657261u, v3 = key.high ^ 0x7465646279746573u;
  const auto rounds = [&](int count) {
    for (int i = 0; i < count; ++i) {
      v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
      v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
      v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
      v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
    }
  };
  const auto absorb = [&](uint64_t word) {
    v3 ^= word;
    rounds(2);
    v0 ^= word;
  };
  for (size_t i = 0; i < n; ++i) absorb(words[i]);
  absorb(static_cast<uint64_t>(n * 8) << 56);
  Hash128 out;
  v2 ^= 0xee;
  rounds(4);
  out.low = v0 ^ v1 ^ v2 ^ v3;
  v1 ^= 0xdd;
  rounds(4);
  out.high = v0 ^ v1 ^ v2 ^ v3;
  return out;
}

// The reference implementation's vectors for the key 00 01 .. 0f: no bytes, and 00 01 .. 07.
static_assert(SipHash128({0x0706050403020100u, 0x0f0e0d0c0b0a0908u}, nullptr, 0) ==
              Hash128{0xe6a825ba047f81a3u, 0x930255c71472f66du});
inline constexpr uint64_t kSipHashExample[] = {0x0706050403020100u};
static_assert(SipHash128({0x0706050403020100u, 0x0f0e0d0c0b0a0908u}, kSipHashExample, 1) ==
              Hash128{0x61f55862baa9623bu, 0xb49714f364e2830fu});

}  // namespace motet
