// How many products a second the dot of integers allows: what fractions in benchmarks are of.

namespace motet {
namespace {

// Does `rounds` rounds of independent dots on operands in the first-level cache, as the products'
// inner loop has them; returns the multiply-accumulates.
template <class Integer>
int64_t PeakDots(int64_t rounds) {
  constexpr int kChains = 8;  // hide the latency
  __m256i word = {}, weights = {}, sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+m"(word));  // the operands may have changed
#pragma GCC unroll 8
    for (int c = 0; c < kChains; ++c) {
      asm volatile("" : "+x"(weights));
      Products<WeightFormat::kMxfp4, Integer>::Add(sums[c], weights, word);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < kChains; ++c) asm volatile("" : : "x"(sums[c]));  // and the sums are wanted
  return rounds * kChains * kLanes * kPerWord<Integer>;
}

}  // namespace
}  // namespace motet
