// As attention.inl, with AVX-512: eight heads go over a page together, each of its numbers is
// converted once for the scores or the sum and used by all from a register.
#include "cpu/kernels/attention_page.inl"
#include "cpu/kernels/exp.inl"

namespace motet {
namespace {

constexpr int kLaneCount = 16;
constexpr __mmask16 kAllLanes = 0xFFFF;
constexpr int kRegisters = 2;  // side by side: a page's keys, or so many dimensions
static_assert(kPageTokens == kRegisters * kLaneCount);

// The softmax of some heads so far.
template <int Heads>
struct RunningSoftmax {
  alignas(32) float maximum[8], total[8];
  alignas(32) float decay[8];  // of what was summed before the last page
  alignas(64) float weights[Heads][kPageTokens];
};

// scores[h] = q of head h · keys stored [head_dim, kPageTokens]; asks for `next` keys meanwhile.
template <int Heads, class Element>
inline void PageScores(const float* q, const Element* keys, const Element* next, int64_t head_dim,
                       __m512 (*scores)[kRegisters]) {
  for (int h = 0; h < Heads; ++h) scores[h][0] = scores[h][1] = _mm512_setzero_ps();
  for (int64_t d = 0; d < head_dim; ++d) {
    const Element* at = keys + d * kPageTokens;
    for (size_t i = 0; i < sizeof(Element) * kPageTokens; i += 64) {
      __builtin_prefetch(reinterpret_cast<const char*>(next + d * kPageTokens) + i, 0, 3);
    }
    const __m512 k[kRegisters] = {LoadLanes(kAllLanes, at), LoadLanes(kAllLanes, at + kLaneCount)};
    for (int h = 0; h < Heads; ++h) {
      const __m512 query = _mm512_set1_ps(q[h * head_dim + d]);
      for (int r = 0; r < kRegisters; ++r) scores[h][r] = MulAdd(query, k[r], scores[h][r]);
    }
  }
}

// scores -> weights of the keys `there`, relative to the new maximum. Where there are scales
// [kPageTokens], those of keys are of the scores, those of values are taken into the weights.
template <int Heads>
inline void AddWeights(const __m512 (*scores)[kRegisters], float scale, const float* key_scales,
                       const float* value_scales, const __mmask16* there,
                       RunningSoftmax<Heads>* softmax) {
  __m512 factors[kRegisters];  // of the scores
  for (int r = 0; r < kRegisters; ++r) {
    factors[r] = _mm512_set1_ps(scale);
    if (key_scales) factors[r] = Mul(factors[r], _mm512_loadu_ps(key_scales + kLaneCount * r));
  }
  const __m512 nothing = _mm512_set1_ps(-__builtin_huge_valf());
  __m512 scaled[Heads][kRegisters];
  alignas(32) float top[8] = {};
  for (int h = 0; h < Heads; ++h) {
    for (int r = 0; r < kRegisters; ++r) {
      // Slots outside the range hold other positions, or nothing yet.
      scaled[h][r] = _mm512_mask_mul_ps(nothing, there[r], scores[h][r], factors[r]);
    }
    top[h] = _mm512_reduce_max_ps(Max(scaled[h][0], scaled[h][1]));
  }
  const Vec before = Load(softmax->maximum), maximum = Max(before, Load(top));
  const Vec decay = Exp(Sub(before, maximum));
  Store(softmax->maximum, maximum);
  Store(softmax->decay, decay);
  alignas(32) float sums[8] = {};
  for (int h = 0; h < Heads; ++h) {
    const __m512 top_of_head = _mm512_set1_ps(softmax->maximum[h]);
    __m512 weights[kRegisters];
    for (int r = 0; r < kRegisters; ++r) {
      weights[r] = Exp(Sub(scaled[h][r], top_of_head));
      __m512 stored = weights[r];
      if (value_scales) stored = Mul(stored, _mm512_loadu_ps(value_scales + kLaneCount * r));
      _mm512_store_ps(softmax->weights[h] + kLaneCount * r, stored);
    }
    sums[h] = _mm512_reduce_add_ps(Add(weights[0], weights[1]));
  }
  Store(softmax->total, MulAdd(Load(softmax->total), decay, Load(sums)));
}

// out[h] = out[h] * decay + weights · values, values stored [kPageTokens, head_dim].
template <int Heads, class Element>
inline void AddValues(const RunningSoftmax<Heads>& softmax, const Element* values,
                      const Element* next, int from, int to, int64_t head_dim, float* out) {
  for (int64_t d = 0; d < head_dim; d += kRegisters * kLaneCount) {
    __mmask16 there[kRegisters];
    for (int r = 0; r < kRegisters; ++r) {
      const int64_t left = head_dim - d - r * kLaneCount;
      there[r] = static_cast<__mmask16>(left >= kLaneCount ? kAllLanes
                                        : left > 0         ? (1 << left) - 1
                                                           : 0);
    }
    __m512 sums[Heads][kRegisters];
    for (int h = 0; h < Heads; ++h) {
      for (int r = 0; r < kRegisters; ++r) {
        sums[h][r] = Mul(LoadLanes(there[r], out + h * head_dim + d + r * kLaneCount),
                         _mm512_set1_ps(softmax.decay[h]));
      }
    }
    for (int j = from; j <= to; ++j) {
      const int64_t at = j * head_dim + d;
      __builtin_prefetch(next + at, 0, 3);
      __m512 v[kRegisters];
      for (int r = 0; r < kRegisters; ++r) v[r] = LoadLanes(there[r], values + at + r * kLaneCount);
      for (int h = 0; h < Heads; ++h) {
        const __m512 weight = _mm512_set1_ps(softmax.weights[h][j]);
        for (int r = 0; r < kRegisters; ++r) sums[h][r] = MulAdd(weight, v[r], sums[h][r]);
      }
    }
    for (int h = 0; h < Heads; ++h) {
      for (int r = 0; r < kRegisters; ++r) {
        _mm512_mask_storeu_ps(out + h * head_dim + d + r * kLaneCount, there[r], sums[h][r]);
      }
    }
  }
}

// Heads [h0, h0 + Heads).
template <int Heads, class Element>
void AttendHeads(const AttentionArgs& a, int64_t h0) {
  const float* q = a.q + h0 * a.head_dim;
  float* out = a.out + h0 * a.head_dim;
  // The sink starts the softmax as a key that has a logit and no value.
  RunningSoftmax<Heads> softmax{};
  for (int h = 0; h < Heads; ++h) {
    softmax.maximum[h] = Bf16ToFloat(a.sinks[h0 + h]);
    softmax.total[h] = 1;
  }
  std::memset(out, 0, sizeof(float) * Heads * a.head_dim);
  const int64_t last_page = a.last / kPageTokens;
  for (int64_t page = a.first / kPageTokens; page <= last_page; ++page) {
    const int64_t base = page * kPageTokens;
    const int from = a.first > base ? static_cast<int>(a.first - base) : 0;
    const int to = a.last - base < kPageTokens ? static_cast<int>(a.last - base) : kPageTokens - 1;
    const uint32_t slots = (~uint32_t{0} << from) & (~uint32_t{0} >> (kPageTokens - 1 - to));
    const __mmask16 there[kRegisters] = {static_cast<__mmask16>(slots),
                                         static_cast<__mmask16>(slots >> kLaneCount)};
    const int64_t at = a.pages[page], next = a.pages[page < last_page ? page + 1 : page];
    const auto* keys = PageOf<Element>(a.keys, at, a.page_stride);
    const auto* values = PageOf<Element>(a.values, at, a.page_stride);
    const auto* next_keys = PageOf<Element>(a.keys, next, a.page_stride);
    const auto* next_values = PageOf<Element>(a.values, next, a.page_stride);
    __m512 scores[Heads][kRegisters];
    PageScores<Heads>(q, keys, next_keys, a.head_dim, scores);
    AddWeights<Heads>(scores, a.scale, ScalesOf(keys, a.head_dim), ScalesOf(values, a.head_dim),
                      there, &softmax);
    AddValues<Heads>(softmax, values, next_values, from, to, a.head_dim, out);
  }
  for (int h = 0; h < Heads; ++h) {
    for (int64_t d = 0; d < a.head_dim; d += 8) {
      float* at = out + h * a.head_dim + d;
      Store(at, Div(Load(at), Set(softmax.total[h])));
    }
  }
}

template <class Element>
void Attention(const AttentionArgs& a) {
  int64_t h = 0;
  for (; h + 8 <= a.heads; h += 8) AttendHeads<8, Element>(a, h);
  if (a.heads - h >= 4) AttendHeads<4, Element>(a, h), h += 4;
  if (a.heads - h >= 2) AttendHeads<2, Element>(a, h), h += 2;
  if (a.heads - h >= 1) AttendHeads<1, Element>(a, h);
}

}  // namespace
}  // namespace motet
