// x · Wᵀ of integers with Intel AMX, for many tokens: tiles of up to sixteen tokens times sixteen
// rows. A few take the kernels of matmul_fixed_avx512.inl. The results are the same bits.
//
// TDPB* (Intel SDM, volume 2) multiplies tiles of bytes, with or without signs, and adds them up in
// 32 bits: C [tokens, 16] += A [tokens, 32] · B [8, 16, 4], where B's word (k, n) meets bytes 4k to
// 4k+3 of A's rows. A block of 32 columns is one such product a pair of bytes: integers of 16 bits
// are 256 high + low, high with a sign and low without. x has the rows of A; B's words are those
// of int8 weights (base/matrix.h), to which the others are decoded.
//
// Never run on a CPU that has AMX, only emulated (csrc/cpu/emulator). Cycles a block, 16 tokens and
// 16 rows on Sapphire Rapids, by counting: 2 loads of 64 bytes, 1 store of 64 bytes, 2 vector
// operations a cycle, 16 cycles a tile product however short its rows.
//                      vector   loads   stores   products   expected   vpdpwssd, vpdpbusd (p05)
//   MXFP4, 16 bits     5·16/2    44      32         32         45         (16+3)·16/2 = 152
//   bf16               7·16/2    60      48         64         70                       152
//   int8               4·16/2    32      16         16         35          (8+3)·16/2 =  88
// To which bringing x's bytes side by side adds 24 / groups of rows, and decoding, as it does
// there, 40 (MXFP4) or 130 (bf16) / tiles of tokens.

namespace motet {
namespace {

constexpr int kFewestTileTokens = 8;  // half a tile costs less than their products in registers
constexpr int kAmxTokens = 16;        // of a tile
constexpr int kAmxShares = 16;        // tiles of tokens that share decoded weights
constexpr int kAmxGroups = 4;         // groups of kLanes rows that share packed x
constexpr int kAmxWords = kWords<int8_t>;

// What ldtilecfg reads, and tile registers by use:
//   0 to 3  sums               [tokens, 16] int32
//   4, 5    x, low and high    [tokens, 32] bytes
//   6, 7    weights, the same  [8, 16, 4] bytes
// Loaded and released by every call: next to its products this is nothing, and a thread that has
// released its tiles does not have them saved and restored when it is interrupted.
class TileConfig {
 public:
  explicit TileConfig(int tokens) {
    for (int i = 0; i < 8; ++i) {
      data_.row_bytes[i] = i == 4 || i == 5 ? kFixedBlockSize : 64;
      data_.rows[i] = static_cast<uint8_t>(i < 6 ? tokens : kAmxWords);
    }
    asm volatile("" : : "r"(&data_) : "memory");  // compilers know not what the next line reads
    _tile_loadconfig(&data_);
  }
  ~TileConfig() { _tile_release(); }
  TileConfig(const TileConfig&) = delete;
  TileConfig& operator=(const TileConfig&) = delete;

 private:
  struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } data_;
};

// Of words of two columns each, which lie two apart: words of four columns, as 8-bit integers have.
struct SplitWords {
  __m512i low, high;

  SplitWords(__m512i first, __m512i second) {
    constexpr __mmask64 kOdd = 0xAAAAAAAAAAAAAAAA;
    low = _mm512_mask_blend_epi8(kOdd, first, _mm512_slli_epi16(second, 8));
    high = _mm512_mask_blend_epi8(kOdd, _mm512_srli_epi16(first, 8), second);
  }
};

// The rows of x that a tile takes, kTileBlocks blocks of them. Rows that are not there may hold
// anything: their products are not looked at.
template <class Integer>
struct PackedTokens {
  static constexpr int kBytes = sizeof(Integer);
  alignas(64) uint8_t bytes[kAmxTokens][kBytes][kTileBlocks][kFixedBlockSize];
  float scales[kAmxTokens][kTileBlocks];
  int32_t starts[kAmxTokens][kTileBlocks];
  static constexpr int64_t kStride = kBytes * kTileBlocks * kFixedBlockSize;

  const uint8_t* Low(int block) const { return bytes[0][0][block]; }
  const uint8_t* High(int block) const { return bytes[0][kBytes - 1][block]; }

  // Row t from x, of `blocks` blocks rounded up to whole groups, which x has.
  void Pack(const XRow<Integer>& x, int blocks, int t) {
    for (int b = 0; b < blocks; b += kFixedGroup) {
      const Integer* words = x.integers + b * kFixedBlockSize;
      const auto shift = [&](int i) {
        return _mm512_loadu_si512(words + kPerWord<Integer> * kLanes * i);
      };
      if constexpr (kBytes == 2) {
        const SplitWords even(shift(0), shift(2)), odd(shift(1), shift(3));
        Interleave(even.low, odd.low, bytes[t][0][b]);
        Interleave(even.high, odd.high, bytes[t][1][b]);
      } else {
        Interleave(shift(0), shift(1), bytes[t][0][b]);
        std::memcpy(starts[t] + b, x.starts + b, kFixedGroup * sizeof(int32_t));
      }
      std::memcpy(scales[t] + b, x.scales + b, kFixedGroup * sizeof(float));
    }
  }

 private:
  // Four blocks' words of even and of odd columns: each block's words together.
  static void Interleave(__m512i even, __m512i odd, uint8_t* out) {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    _mm512_storeu_si512(out, _mm512_permutex2var_epi32(even, first, odd));
    _mm512_storeu_si512(out + 64, _mm512_permutex2var_epi32(even, second, odd));
  }
};

// Sixteen rows of weights, kTileBlocks blocks of them, as tiles take them.
template <WeightFormat Format>
struct TileWeights {
  static constexpr int kBytes = Format == WeightFormat::kBf16 ? 2 : 1;
  __m512i words[kTileBlocks][kBytes][kAmxWords];
  __m512 scales[kTileBlocks];

  const void* Low(int block) const { return words[block][0]; }
  const void* High(int block) const { return words[block][kBytes - 1]; }

  template <bool Whole>
  void Decode(const FixedMatmulArgs& a, int64_t row0, int64_t block0, int n) {
    const RowGroup<Format, Whole> rows(a, row0);
    rows.LoadScales(block0, n, scales);
    for (int b = 0; b < n; ++b) {
      rows.Prefetch(block0 + b + kTileBlocks);
      if constexpr (Format == WeightFormat::kMxfp4) {
        rows.template Decode<int8_t>(block0 + b, scales[b], words[b][0]);
        for (__m512i& word : words[b][0]) {
          word = _mm512_sub_epi8(word, _mm512_set1_epi8(kMxfp4Offset));
        }
      } else {
        constexpr int kPairShifts = kShifts<int16_t>;
        __m512i pairs[kWords<int16_t>];
        rows.template Decode<int16_t>(block0 + b, scales[b], pairs);
        for (int p = 0; p < kAmxWords; ++p) {
          const __m512i* first = pairs + kPairShifts * (p / 2) + p % 2;
          const SplitWords split(first[0], first[2]);
          words[b][0][p] = split.low;
          words[b][1][p] = split.high;
        }
      }
    }
  }
};

// int8 weights are tiles as they lie.
template <>
struct TileWeights<WeightFormat::kInt8> {
  const uint8_t* data;
  __m512 scales[kTileBlocks];

  const void* Low(int block) const { return data + block * kInt8BlockBytes; }

  template <bool Whole>
  void Decode(const FixedMatmulArgs& a, int64_t row0, int64_t block0, int n) {
    RowGroup<WeightFormat::kInt8, Whole>(a, row0).LoadScales(block0, n, scales);
    data = a.weight.data +
           (row0 / kInt8Rows * a.weight.ScaleCols() + block0) * int64_t{kInt8BlockBytes};
  }
};

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
