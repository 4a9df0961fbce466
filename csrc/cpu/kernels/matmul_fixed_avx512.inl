// x · Wᵀ of integers with AVX-512: sixteen rows side by side, a block's products added up exactly
// in 32-bit lanes, blocks added in order as floats. The results are the same bits as
// matmul_fixed.inl's.
//
// Thirty-two rows make a tile, which is decoded once and multiplied by all tokens. For a few see
// matmul_fixed_few_avx512.inl.

namespace motet {
namespace {

// Blocks decoded at once, whole kFixedGroups: 16 KiB, stay in the first-level cache.
constexpr int kTileBlocks = 8;
constexpr int kTileTokens = 256;  // running sums: 32 KiB
constexpr int kTokensAtOnce = 6;  // times kTileGroups integer and as many float sums in registers

template <class Integer>
struct FixedTile {
  __m512i words[kTileBlocks][kWords<Integer>][kTileGroups];
  __m512 scales[kTileBlocks][kTileGroups];
};

// sums[t][g] += n blocks of the tile times those of `Tokens` tokens.
template <class Integer, int Tokens>
void MultiplyFixedTile(const FixedTile<Integer>& tile, int n, const XRow<Integer>* x,
                       __m512 (*sums)[kTileGroups]) {
  __m512 sum[Tokens][kTileGroups];
  for (int t = 0; t < Tokens; ++t) {
    for (int g = 0; g < kTileGroups; ++g) sum[t][g] = sums[t][g];
  }
  for (int b = 0; b < n; ++b) {
    __m512i products[Tokens][kTileGroups];
    for (int t = 0; t < Tokens; ++t) {
      for (int g = 0; g < kTileGroups; ++g) products[t][g] = Start(x[t], b);
    }
#pragma GCC unroll 16
    for (int p = 0; p < kWords<Integer>; ++p) {
      for (int t = 0; t < Tokens; ++t) {
        const __m512i word = BroadcastWord(BlockOf(x[t].integers, b), p);
        for (int g = 0; g < kTileGroups; ++g) {
          products[t][g] = Dot<Integer>(products[t][g], tile.words[b][p][g], word);
        }
      }
    }
    for (int t = 0; t < Tokens; ++t) {
      for (int g = 0; g < kTileGroups; ++g) {
        sum[t][g] = AddBlock(products[t][g], x[t].scales[b], tile.scales[b][g], sum[t][g]);
      }
    }
  }
  for (int t = 0; t < Tokens; ++t) {
    for (int g = 0; g < kTileGroups; ++g) sums[t][g] = sum[t][g];
  }
}

// Decodes n blocks of one group of the tile's rows.
template <class Integer, WeightFormat Format, bool Whole>
void DecodeFixedTile(const FixedMatmulArgs& a, int64_t row0, int64_t block0, int n, int group,
                     FixedTile<Integer>* tile) {
  const RowGroup<Format, Whole> rows(a, row0);
  __m512 scales[kTileBlocks];
  rows.LoadScales(block0, n, scales);
  for (int b = 0; b < n; ++b) {
    rows.Prefetch(block0 + b + kTileBlocks);
    __m512i words[kWords<Integer>];
    rows.template Decode<Integer>(block0 + b, scales[b], words);
    for (int p = 0; p < kWords<Integer>; ++p) tile->words[b][p][group] = words[p];
    tile->scales[b][group] = scales[b];
  }
}

// One tile of rows times up to kTileTokens tokens.
template <class Integer, WeightFormat Format>
void FixedTiles(const FixedMatmulArgs& a, int64_t row0, int first_token, int tokens) {
  constexpr decltype(&MultiplyFixedTile<Integer, 1>) kMultiply[kTokensAtOnce + 1] = {
      nullptr,
      MultiplyFixedTile<Integer, 1>,
      MultiplyFixedTile<Integer, 2>,
      MultiplyFixedTile<Integer, 3>,
      MultiplyFixedTile<Integer, 4>,
      MultiplyFixedTile<Integer, 5>,
      MultiplyFixedTile<Integer, 6>};
  const int64_t blocks = a.weight.ScaleCols();
  // Shares as equal as can be: one token alone would wait for its own sums.
  const int shares = (tokens + kTokensAtOnce - 1) / kTokensAtOnce;
  const int share = tokens / shares, larger_shares = tokens % shares;
  FixedTile<Integer> tile;
  __m512 sums[kTileTokens][kTileGroups];
  for (int t = 0; t < tokens; ++t) sums[t][0] = sums[t][1] = _mm512_setzero_ps();
  for (int64_t block0 = 0; block0 < blocks; block0 += kTileBlocks) {
    const int n = static_cast<int>(blocks - block0 < kTileBlocks ? blocks - block0 : kTileBlocks);
    for (int g = 0; g < kTileGroups; ++g) {
      const int64_t row = row0 + g * kLanes;
      if (row + kLanes <= a.row_end) {
        DecodeFixedTile<Integer, Format, true>(a, row, block0, n, g, &tile);
      } else {  // a group past the end repeats the last row: nothing of it is written out
        DecodeFixedTile<Integer, Format, false>(a, row < a.row_end ? row : a.row_end - 1, block0, n,
                                                g, &tile);
      }
    }
    for (int i = 0, t = 0; i < shares; ++i) {
      const int count = share + (i < larger_shares);
      XRow<Integer> x[kTokensAtOnce];
      for (int j = 0; j < count; ++j) x[j] = RowOf<Integer>(a, first_token + t + j, block0);
      kMultiply[count](tile, n, x, sums + t);
      t += count;
    }
  }
  for (int t = 0; t < tokens; ++t) {
    for (int g = 0; g < kTileGroups; ++g) {
      StoreLanes(a, row0 + g * kLanes, first_token + t, sums[t][g]);
    }
  }
}

template <class Integer, WeightFormat Format>
void ManyTokens(const FixedMatmulArgs& a) {
  for (int first = 0; first < a.tokens; first += kTileTokens) {
    const int tokens = a.tokens - first < kTileTokens ? a.tokens - first : kTileTokens;
    for (int64_t row = a.row_begin; row < a.row_end; row += kTileGroups * kLanes) {
      FixedTiles<Integer, Format>(a, row, first, tokens);
    }
  }
}

template <class Integer>
void MatmulMxfp4(const FixedMatmulArgs& a) {
  if (a.tokens == 1) return FewTokens<Integer, 1>(a);
  if (a.tokens == 2) return FewTokens<Integer, 2>(a);
  if (a.tokens == 3) return FewTokens<Integer, 3>(a);
  if (a.tokens == 4) return FewTokens<Integer, 4>(a);
  ManyTokens<Integer, WeightFormat::kMxfp4>(a);
}

void MatmulFixed(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) return MatmulMxfp4<int16_t>(a);
  if (a.tokens > 1) return ManyTokens<int16_t, WeightFormat::kBf16>(a);
  ForRowGroups(
      a, [&](int64_t row) { Bf16OneToken<true>(a, row); },
      [&](int64_t row) { Bf16OneToken<false>(a, row); });
}

void MatmulInt8(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) return MatmulMxfp4<int8_t>(a);
  if (a.tokens > 1) return ManyTokens<int8_t, WeightFormat::kInt8>(a);
  for (int64_t row = a.row_begin; row < a.row_end; row += kLanes) Int8OneToken(a, row);
}

}  // namespace
}  // namespace motet
