// Philox4x32-10, the counter-based generator of J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw,
// "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011). It has no state: the n-th number of a
// stream is a function of (key, n), so what else is in a batch can't change what a request draws.
#pragma once

#include <cstdint>

#ifdef __CUDACC__  // kernels draw too
#define MOTET_HOST_DEVICE __host__ __device__
#else
#define MOTET_HOST_DEVICE
#endif

namespace motet {

// No std::array: its operators are for the host only.
struct PhiloxCounter {
  uint32_t x, y, z, w;
  friend bool operator==(const PhiloxCounter&, const PhiloxCounter&) = default;
};
struct PhiloxKey {
  uint32_t x, y;
};

MOTET_HOST_DEVICE constexpr PhiloxCounter Philox(PhiloxCounter counter, PhiloxKey key) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter.x;
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter.z;
    counter = {static_cast<uint32_t>(b >> 32) ^ counter.y ^ key.x, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter.w ^ key.y, static_cast<uint32_t>(a)};
    key = {key.x + 0x9E3779B9u, key.y + 0xBB67AE85u};
  }
  return counter;
}

// 53 uniform bits that belong to a position of a seed's stream.
MOTET_HOST_DEVICE constexpr uint64_t UniformBitsAt(uint64_t seed, uint64_t position) {
  const PhiloxCounter words =
      Philox({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
             {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return (uint64_t{words.y} << 32 | words.x) >> 11;
}

// They as a number in [0, 1).
constexpr double UniformAt(uint64_t seed, uint64_t position) {
  return static_cast<double>(UniformBitsAt(seed, position)) * 0x1p-53;
}

// The paper's known answers (its library's kat_vectors).
static_assert(Philox({0, 0, 0, 0}, {0, 0}) ==
              PhiloxCounter{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
static_assert(Philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
                     {0xa4093822u, 0x299f31d0u}) ==
              PhiloxCounter{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});

}  // namespace motet
