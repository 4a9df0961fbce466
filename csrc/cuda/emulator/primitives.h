// primitives.h on the CPU; primitives_ptx.h says what each does.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/bf16.h"
#include "cuda/emulator/cuda_runtime.h"
#include "cuda/emulator/f16.h"
#include "cuda/emulator/tensor_core.h"

namespace motet::cuda {

inline void WaitForInputs() { emulator::WaitForInputs(); }
inline void LetNextStart() { emulator::LetNextStart(); }

namespace emulated {

inline int Lane() { return static_cast<int>(threadIdx.x % 32); }

template <class T>
struct Exchange {
  T value;
  int source;
  T result;
  static void Combine(void* const* lanes) {
    for (int i = 0; i < 32; ++i) {
      auto* self = static_cast<Exchange*>(lanes[i]);
      self->result = static_cast<Exchange*>(lanes[self->source])->value;
    }
  }
};

template <class T>
T ExchangeWith(T value, int source, const char* what) {
  Exchange<T> operands{value, source, {}};
  emulator::Meet(what, &operands, Exchange<T>::Combine);
  return operands.result;
}

// A function that hardware approximates: off by up to `ulps` units in the last place.
inline float Approximate(float exact, int ulps) {
  const auto bits = std::bit_cast<uint32_t>(exact);
  constexpr uint32_t kSmallest = 0x00800000u, kLargest = 0x7F000000u;  // far from 0 and infinity
  if ((bits & 0x7FFFFFFFu) < kSmallest || (bits & 0x7FFFFFFFu) > kLargest) return exact;
  const auto random = static_cast<int>(bits * 0x9E3779B1u >> 24);
  return std::bit_cast<float>(bits + static_cast<uint32_t>(random % (2 * ulps + 1) - ulps));
}

}  // namespace emulated

inline void SyncWarp() {
  emulator::Meet("SyncWarp", nullptr, [](void* const*) {});
}
template <class T>
T ShuffleXor(T value, int mask) {
  return emulated::ExchangeWith(value, emulated::Lane() ^ mask, "ShuffleXor");
}
template <class T>
T Shuffle(T value, int lane) {
  return emulated::ExchangeWith(value, lane & 31, "Shuffle");
}
template <class T>
T ShuffleUp(T value, int distance) {
  const int lane = emulated::Lane();
  return emulated::ExchangeWith(value, lane < distance ? lane : lane - distance, "ShuffleUp");
}
inline uint32_t Ballot(bool predicate) {
  struct Operands {
    bool predicate;
    uint32_t result;
  } operands{predicate, 0};
  emulator::Meet("Ballot", &operands, [](void* const* lanes) {
    uint32_t all = 0;
    for (int i = 0; i < 32; ++i) {
      all |= uint32_t{static_cast<Operands*>(lanes[i])->predicate} << i;
    }
    for (int i = 0; i < 32; ++i) static_cast<Operands*>(lanes[i])->result = all;
  });
  return operands.result;
}

inline uint32_t WarpMax(uint32_t x) {
  emulator::Meet("WarpMax", &x, [](void* const* lanes) {
    uint32_t most = 0;
    for (int i = 0; i < 32; ++i) most = std::max(most, *static_cast<uint32_t*>(lanes[i]));
    for (int i = 0; i < 32; ++i) *static_cast<uint32_t*>(lanes[i]) = most;
  });
  return x;
}
inline uint32_t WarpMin(uint32_t x) { return ~WarpMax(~x); }

inline void MmaF16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulated::Mma operands{d, a, {b0, b1}};
  emulator::Meet("MmaF16", &operands, emulated::Mma::Combine);
}

template <bool Transposed>
void LoadMatrices(uint32_t (&r)[4], const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16) emulator::Fail("a matrix's row that is not aligned");
  struct Operands {
    const void* row;
    uint32_t* r;
  } operands{row, r};
  emulator::Meet(
      Transposed ? "LoadMatrices<true>" : "LoadMatrices<false>", &operands, [](void* const* lanes) {
        for (int lane = 0; lane < 32; ++lane) {
          const int g = lane / 4, t = lane % 4;
          for (int m = 0; m < 4; ++m) {
            uint16_t pair[2];
            for (int half = 0; half < 2; ++half) {
              const int i = Transposed ? 2 * t + half : g;
              const int column = Transposed ? g : 2 * t + half;
              const auto* from =
                  static_cast<const uint16_t*>(static_cast<Operands*>(lanes[8 * m + i])->row);
              pair[half] = from[column];
            }
            std::memcpy(&static_cast<Operands*>(lanes[lane])->r[m], pair, 4);
          }
        }
      });
}

inline void CopyAsync16(void* shared, const void* global, bool valid = true) {
  emulator::QueueCopy(shared, global, 16, valid ? 16 : 0);
}
inline void CopyCommit() { emulator::CommitCopies(); }
template <int kGroupsLeft>
void CopyWait() {
  emulator::WaitCopies(kGroupsLeft);
}

inline void CopyAsync4(void* shared, const void* global) {
  emulator::QueueCopy(shared, global, 4, 4);
}

inline void FenceForWarpgroup() {}
inline void KeepOperands(const uint32_t (&)[2][4]) {}
inline void WarpgroupFence() {}
template <int kTokens>
void WarpgroupMmaF16(float (&d)[kTokens / 8][4], const uint32_t (&a)[4], const char* b,
                     bool accumulate) {
  if (reinterpret_cast<uintptr_t>(b) % 1024 % 32 || reinterpret_cast<uintptr_t>(b) % 1024 >= 128) {
    emulator::Fail("operand B of a warpgroup that is not aligned");
  }
  emulator::QueueProduct([&d, &a, b, accumulate] {
    const int g = emulated::Lane() / 4, t = emulated::Lane() % 4;
    for (int n = 0; n < kTokens / 8; ++n) {
      uint32_t word[2];
      for (int j = 0; j < 2; ++j) {
        const auto at = reinterpret_cast<uintptr_t>(b) + (8 * n + g) * 128 + 16 * j + 4 * t;
        std::memcpy(&word[j], reinterpret_cast<const void*>(at ^ (at >> 7 & 7) << 4), 4);
      }
      if (!accumulate) d[n][0] = d[n][1] = d[n][2] = d[n][3] = 0;
      MmaF16(d[n], a, word[0], word[1]);
    }
  });
}
inline void WarpgroupCommit() { emulator::CommitProducts(); }
template <int kGroupsLeft>
void WarpgroupWait() {
  emulator::WaitProducts(kGroupsLeft);
}

inline char* SharedMemory() { return emulator::SharedBytes(); }

inline uint4 LoadOnce(const uint4* p) { return *p; }
inline void LoadOnceIf(bool there, const uint4* p, uint4& v) {
  if (there) v = *p;
}
inline void PrefetchToL2(const void* p, int64_t bytes) { emulator::Touch(p, bytes); }

template <class T>
T LoadFresh(const T* p) {
  return *p;
}

inline bool IsLastTicket(unsigned* ticket, unsigned count) {
  *ticket = *ticket + 1 == count ? 0 : *ticket + 1;
  return *ticket == 0;
}

// Memory that is not there shall be seen.
inline void PrefetchLineToL2(const void* p) { *static_cast<const volatile char*>(p); }

inline uint32_t PackF16(float low, float high) {
  return FloatToF16Inf(low) | uint32_t{FloatToF16Inf(high)} << 16;
}
inline uint32_t PackBf16(float low, float high) {
  return FloatToBf16(low) | uint32_t{FloatToBf16(high)} << 16;
}
inline uint32_t AddF16(uint32_t a, uint32_t b) {
  const auto sum = [&](int i) {
    return F16ToFloat(static_cast<uint16_t>(a >> i)) + F16ToFloat(static_cast<uint16_t>(b >> i));
  };
  return PackF16(sum(0), sum(16));
}
inline uint32_t MultiplyF16(uint32_t a, uint32_t b) {
  const auto product = [&](int i) {
    return F16ToFloat(static_cast<uint16_t>(a >> i)) * F16ToFloat(static_cast<uint16_t>(b >> i));
  };
  return PackF16(product(0), product(16));
}
inline uint32_t PickBytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = a | uint64_t{b} << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t byte = selector >> (4 * i) & 7;
    result |= static_cast<uint32_t>(bytes >> (8 * byte) & 0xFF) << (8 * i);
  }
  return result;
}
inline float Add(float a, float b) { return a + b; }
inline double Add(double a, double b) { return a + b; }
inline float Multiply(float a, float b) { return a * b; }
inline double Multiply(double a, double b) { return a * b; }

inline uint64_t RoundToUint64(float x) { return static_cast<uint64_t>(std::rint(x)); }
inline uint64_t MultiplyHigh(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline int BitWidth(uint64_t x) { return static_cast<int>(std::bit_width(x)); }

inline int CountBits(uint32_t bits) { return std::popcount(bits); }
// Powers of two are exact. The others' bounds are those of the CUDA C++ Programming Guide,
// "Mathematical Functions Appendix".
inline float Exp2(float x) {
  const float exact = std::exp2(x);
  return x == std::floor(x) ? exact : emulated::Approximate(exact, 2);
}
inline float expf(float x) { return x == 0 ? 1.0f : emulated::Approximate(std::exp(x), 2); }
inline float rsqrtf(float x) { return emulated::Approximate(1.0f / std::sqrt(x), 2); }
inline float BitsToFloat(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t FloatToBits(float x) { return std::bit_cast<uint32_t>(x); }

}  // namespace motet::cuda
