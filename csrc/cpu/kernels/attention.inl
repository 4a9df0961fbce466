// Softmax attention with a sink over a paged cache, one page of 32 keys at a time with a running
// maximum. Pages are aligned to absolute positions and taken in order, so a token's result depends
// on its own position alone. (Online softmax: Milakov & Gimelshein, arXiv 1805.02867.)
//
// Eight heads go over a page together: in the two products a tile of heads and columns of the page
// stays in registers, in the softmax between them each head has a lane.
#include "cpu/kernels/attention_page.inl"
#include "cpu/kernels/exp.inl"

namespace motet {
namespace {

constexpr int kHeadLanes = 8;

inline Vec LoadElement(const float* p) { return Load(p); }
inline Vec LoadElement(const uint16_t* p) { return LoadF16(p); }
inline Vec LoadElement(const int8_t* p) { return LoadInt8(p); }

// sums[h][r] += over i in [from, to]: x[i][h] * lanes r of row i; asks for the same of `next`.
template <int Heads, int Vecs, class Element>
inline void AddProducts(const float (*x)[kHeadLanes], const Element* rows, const Element* next,
                        int64_t stride, int64_t from, int64_t to, Vec (*sums)[Vecs]) {
  for (int64_t i = from; i <= to; ++i) {
    __builtin_prefetch(next + i * stride, 0, 3);
    Vec row[Vecs];
    for (int r = 0; r < Vecs; ++r) row[r] = LoadElement(rows + i * stride + 8 * r);
    // Unrolled early, or GCC leaves sums that are pairs of registers in memory.
#pragma GCC unroll 8
    for (int h = 0; h < Heads; ++h) {
      const Vec factor = Set(x[i][h]);
      for (int r = 0; r < Vecs; ++r) sums[h][r] = MulAdd(factor, row[r], sums[h][r]);
    }
  }
}

// What eight heads have seen so far, and scratch for the next page. Heads that are not there have
// zeros.
struct HeadGroup {
  alignas(32) float q[kMaxHeadDim][kHeadLanes];  // times the scale of the scores
  alignas(32) float scores[kHeadLanes][kPageTokens];
  alignas(32) float weights[kPageTokens][kHeadLanes];
  alignas(32) float maximum[kHeadLanes], total[kHeadLanes];
  alignas(32) float decay[kHeadLanes];  // of what was summed before the last page
  alignas(32) float sums[kHeadLanes][kMaxHeadDim];
};

// scores[h][j] = q of head h · key j of keys stored [head_dim, kPageTokens].
template <int Heads, class Element>
inline void PageScores(const Element* keys, const Element* next, int64_t head_dim,
                       HeadGroup* group) {
  constexpr int kHeads = Heads < kTileHeads ? Heads : kTileHeads;
  for (int h0 = 0; h0 < Heads; h0 += kHeads) {
    const auto* q = reinterpret_cast<const float (*)[kHeadLanes]>(&group->q[0][h0]);
    for (int j = 0; j < kPageTokens; j += 8 * kTileVecs) {
      Vec sums[kHeads][kTileVecs];
      for (auto& head : sums) {
        for (Vec& sum : head) sum = Set(0);
      }
      AddProducts<kHeads, kTileVecs>(q, keys + j, next + j, kPageTokens, 0, head_dim - 1, sums);
      for (int h = 0; h < kHeads; ++h) {
        for (int r = 0; r < kTileVecs; ++r) Store(group->scores[h0 + h] + j + 8 * r, sums[h][r]);
      }
    }
  }
}

// scores -> weights of the keys [from, to], relative to the new maximum. Where there are scales
// [kPageTokens], those of keys are of the scores, those of values are taken into the weights.
inline void AddWeights(const float* key_scales, const float* value_scales, int from, int to,
                       HeadGroup* group) {
  for (int j = 0; j < kPageTokens; j += 8) {
    Vec block[8];
    for (int h = 0; h < kHeadLanes; ++h) {
      block[h] = Load(group->scores[h] + j);
      if (key_scales) block[h] = Mul(block[h], Load(key_scales + j));
    }
    Transpose(block);
    for (int i = 0; i < 8; ++i) Store(group->weights[j + i], block[i]);
  }
  const Vec before = Load(group->maximum);
  Vec maximum = before;
  for (int j = from; j <= to; ++j) maximum = Max(Load(group->weights[j]), maximum);
  const Vec decay = ExpOfNegative(Sub(before, maximum));
  Vec total = Set(0);
  for (int j = from; j <= to; ++j) {
    const Vec weight = ExpOfNegative(Sub(Load(group->weights[j]), maximum));
    Store(group->weights[j], value_scales ? Mul(weight, Set(value_scales[j])) : weight);
    total = Add(total, weight);
  }
  Store(group->maximum, maximum);
  Store(group->decay, decay);
  Store(group->total, MulAdd(Load(group->total), decay, total));
}

// Columns [d, d + 8 Vecs) of: sums = sums * decay + weights · values.
template <int Heads, int Vecs, class Element>
inline void AddColumns(const Element* values, const Element* next, int from, int to,
                       int64_t head_dim, int64_t d, HeadGroup* group) {
  constexpr int kHeads = Heads < kTileHeads ? Heads : kTileHeads;
  for (int h0 = 0; h0 < Heads; h0 += kHeads) {
    const auto* weights = reinterpret_cast<const float (*)[kHeadLanes]>(&group->weights[0][h0]);
    Vec sums[kHeads][Vecs];
    for (int h = 0; h < kHeads; ++h) {
      const Vec decay = Set(group->decay[h0 + h]);
      for (int r = 0; r < Vecs; ++r) {
        sums[h][r] = Mul(Load(group->sums[h0 + h] + d + 8 * r), decay);
      }
    }
    AddProducts<kHeads, Vecs>(weights, values + d, next + d, head_dim, from, to, sums);
    for (int h = 0; h < kHeads; ++h) {
      for (int r = 0; r < Vecs; ++r) Store(group->sums[h0 + h] + d + 8 * r, sums[h][r]);
    }
  }
}

// sums = sums * decay + weights · values stored [kPageTokens, head_dim].
template <int Heads, class Element>
inline void AddValues(const Element* values, const Element* next, int from, int to,
                      int64_t head_dim, HeadGroup* group) {
  int64_t d = 0;
  for (; d + 8 * kTileVecs <= head_dim; d += 8 * kTileVecs) {
    AddColumns<Heads, kTileVecs>(values, next, from, to, head_dim, d, group);
  }
  for (; d < head_dim; d += 8) AddColumns<Heads, 1>(values, next, from, to, head_dim, d, group);
}

// Heads [h0, h0 + Heads).
template <int Heads, class Element>
void AttendHeads(const AttentionArgs& a, int64_t h0) {
  HeadGroup group;
  const float* q = a.q + h0 * a.head_dim;
  for (int h = 0; h < kHeadLanes; ++h) {
    const bool there = h < Heads;
    for (int64_t d = 0; d < a.head_dim; ++d) {
      group.q[d][h] = there ? q[h * a.head_dim + d] * a.scale : 0;
    }
    for (float& score : group.scores[h]) score = 0;
    // The sink starts the softmax as a key that has a logit and no value.
    group.maximum[h] = there ? Bf16ToFloat(a.sinks[h0 + h]) : 0;
    group.total[h] = 1;
    std::memset(group.sums[h], 0, sizeof(float) * a.head_dim);
  }
  const int64_t last_page = a.last / kPageTokens;
  for (int64_t page = a.first / kPageTokens; page <= last_page; ++page) {
    // Slots outside [from, to] hold other positions, or nothing yet.
    const int64_t base = page * kPageTokens;
    const int from = a.first > base ? static_cast<int>(a.first - base) : 0;
    const int to = a.last - base < kPageTokens ? static_cast<int>(a.last - base) : kPageTokens - 1;
    const int64_t at = a.pages[page], next = a.pages[page < last_page ? page + 1 : page];
    const auto* keys = PageOf<Element>(a.keys, at, a.page_stride);
    const auto* values = PageOf<Element>(a.values, at, a.page_stride);
    const auto* next_keys = PageOf<Element>(a.keys, next, a.page_stride);
    const auto* next_values = PageOf<Element>(a.values, next, a.page_stride);
    PageScores<Heads>(keys, next_keys, a.head_dim, &group);
    AddWeights(ScalesOf(keys, a.head_dim), ScalesOf(values, a.head_dim), from, to, &group);
    AddValues<Heads>(values, next_values, from, to, a.head_dim, &group);
  }
  for (int h = 0; h < Heads; ++h) {
    float* out = a.out + (h0 + h) * a.head_dim;
    for (int64_t d = 0; d < a.head_dim; d += 8) {
      Store(out + d, Div(Load(group.sums[h] + d), Set(group.total[h])));
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
