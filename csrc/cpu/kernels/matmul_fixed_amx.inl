// x · Wᵀ of integers with Intel AMX, for many tokens: tiles of up to sixteen tokens times sixteen
// rows, see tiles_amx.inl. A few take the kernels of matmul_fixed_avx512.inl. The results are the
// same bits.
//
// Never run on a CPU that has AMX, only emulated (csrc/cpu/emulator). Cycles a block, sixteen
// tokens and sixteen rows on Sapphire Rapids, counted and not measured: 2 vector operations, 2
// loads and 1 store of 64 bytes a cycle, where each row of a tile is one, and 16 cycles a product
// of tiles.
//               vector   loads   stores   products   the most   avx512vnni (vector)
//   MXFP4         40       45      32         32         45       (16 + 3) · 16/2 = 152
//   bf16          56       57      48         64         64                         152
//   int8          32       37      16         16         37        (8 + 3) · 16/2 =  88
// To which packing x adds 24 (int8: 8) / groups of rows; decoding costs either kernel the same, 30
// (MXFP4) or 105 (bf16) / tiles of tokens.

namespace motet {
namespace {

constexpr int kFewestTileTokens = 8;  // by the counts above they cost two thirds
constexpr int kAmxShares = 16;        // tiles of tokens that share decoded weights
constexpr int kAmxGroups = 4;         // groups of kLanes rows that share packed x

// A block's sums of products of bytes: [sums][tokens][rows].
using TileSums = int32_t[kAmxTokens][kLanes];

template <class Integer, WeightFormat Format>
constexpr int kTileSums = Format == WeightFormat::kBf16 ? 3 : static_cast<int>(sizeof(Integer));

// Multiplies a block. Blocks by turns have other tiles for sums (`Set`), so that the next one's
// products need not wait until this one's are stored; three sums leave no tiles for that.
template <int Set, class Integer, WeightFormat Format>
inline void MultiplyBlock(const PackedTokens<Integer>& x, const TileWeights<Format>& w, int block,
                          TileSums* sums) {
  constexpr int64_t kRow = 64, kStride = PackedTokens<Integer>::kStride;
  _tile_loadd(6, w.Low(block), kRow);
  _tile_loadd(4, x.Low(block), kStride);
  if constexpr (Format == WeightFormat::kBf16) {
    _tile_loadd(7, w.High(block), kRow);
    _tile_loadd(5, x.High(block), kStride);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_dpbuud(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbssd(2, 5, 7);
    _tile_dpbsud(1, 5, 6);
    _tile_stored(0, sums[0], kRow);
    _tile_stored(2, sums[2], kRow);
    _tile_stored(1, sums[1], kRow);
  } else if constexpr (sizeof(Integer) == 2) {
    _tile_loadd(5, x.High(block), kStride);
    if constexpr (Set == 0) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_dpbusd(0, 4, 6);
      _tile_dpbssd(1, 5, 6);
      _tile_stored(0, sums[0], kRow);
      _tile_stored(1, sums[1], kRow);
    } else {
      _tile_zero(2);
      _tile_zero(3);
      _tile_dpbusd(2, 4, 6);
      _tile_dpbssd(3, 5, 6);
      _tile_stored(2, sums[0], kRow);
      _tile_stored(3, sums[1], kRow);
    }
  } else {
    constexpr bool kSigned = Format == WeightFormat::kMxfp4;
    if constexpr (Set == 0) {
      _tile_zero(0);
      if constexpr (kSigned) _tile_dpbssd(0, 4, 6);
      if constexpr (!kSigned) _tile_dpbsud(0, 4, 6);
      _tile_stored(0, sums[0], kRow);
    } else {
      _tile_zero(2);
      if constexpr (kSigned) _tile_dpbssd(2, 4, 6);
      if constexpr (!kSigned) _tile_dpbsud(2, 4, 6);
      _tile_stored(2, sums[0], kRow);
    }
  }
}

// A token's products of a block with sixteen rows, from those of bytes.
template <class Integer, WeightFormat Format>
inline __m512i TokenProducts(const PackedTokens<Integer>& x, int block, int t,
                             const TileSums* sums) {
  const auto sum = [&](int i) { return _mm512_load_si512(sums[i][t]); };
  if constexpr (Format == WeightFormat::kInt8) {
    return _mm512_add_epi32(sum(0), _mm512_set1_epi32(x.starts[t][block]));
  }
  __m512i products = sum(kTileSums<Integer, Format> - 1);
  for (int i = kTileSums<Integer, Format> - 2; i >= 0; --i) {
    products = _mm512_add_epi32(_mm512_slli_epi32(products, 8), sum(i));
  }
  return products;
}

// sums[t] += n blocks of x's rows times the weights. Products of a block are asked for before those
// of the one before it are scaled, which takes as long.
template <int Tokens, class Integer, WeightFormat Format>
void MultiplyTiles(const PackedTokens<Integer>& x, const TileWeights<Format>& w, int n,
                   __m512* sums) {
  alignas(64) TileSums products[2][kTileSums<Integer, Format>];
  __m512 sum[Tokens];
#pragma GCC unroll 16
  for (int t = 0; t < Tokens; ++t) sum[t] = sums[t];
  const auto add = [&](int b) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int t = 0; t < Tokens; ++t) {
      sum[t] = AddBlock(TokenProducts<Integer, Format>(x, b, t, products[b % 2]), x.scales[t][b],
                        w.scales[b], sum[t]);
    }
  };
  asm volatile("" : : "r"(&x), "r"(&w) : "memory");  // as above: tiles are loaded from both
  MultiplyBlock<0>(x, w, 0, products[0]);
  for (int b = 0; b < n; b += 2) {
    if (b + 1 < n) MultiplyBlock<1>(x, w, b + 1, products[1]);
    add(b);
    if (b + 1 == n) break;
    if (b + 2 < n) MultiplyBlock<0>(x, w, b + 2, products[0]);
    add(b + 1);
  }
#pragma GCC unroll 16
  for (int t = 0; t < Tokens; ++t) sums[t] = sum[t];
}

// Up to kAmxGroups groups of rows times tokens in shares of `share` for tiles of `Tokens`.
template <int Tokens, class Integer, WeightFormat Format>
void AmxRows(const FixedMatmulArgs& a, int64_t row0, int first_token, int tokens, int share,
             PackedTokens<Integer>& x) {
  const int64_t blocks = a.weight.ScaleCols(), left = (a.row_end - row0 + kLanes - 1) / kLanes;
  const int groups = left < kAmxGroups ? static_cast<int>(left) : kAmxGroups;
  TileWeights<Format> weights[kAmxGroups];
  __m512 sums[kAmxGroups][kAmxShares][kAmxTokens];
  for (int g = 0; g < groups; ++g) {
    for (int i = 0; i * share < tokens; ++i) {
      for (int t = 0; t < Tokens; ++t) sums[g][i][t] = _mm512_setzero_ps();
    }
  }
  for (int64_t block0 = 0; block0 < blocks; block0 += kTileBlocks) {
    const int n = static_cast<int>(blocks - block0 < kTileBlocks ? blocks - block0 : kTileBlocks);
    for (int g = 0; g < groups; ++g) {
      const int64_t row = row0 + g * kLanes;
      if (row + kLanes <= a.row_end) weights[g].template Decode<true>(a, row, block0, n);
      if (row + kLanes > a.row_end) weights[g].template Decode<false>(a, row, block0, n);
    }
    for (int i = 0; i * share < tokens; ++i) {
      for (int t = i * share; t < tokens && t < (i + 1) * share; ++t) {
        x.Pack(RowOf<Integer>(a, first_token + t, block0), n, t - i * share);
      }
      for (int g = 0; g < groups; ++g) MultiplyTiles<Tokens>(x, weights[g], n, sums[g][i]);
    }
  }
  for (int g = 0; g < groups; ++g) {
    for (int t = 0; t < tokens; ++t) {
      StoreLanes(a, row0 + g * kLanes, first_token + t, sums[g][t / share][t % share]);
    }
  }
}

template <class Integer, WeightFormat Format>
void AmxProducts(const FixedMatmulArgs& a) {
  const auto parts = [](int n, int largest) { return (n + largest - 1) / largest; };
  // Equal passes of equal shares: a last tile of a token or two would cost as much as a full one.
  const int pass = parts(a.tokens, parts(a.tokens, kAmxShares * kAmxTokens));
  const int share = parts(pass, parts(pass, kAmxTokens));
  const int tile_tokens = parts(share, 4) * 4;
  const auto rows = tile_tokens == 16   ? AmxRows<16, Integer, Format>
                    : tile_tokens == 12 ? AmxRows<12, Integer, Format>
                                        : AmxRows<8, Integer, Format>;
  const TileConfig config(tile_tokens);
  PackedTokens<Integer> x = {};
  for (int first = 0; first < a.tokens; first += pass) {
    const int tokens = a.tokens - first < pass ? a.tokens - first : pass;
    for (int64_t row = a.row_begin; row < a.row_end; row += kAmxGroups * kLanes) {
      rows(a, row, first, tokens, share, x);
    }
  }
}

void MatmulFixedAmx(const FixedMatmulArgs& a) {
  if (a.tokens < kFewestTileTokens) return MatmulFixed(a);
  a.weight.format == WeightFormat::kMxfp4 ? AmxProducts<int16_t, WeightFormat::kMxfp4>(a)
                                          : AmxProducts<int16_t, WeightFormat::kBf16>(a);
}

void MatmulInt8Amx(const FixedMatmulArgs& a) {
  if (a.tokens < kFewestTileTokens) return MatmulInt8(a);
  a.weight.format == WeightFormat::kMxfp4 ? AmxProducts<int8_t, WeightFormat::kMxfp4>(a)
                                          : AmxProducts<int8_t, WeightFormat::kInt8>(a);
}

}  // namespace
}  // namespace motet
