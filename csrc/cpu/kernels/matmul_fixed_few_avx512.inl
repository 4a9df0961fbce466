// The products of one token with AVX-512, and with MXFP4 weights of up to four, where bringing many
// rows' codes side by side would cost more than the products.

namespace motet {
namespace {

// out[.., row0 + r] of one token.
template <bool Whole>
void Bf16OneToken(const FixedMatmulArgs& a, int64_t row0) {
  const int64_t blocks = a.weight.ScaleCols();
  const XRow<int16_t> x = RowOf<int16_t>(a, 0);
  const RowGroup<WeightFormat::kBf16, Whole> w(a, row0);
  const uint8_t* next = a.weight.data + (row0 + kLanes) * a.weight.RowBytes();
  __m512 scales[16];
  __m512 sum = _mm512_setzero_ps();
  for (int64_t block = 0; block < blocks; ++block) {
    if (block % 16 == 0) {
      w.LoadScales(block, static_cast<int>(blocks - block < 16 ? blocks - block : 16), scales);
    }
    // Sixteen short runs of bytes, which hardware prefetchers do not follow: the next rows, which
    // lie behind these, are asked for in order instead.
    for (int i = 0; i < kLanes * w.kBlockBytes; i += 64) {
      __builtin_prefetch(next + block * kLanes * w.kBlockBytes + i, 0, 2);
    }
    __m512i words[kWords<int16_t>];
    w.template Decode<int16_t>(block, scales[block % 16], words);
    __m512i sums[4] = {};
    for (int p = 0; p < kWords<int16_t>; ++p) {
      sums[p % 4] =
          Dot<int16_t>(sums[p % 4], words[p], BroadcastWord(BlockOf(x.integers, block), p));
    }
    const __m512i products =
        _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
    sum = AddBlock(products, x.scales[block], scales[block % 16], sum);
  }
  StoreLanes(a, row0, 0, sum);
}

void Int8OneToken(const FixedMatmulArgs& a, int64_t row0) {
  const int64_t blocks = a.weight.ScaleCols();
  const XRow<int8_t> x = RowOf<int8_t>(a, 0);
  const RowGroup<WeightFormat::kInt8, true> w(a, row0);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t block = 0; block < blocks; ++block) {
    __m512i words[kWords<int8_t>];
    w.template Decode<int8_t>(block, w.Scale(block), words);
    __m512i sums[2] = {Start(x, block), _mm512_setzero_si512()};
    for (int p = 0; p < kWords<int8_t>; ++p) {
      sums[p % 2] =
          Dot<int8_t>(sums[p % 2], words[p], BroadcastWord(BlockOf(x.integers, block), p));
    }
    sum = AddBlock(_mm512_add_epi32(sums[0], sums[1]), x.scales[block], w.Scale(block), sum);
  }
  StoreLanes(a, row0, 0, sum);
}

// Sums of four rows over the four lanes of each block: lane 4 b + r = block b of row r.
inline __m512i SumLanes(const __m512i* rows) {
  const auto add = [](__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  };
  const __m512i ab = add(rows[0], rows[1]), cd = add(rows[2], rows[3]);
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// Exchanges the lanes of four: four quarters of four blocks -> four blocks of sixteen rows.
inline void TransposeQuarters(const __m512i* in, __m512i* out) {
  const __m512i a = _mm512_shuffle_i32x4(in[0], in[1], 0x44);  // in0: 0 1, in1: 0 1
  const __m512i b = _mm512_shuffle_i32x4(in[0], in[1], 0xEE);
  const __m512i c = _mm512_shuffle_i32x4(in[2], in[3], 0x44);
  const __m512i d = _mm512_shuffle_i32x4(in[2], in[3], 0xEE);
  out[0] = _mm512_shuffle_i32x4(a, c, 0x88);
  out[1] = _mm512_shuffle_i32x4(a, c, 0xDD);
  out[2] = _mm512_shuffle_i32x4(b, d, 0x88);
  out[3] = _mm512_shuffle_i32x4(b, d, 0xDD);
}

// Sixteen MXFP4 rows for a few tokens, where bringing codes of many rows side by side would cost
// more than the products: 64 bytes are four blocks of one row, multiplied as they lie by x's words
// in the same order, and only sums change sides.
template <class Integer, int Tokens, bool Whole>
void Mxfp4FewTokens(const FixedMatmulArgs& a, int64_t row0) {
  const RowGroup<WeightFormat::kMxfp4, Whole> w(a, row0);
  const int64_t blocks = a.weight.ScaleCols();
  const uint8_t* next = a.weight.data + (row0 + kLanes) * a.weight.RowBytes();
  XRow<Integer> x[Tokens];
  for (int t = 0; t < Tokens; ++t) x[t] = RowOf<Integer>(a, t);
  __m512 scales[16];
  __m512 sum[Tokens];
  for (int t = 0; t < Tokens; ++t) sum[t] = _mm512_setzero_ps();
  for (int64_t block = 0; block < blocks; block += kFixedGroup) {
    const int64_t left = blocks - block;
    if (block % 16 == 0) w.LoadScales(block, static_cast<int>(left < 16 ? left : 16), scales);
    const auto there =
        left < kFixedGroup ? (__mmask64{1} << left * kMxfp4BlockBytes) - 1 : ~__mmask64{0};
    __m512i quarters[Tokens][4];
    for (int q = 0; q < 4; ++q) {
      __m512i products[Tokens][4];
      for (int r = 0; r < 4; ++r) {
        __builtin_prefetch(next + (block * kLanes + (4 * q + r) * kFixedGroup) * kMxfp4BlockBytes,
                           0, 2);
        __m512i words[kShifts<Integer>];
        DecodeMxfp4<Integer>(w.FourBlocks(4 * q + r, block, there), words);
        for (int t = 0; t < Tokens; ++t) {
          const Integer* x_words = x[t].integers + block * kFixedBlockSize;
          __m512i sums = _mm512_setzero_si512();
          for (int i = 0; i < kShifts<Integer>; ++i) {
            sums = Dot<Integer>(sums, words[i],
                                _mm512_loadu_si512(x_words + kPerWord<Integer> * kLanes * i));
          }
          products[t][r] = sums;
        }
      }
      for (int t = 0; t < Tokens; ++t) quarters[t][q] = SumLanes(products[t]);
    }
    for (int t = 0; t < Tokens; ++t) {
      __m512i of_block[kFixedGroup];
      TransposeQuarters(quarters[t], of_block);
      const int n = static_cast<int>(left < kFixedGroup ? left : kFixedGroup);
      for (int b = 0; b < n; ++b) {
        const __m512i products = _mm512_add_epi32(Start(x[t], block + b), of_block[b]);
        sum[t] = AddBlock(products, x[t].scales[block + b], scales[(block + b) % 16], sum[t]);
      }
    }
  }
  for (int t = 0; t < Tokens; ++t) StoreLanes(a, row0, t, sum[t]);
}

// Calls whole(row) or part(row) for each sixteen rows.
template <class Whole, class Part>
void ForRowGroups(const FixedMatmulArgs& a, const Whole& whole, const Part& part) {
  int64_t row = a.row_begin;
  for (; row + kLanes <= a.row_end; row += kLanes) whole(row);
  if (row < a.row_end) part(row);
}

template <class Integer, int Tokens>
void FewTokens(const FixedMatmulArgs& a) {
  ForRowGroups(
      a, [&](int64_t row) { Mxfp4FewTokens<Integer, Tokens, true>(a, row); },
      [&](int64_t row) { Mxfp4FewTokens<Integer, Tokens, false>(a, row); });
}

}  // namespace
}  // namespace motet
