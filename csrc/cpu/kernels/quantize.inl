// Floats to fixed point, see base/fixed.h. The order of integers is the instruction set's own.

namespace motet {
namespace {

// From a biased exponent.
float PowerOfTwo(uint32_t exponent) {
  const uint32_t bits = exponent << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return power;
}

void QuantizeBlock(const QuantizeArgs& a, int64_t block) {
  const int64_t left = a.size - block * kFixedBlockSize;
  const int n = left <= 0 ? 0 : left < kFixedBlockSize ? static_cast<int>(left) : kFixedBlockSize;
  alignas(64) float values[kFixedBlockSize] = {};
  std::memcpy(values, a.x + block * kFixedBlockSize, sizeof(float) * n);
  Vec top = Set(0), poison = Set(0);
  for (int i = 0; i < kFixedBlockSize; i += 8) {
    const Vec v = Load(values + i);
    top = Max(top, Max(v, Sub(Set(0), v)));
    poison = MulAdd(v, Set(0), poison);  // 0, or NaN where there is a NaN or an infinity
  }
  const bool finite = ReduceAdd(poison) == 0;
  const float largest = ReduceMax(top);
  uint32_t bits;
  std::memcpy(&bits, &largest, sizeof bits);
  const uint32_t exponent = finite ? bits >> 23 : 0;
  // Below 2^-100 a block is as good as zero; its scale must not become subnormal.
  uint32_t scale_exponent = (exponent > 27 ? exponent : 27) - (kFixedBits - 1);
  const Vec full = Set(PowerOfTwo(254 - scale_exponent));
  Vec squares = Set(0);
  for (int i = 0; i < kFixedBlockSize; i += 8) {
    const Vec v = Mul(Load(values + i), full);
    squares = Add(squares, Mul(v, v));
  }
  scale_exponent += Halvings(ReduceAdd(squares));
  const float unit = a.weights == WeightFormat::kMxfp4 ? kMxfp4Unit : 1;
  a.scales[block] = finite ? PowerOfTwo(scale_exponent) * unit : __builtin_nanf("");
  int16_t* group = a.integers + block / kFixedGroup * kFixedGroup * kFixedBlockSize;
  const int first = static_cast<int>(block % kFixedGroup) * kFixedBlockSize;
  const Vec factor = Set(finite ? PowerOfTwo(254 - scale_exponent) : 0);
  for (int i = 0; i < kFixedBlockSize; i += 8) {
    Store(values + i, Min(Round(Mul(Load(values + i), factor)), Set(32767)));
  }
  for (int i = 0; i < kFixedBlockSize; ++i) {
    group[FixedIndex(first + i)] = finite ? static_cast<int16_t>(values[i]) : 0;
  }
}

void QuantizeFixed(const QuantizeArgs& a) {
  for (int64_t b = 0; b < FixedBlocks(a.size); ++b) QuantizeBlock(a, b);
}

}  // namespace
}  // namespace motet
