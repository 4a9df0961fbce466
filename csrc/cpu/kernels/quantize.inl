// Floats to integers, see base/fixed.h. The order of integers is the instruction set's own.

namespace motet {
namespace {

// From a biased exponent.
float PowerOfTwo(uint32_t exponent) {
  const uint32_t bits = exponent << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return power;
}

// A block's values, filled up with zeros.
struct BlockValues {
  alignas(64) float values[kFixedBlockSize] = {};
  float largest;  // magnitude
  bool finite;

  BlockValues(const QuantizeArgs& a, int64_t block) {
    const int64_t left = a.size - block * kFixedBlockSize;
    const int n = left <= 0 ? 0 : left < kFixedBlockSize ? static_cast<int>(left) : kFixedBlockSize;
    std::memcpy(values, a.x + block * kFixedBlockSize, sizeof(float) * n);
    Vec top = Set(0), poison = Set(0);
    for (int i = 0; i < kFixedBlockSize; i += 8) {
      const Vec v = Load(values + i);
      top = Max(top, Max(v, Sub(Set(0), v)));
      poison = MulAdd(v, Set(0), poison);  // 0, or NaN where there is a NaN or an infinity
    }
    finite = ReduceAdd(poison) == 0;
    largest = ReduceMax(top);
  }
};

// Values times a factor, rounded, at most `limit`; zeros where they are not finite.
void RoundValues(BlockValues& x, float factor, float limit) {
  for (int i = 0; i < kFixedBlockSize; i += 8) {
    const Vec rounded = Min(Round(Mul(Load(x.values + i), Set(factor))), Set(limit));
    Store(x.values + i, x.finite ? rounded : Set(0));
  }
}

template <class Integer>
void StoreIntegers(const QuantizeArgs& a, int64_t block, const BlockValues& x) {
  Integer* integers = static_cast<Integer*>(a.out.integers);
  StoreBlock(x.values, a.weights, static_cast<int>(block % kFixedGroup),
             integers + block / kFixedGroup * kFixedGroup * kFixedBlockSize);
}

void QuantizeFixedBlock(const QuantizeArgs& a, int64_t block) {
  BlockValues x(a, block);
  uint32_t bits;
  std::memcpy(&bits, &x.largest, sizeof bits);
  const uint32_t exponent = x.finite ? bits >> 23 : 0;
  // Below 2^-100 a block is as good as zero; its scale must not become subnormal.
  uint32_t scale_exponent = (exponent > 27 ? exponent : 27) - (kFixedBits - 1);
  const Vec full = Set(PowerOfTwo(254 - scale_exponent));
  Vec squares = Set(0);
  for (int i = 0; i < kFixedBlockSize; i += 8) {
    const Vec v = Mul(Load(x.values + i), full);
    squares = Add(squares, Mul(v, v));
  }
  scale_exponent += Halvings(ReduceAdd(squares));
  const float unit = a.weights == WeightFormat::kMxfp4 ? kMxfp4Unit<int16_t> : 1;
  a.out.scales[block] = x.finite ? PowerOfTwo(scale_exponent) * unit : __builtin_nanf("");
  RoundValues(x, PowerOfTwo(254 - scale_exponent), 32767);
  StoreIntegers<int16_t>(a, block, x);
}

void QuantizeInt8Block(const QuantizeArgs& a, int64_t block) {
  constexpr float kLargest = 127;
  BlockValues x(a, block);
  const bool tiny = x.largest < PowerOfTwo(27);  // 2^-100: as good as zero
  const float unit = a.weights == WeightFormat::kMxfp4 ? kMxfp4Unit<int8_t> : 1;
  a.out.scales[block] = x.finite ? (tiny ? 0 : x.largest / kLargest * unit) : __builtin_nanf("");
  RoundValues(x, tiny ? 0 : kLargest / x.largest, kLargest);
  StoreIntegers<int8_t>(a, block, x);
  const int32_t offset = a.weights == WeightFormat::kMxfp4 ? kMxfp4Offset : kInt8Offset;
  a.out.starts[block] = BlockStart(x.values, offset);
}

void QuantizeFixed(const QuantizeArgs& a) {
  for (int64_t b = 0; b < FixedBlocks(a.size); ++b) QuantizeFixedBlock(a, b);
}

void QuantizeInt8(const QuantizeArgs& a) {
  for (int64_t b = 0; b < FixedBlocks(a.size); ++b) QuantizeInt8Block(a, b);
}

}  // namespace
}  // namespace motet
