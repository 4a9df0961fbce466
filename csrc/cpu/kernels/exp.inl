// The exponential function over the lanes of a vector.
#pragma once

namespace motet {
namespace {

inline Vec Like(Vec, float x) { return Set(x); }

// x = n ln 2 + r with |r| <= ln(2)/2.
template <class V>
inline V ExpExponent(V x) {
  return Round(Mul(x, Like(x, 1.44269504088896341f)));
}

// e^r by a Taylor polynomial of degree 7.
template <class V>
inline V ExpOfRest(V x, V n) {
  // ln 2 in two parts: the first has few bits, so that n times it is exact.
  V r = MulAdd(n, Like(x, -0.693359375f), x);
  r = MulAdd(n, Like(x, 2.12194440e-4f), r);
  V p = Like(x, 1.0f / 5040);
  p = MulAdd(p, r, Like(x, 1.0f / 720));
  p = MulAdd(p, r, Like(x, 1.0f / 120));
  p = MulAdd(p, r, Like(x, 1.0f / 24));
  p = MulAdd(p, r, Like(x, 1.0f / 6));
  p = MulAdd(p, r, Like(x, 0.5f));
  return MulAdd(Mul(p, r), r, Add(r, Like(x, 1.0f)));
}

// e^x to about 1 ulp; n is taken into the exponent in two halves so that the ends of the range stay
// exact.
template <class V>
inline V Exp(V x) {
  x = Max(Min(x, Like(x, 88.7f)), Like(x, -104.0f));
  const V n = ExpExponent(x);
  const V half = Round(Mul(n, Like(x, 0.5f)));
  return Scale2(Scale2(ExpOfRest(x, n), half), Sub(n, half));
}

// e^x for x <= 0, but never less than e^-87 (about 1e-38), which is what NaN gives, too.
template <class V>
inline V ExpOfNegative(V x) {
  x = Max(x, Like(x, -87.0f));
  const V n = ExpExponent(x);
  return Scale2(ExpOfRest(x, n), n);
}

}  // namespace
}  // namespace motet
