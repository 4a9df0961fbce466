// Vectors as lanes of numbers, for immintrin.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace motet {
namespace {

namespace lanes {

// A vector's lanes as numbers.
template <class T, class Vector>
struct Of {
  T at[sizeof(Vector) / sizeof(T)];
  explicit Of(Vector v) { std::memcpy(at, &v, sizeof v); }
  T operator[](int i) const { return at[i]; }
};

// The vector whose lane i is f(i).
template <class T, class Vector = __m512i, class F>
inline Vector Make(const F& f) {
  T at[sizeof(Vector) / sizeof(T)];
  for (int i = 0; i < static_cast<int>(sizeof(Vector) / sizeof(T)); ++i) at[i] = f(i);
  Vector v;
  std::memcpy(&v, at, sizeof v);
  return v;
}

template <class T, class Vector, class F>
inline Vector Map(Vector a, const F& f) {
  const Of<T, Vector> x(a);
  return Make<T, Vector>([&](int i) { return static_cast<T>(f(x[i])); });
}
template <class T, class Vector, class F>
inline Vector Map(Vector a, Vector b, const F& f) {
  const Of<T, Vector> x(a), y(b);
  return Make<T, Vector>([&](int i) { return static_cast<T>(f(x[i], y[i])); });
}

template <class To, class From>
inline To Cast(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &v, sizeof to);
  return to;
}

// Lanes whose bit is not set are neither read nor anything but 0.
template <class T, class Vector>
inline Vector LoadMasked(uint64_t mask, const void* p) {
  return Make<T, Vector>([&](int i) {
    T value = 0;
    if (mask >> i & 1) std::memcpy(&value, static_cast<const T*>(p) + i, sizeof value);
    return value;
  });
}

template <class T>
inline __m512i Blend(uint64_t mask, __m512i a, __m512i b) {
  const Of<T, __m512i> x(a), y(b);
  return Make<T>([&](int i) { return mask >> i & 1 ? y[i] : x[i]; });
}

// Of each 128 bits, the lower or upper (`half`) lanes of both operands by turns.
template <class T>
inline __m512i Unpack(__m512i a, __m512i b, int half) {
  constexpr int kPart = 16 / sizeof(T);
  const Of<T, __m512i> x(a), y(b);
  return Make<T>([&](int i) {
    const int from = i / kPart * kPart + half * kPart / 2 + i % kPart / 2;
    return i % 2 ? y[from] : x[from];
  });
}

template <class Part>
inline __m512i Broadcast(Part a) {
  const Of<uint8_t, Part> x(a);
  return Make<uint8_t>([&](int i) { return x[i % static_cast<int>(sizeof(Part))]; });
}

// In the order of the compilers' own: halves, quarters and so on.
template <class F>
inline float Reduce(__m512 a, const F& f) {
  Of<float, __m512> x(a);
  for (int n = 8; n >= 1; n /= 2) {
    for (int i = 0; i < n; ++i) x.at[i] = f(x.at[i], x.at[i + n]);
  }
  return x.at[0];
}

}  // namespace lanes

}  // namespace
}  // namespace motet
