// x · Wᵀ of integers with AVX2: eight rows side by side, a block's products added up exactly in
// 32-bit lanes, blocks added in order as floats. The results are the same bits as
// matmul_fixed.inl's.
//
// Sixteen rows make a tile, which is decoded once and multiplied by all tokens. For a few see
// matmul_fixed_few_avx2.inl.

namespace motet {
namespace {

constexpr int kTileGroups = 2;    // times kLanes rows make a tile
constexpr int kTileBlocks = 8;    // decoded at once: 8 KiB, stay in the first-level cache
constexpr int kTileTokens = 128;  // running sums: 8 KiB
constexpr int kTokensAtOnce = 6;  // times kTileGroups integer sums in registers

template <class Integer>
using TileWords = __m256i[kWords<Integer>][kTileGroups];  // of a block

// Of bf16 a tile is 8 KiB: asked for all at once, while the one before is decoded, decoding would
// wait for it. So products ask for their part.
template <WeightFormat Format>
constexpr bool kPrefetchBesideProducts = Format == WeightFormat::kBf16;

// The next tile's lines, for each block that is decoded or multiplied.
struct LinesAhead {
  const uint8_t* at;
  int each;
  void Prefetch() {
    PrefetchLines(at, each);
    at += 64 * each;
  }
};

// The decoded tile; int8 weights lie as one already.
template <WeightFormat Format, class Integer>
class FixedTile {
 public:
  // n blocks of a tile's rows, which will be multiplied `shares` times.
  LinesAhead Load(const FixedMatmulArgs& a, int64_t row0, int64_t block0, int n, int shares) {
    using Rows = RowGroup<Format, Integer>;
    constexpr int kLines = kTileGroups * kLanes * Rows::kBlockBytes / 64;  // of a block
    const int parts = kTileGroups + shares;
    LinesAhead ahead = {Rows(a, row0).Behind(kTileGroups, kTileGroups * block0),
                        (kLines + parts - 1) / parts};
    for (int g = 0; g < kTileGroups; ++g) {
      // A group past the end repeats the last row: nothing of it is written out.
      const int64_t row = row0 + g * kLanes;
      const Rows w(a, row < a.row_end ? row : a.row_end - 1);
      w.LoadScales(block0, scales_[g]);
      uint8_t padded[kLanes * kTileBlocks * Rows::kBlockBytes];
      int64_t stride;
      const uint8_t* at = w.Blocks(block0, n, padded, &stride);
      for (int b = 0; b < n; ++b) {
        if constexpr (kPrefetchBesideProducts<Format>) {
          ahead.Prefetch();
        } else {
          w.Prefetch(kTileGroups, block0 + b, 1);
        }
        Rows::Decode(at + b * Rows::kBlockBytes, stride, scales_[g][b],
                     [&](int p, __m256i word) { decoded_[b][p][g] = word; });
      }
    }
    return ahead;
  }
  const TileWords<Integer>& words(int b) const { return decoded_[b]; }
  __m256 scale(int b, int g) const { return scales_[g][b]; }

 private:
  TileWords<Integer> decoded_[kTileBlocks];
  __m256 scales_[kTileGroups][kTileBlocks];
};

template <>
class FixedTile<WeightFormat::kInt8, int8_t> {
 public:
  static_assert(kInt8Rows == kTileGroups * kLanes);

  LinesAhead Load(const FixedMatmulArgs& a, int64_t row0, int64_t block0, int, int) {
    const int64_t at = row0 / kInt8Rows * a.weight.ScaleCols() + block0;
    words_ = reinterpret_cast<const TileWords<int8_t>*>(a.weight.data + at * kInt8BlockBytes);
    scales_ = reinterpret_cast<const uint16_t*>(a.weight.scales) + at * kInt8Rows;
    return {};
  }
  const TileWords<int8_t>& words(int b) const { return words_[b]; }
  __m256 scale(int b, int g) const { return LoadBf16(scales_ + b * kInt8Rows + g * kLanes); }

 private:
  const TileWords<int8_t>* words_;
  const uint16_t* scales_;
};

// sums[t][g] += n blocks of the tile times those of `Tokens` tokens.
template <WeightFormat Format, class Integer, int Tokens>
void MultiplyTile(const FixedTile<Format, Integer>& tile, int n, const XRow<Integer>* x,
                  __m256 (*sums)[kTileGroups], LinesAhead& ahead) {
  using Sums = Products<Format, Integer>;
  for (int b = 0; b < n; ++b) {
    if constexpr (kPrefetchBesideProducts<Format>) ahead.Prefetch();
    const TileWords<Integer>& words = tile.words(b);
    __m256i products[Tokens][kTileGroups];
    for (int t = 0; t < Tokens; ++t) {
      for (int g = 0; g < kTileGroups; ++g) products[t][g] = Sums::Start(x[t].Start(b));
    }
#pragma GCC unroll 16
    for (int p = 0; p < kWords<Integer>; ++p) {
      __m256i weights[kTileGroups];
      for (int g = 0; g < kTileGroups; ++g) weights[g] = Sums::Weights(words[p][g]);
      for (int t = 0; t < Tokens; ++t) {
        const __m256i word = x[t].template Word<Format>(b, p);
        for (int g = 0; g < kTileGroups; ++g) Sums::Add(products[t][g], weights[g], word);
      }
    }
    for (int t = 0; t < Tokens; ++t) {
      for (int g = 0; g < kTileGroups; ++g) {
        sums[t][g] =
            AddBlock(Sums::Floats(products[t][g]), x[t].scales[b], tile.scale(b, g), sums[t][g]);
      }
    }
  }
}

// One tile of rows times up to kTileTokens tokens.
template <WeightFormat Format, class Integer>
void FixedTiles(const FixedMatmulArgs& a, int64_t row0, int first_token, int tokens) {
  constexpr decltype(&MultiplyTile<Format, Integer, 1>) kMultiply[kTokensAtOnce + 1] = {
      nullptr,
      MultiplyTile<Format, Integer, 1>,
      MultiplyTile<Format, Integer, 2>,
      MultiplyTile<Format, Integer, 3>,
      MultiplyTile<Format, Integer, 4>,
      MultiplyTile<Format, Integer, 5>,
      MultiplyTile<Format, Integer, 6>};
  static_assert(kTileBlocks == kScaleBlocks);
  const int64_t blocks = a.weight.ScaleCols();
  // Shares as equal as can be: one token alone would wait for its own sums.
  const int shares = (tokens + kTokensAtOnce - 1) / kTokensAtOnce;
  const int share = tokens / shares, larger_shares = tokens % shares;
  FixedTile<Format, Integer> tile;
  __m256 sums[kTileTokens][kTileGroups];
  for (int t = 0; t < tokens; ++t) sums[t][0] = sums[t][1] = _mm256_setzero_ps();
  for (int64_t block0 = 0; block0 < blocks; block0 += kTileBlocks) {
    const int n = static_cast<int>(blocks - block0 < kTileBlocks ? blocks - block0 : kTileBlocks);
    LinesAhead ahead = tile.Load(a, row0, block0, n, shares);
    for (int i = 0, t = 0; i < shares; ++i) {
      const int count = share + (i < larger_shares);
      XRow<Integer> x[kTokensAtOnce];
      for (int j = 0; j < count; ++j) x[j] = RowOf<Integer>(a, first_token + t + j, block0);
      kMultiply[count](tile, n, x, sums + t, ahead);
      t += count;
    }
  }
  for (int t = 0; t < tokens; ++t) {
    for (int g = 0; g < kTileGroups; ++g) {
      StoreLanes(a, row0 + g * kLanes, first_token + t, sums[t][g]);
    }
  }
}

template <WeightFormat Format, class Integer>
void MatmulTiles(const FixedMatmulArgs& a) {
  for (int first = 0; first < a.tokens; first += kTileTokens) {
    const int tokens = a.tokens - first < kTileTokens ? a.tokens - first : kTileTokens;
    for (int64_t row = a.row_begin; row < a.row_end; row += kTileGroups * kLanes) {
      FixedTiles<Format, Integer>(a, row, first, tokens);
    }
  }
}

template <WeightFormat Format, class Integer>
void MatmulFewOrTiles(const FixedMatmulArgs& a) {
  constexpr int kFew = kFewTokens<Integer>;
  a.tokens <= kFew ? MatmulFew<Format, Integer, kFew>(a) : MatmulTiles<Format, Integer>(a);
}

void MatmulFixed(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) {
    return MatmulFewOrTiles<WeightFormat::kMxfp4, int16_t>(a);
  }
  MatmulFewOrTiles<WeightFormat::kBf16, int16_t>(a);
}

void MatmulInt8(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) {
    return MatmulFewOrTiles<WeightFormat::kMxfp4, int8_t>(a);
  }
  MatmulTiles<WeightFormat::kInt8, int8_t>(a);
}

}  // namespace
}  // namespace motet
