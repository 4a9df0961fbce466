// How many products a second the dot of integers allows: what fractions in benchmarks are of.

namespace motet {
namespace {

// Does `rounds` rounds of independent dots on operands in the first-level cache, as the products'
// inner loop has them; returns the multiply-accumulates.
template <class Integer>
int64_t PeakDots(int64_t rounds) {
  constexpr int kChains = 8;  // hide the latency
  alignas(64) Integer x[kGroupBlocks * kFixedBlockSize] = {};
  const uint8_t codes[kGroupBlocks * kMxfp4BlockBytes] = {};
  const FixedWeights<Integer> weights = DecodeMxfp4Group<Integer>(codes);
  FixedSums sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i) {
    for (FixedSums& sum : sums) {
      asm volatile("" : : "r"(x) : "memory");  // the operand may have changed
      sum = AddSums(sum, MultiplyGroup(weights, LoadInputs(x)));
    }
  }
  asm volatile("" : : "r"(sums) : "memory");  // and the sums are wanted
  return rounds * kChains * kGroupBlocks * kFixedBlockSize;
}

}  // namespace
}  // namespace motet
