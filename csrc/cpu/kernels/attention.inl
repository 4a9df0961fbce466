// Softmax attention with a sink over a paged cache, one page of 32 keys at a time with a running
// maximum. Pages are aligned to absolute positions and taken in order, so a token's result depends
// on its own position alone. (Online softmax: Milakov & Gimelshein, arXiv 1805.02867.)
#include "cpu/kernels/exp.inl"

namespace motet {
namespace {

inline Vec LoadElement(const float* p) { return Load(p); }
inline Vec LoadElement(const uint16_t* p) { return LoadF16(p); }

constexpr int kPageVecs = kPageTokens / 8;

// weights[j] = q · key j, from keys stored [head_dim, kPageTokens].
inline void PageScores(const float* q, const float* keys, int64_t head_dim, float scale,
                       float* scores) {
  Vec sum[kPageVecs];
  for (Vec& s : sum) s = Set(0);
  for (int64_t d = 0; d < head_dim; ++d) {
    const Vec query = Set(q[d]);
    for (int j = 0; j < kPageVecs; ++j) {
      sum[j] = MulAdd(query, Load(keys + d * kPageTokens + 8 * j), sum[j]);
    }
  }
  for (int j = 0; j < kPageVecs; ++j) Store(scores + 8 * j, Mul(sum[j], Set(scale)));
}

// scores -> exp(scores - maximum), 0 outside [from, to]; returns their sum.
inline float PageWeights(float* scores, float maximum) {
  Vec total = Set(0);
  for (int j = 0; j < kPageVecs; ++j) {
    const Vec w = Exp(Sub(Load(scores + 8 * j), Set(maximum)));
    Store(scores + 8 * j, w);
    total = Add(total, w);
  }
  return ReduceAdd(total);
}

// out = out * decay + weights · values, values stored [kPageTokens, head_dim].
inline void AddPageValues(const float* weights, const float* values, int from, int to,
                          int64_t head_dim, float decay, float* out) {
  for (int64_t d = 0; d < head_dim; d += 8) {
    Vec sum = Mul(Load(out + d), Set(decay));
    for (int j = from; j <= to; ++j) {
      sum = MulAdd(Set(weights[j]), Load(values + j * head_dim + d), sum);
    }
    Store(out + d, sum);
  }
}

template <class Element>
void Attention(const AttentionArgs& a) {
  constexpr int kMaxHeads = 16;  // a group of heads goes over the cache together
  alignas(64) float keys[kMaxHeadDim * kPageTokens];
  alignas(64) float values[kMaxHeadDim * kPageTokens];
  const int64_t page_size = a.head_dim * kPageTokens;
  for (int64_t h0 = 0; h0 < a.heads; h0 += kMaxHeads) {
    const int64_t heads = a.heads - h0 < kMaxHeads ? a.heads - h0 : kMaxHeads;
    // The sink starts the softmax as a key that has a logit and no value.
    float maximum[kMaxHeads], total[kMaxHeads];
    for (int64_t h = 0; h < heads; ++h) maximum[h] = Bf16ToFloat(a.sinks[h0 + h]), total[h] = 1;
    std::memset(a.out + h0 * a.head_dim, 0, sizeof(float) * heads * a.head_dim);
    for (int64_t page = a.first / kPageTokens; page <= a.last / kPageTokens; ++page) {
      const int64_t base = page * kPageTokens;
      const int from = a.first > base ? static_cast<int>(a.first - base) : 0;
      const int to =
          a.last - base < kPageTokens ? static_cast<int>(a.last - base) : kPageTokens - 1;
      const auto* k = static_cast<const Element*>(a.keys) + a.pages[page] * a.page_stride;
      const auto* v = static_cast<const Element*>(a.values) + a.pages[page] * a.page_stride;
      for (int64_t i = 0; i < page_size; i += 8) Store(keys + i, LoadElement(k + i));
      for (int64_t i = from * a.head_dim; i < (to + 1) * a.head_dim; i += 8) {
        Store(values + i, LoadElement(v + i));
      }
      for (int64_t h = 0; h < heads; ++h) {
        alignas(32) float scores[kPageTokens];
        PageScores(a.q + (h0 + h) * a.head_dim, keys, a.head_dim, a.scale, scores);
        // Slots outside the range hold other positions, or nothing yet.
        for (int j = 0; j < from; ++j) scores[j] = -__builtin_huge_valf();
        for (int j = to + 1; j < kPageTokens; ++j) scores[j] = -__builtin_huge_valf();
        Vec top = Load(scores);
        for (int j = 1; j < kPageVecs; ++j) top = Max(top, Load(scores + 8 * j));
        const float page_max = ReduceMax(top);
        const float new_max = page_max > maximum[h] ? page_max : maximum[h];
        alignas(32) float decay[8];
        Store(decay, Exp(Set(maximum[h] - new_max)));
        total[h] = total[h] * decay[0] + PageWeights(scores, new_max);
        maximum[h] = new_max;
        AddPageValues(scores, values, from, to, a.head_dim, decay[0],
                      a.out + (h0 + h) * a.head_dim);
      }
    }
    for (int64_t h = 0; h < heads; ++h) {
      float* out = a.out + (h0 + h) * a.head_dim;
      for (int64_t d = 0; d < a.head_dim; d += 8) Store(out + d, Div(Load(out + d), Set(total[h])));
    }
  }
}

}  // namespace
}  // namespace motet
