// As peak.inl, with AVX-512.

namespace motet {
namespace {

template <class Integer>
int64_t PeakDots(int64_t rounds) {
  constexpr int kChains = 12;  // hide the latency
  alignas(64) Integer x[16 * kPerWord<Integer>] = {};
  const __m512i weights = _mm512_set1_epi32(static_cast<int>(rounds));
  __m512i sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i) {
    for (__m512i& sum : sums) {
      asm volatile("" : : "r"(x) : "memory");  // the operand may have changed
      sum = Dot<Integer>(sum, weights, _mm512_load_si512(x));
    }
  }
  asm volatile("" : : "r"(sums) : "memory");  // and the sums are wanted
  return rounds * kChains * 16 * kPerWord<Integer>;
}

}  // namespace
}  // namespace motet
