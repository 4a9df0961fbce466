// The exponential function over eight lanes.
#pragma once

namespace motet {
namespace {

// e^x to about 1 ulp: x = n ln 2 + r with |r| <= ln(2)/2, Taylor polynomial of degree 7 in r, and
// n taken into the exponent in two halves so that the ends of the range stay exact.
inline Vec Exp(Vec x) {
  x = Max(Min(x, Set(88.7f)), Set(-104.0f));
  const Vec n = Round(Mul(x, Set(1.44269504088896341f)));
  // ln 2 in two parts: the first has few bits, so that n times it is exact.
  Vec r = MulAdd(n, Set(-0.693359375f), x);
  r = MulAdd(n, Set(2.12194440e-4f), r);
  Vec p = Set(1.0f / 5040);
  p = MulAdd(p, r, Set(1.0f / 720));
  p = MulAdd(p, r, Set(1.0f / 120));
  p = MulAdd(p, r, Set(1.0f / 24));
  p = MulAdd(p, r, Set(1.0f / 6));
  p = MulAdd(p, r, Set(0.5f));
  p = MulAdd(Mul(p, r), r, Add(r, Set(1.0f)));
  const Vec half = Round(Mul(n, Set(0.5f)));
  return Scale2(Scale2(p, half), Sub(n, half));
}

}  // namespace
}  // namespace motet
