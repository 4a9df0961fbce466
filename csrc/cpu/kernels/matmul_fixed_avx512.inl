// x · Wᵀ in fixed point with AVX-512: sixteen rows side by side, a block's products added up
// exactly in 32-bit lanes, blocks added in order as floats. The results are the same bits as
// matmul_fixed.inl's.
//
// A decoded block is 16 registers, one for each pair of columns: lane r holds row r's two weights
// as 16-bit integers, next to each other, as the dot instruction takes them; x's pair is broadcast.

namespace motet {
namespace {

constexpr int kLanes = 16;        // rows in a register
constexpr int kPairs = 16;        // of columns in a block
constexpr int kTileGroups = 2;    // times kLanes rows make a tile
constexpr int kTileBlocks = 10;   // decoded at once: 20 KiB, stays in the first-level cache
constexpr int kTileTokens = 256;  // running sums: 32 KiB
constexpr int kTokensAtOnce = 6;  // times kTileGroups integer and as many float sums in registers

// load(r) = four dwords of row r -> out[j] lane r = dword j of row r.
template <class Load>
inline void TransposeDwords(const Load& load, __m512i* out) {
  __m512i v[4];
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_castsi128_si512(load(i));
    v[i] = _mm512_inserti32x4(v[i], load(4 + i), 1);
    v[i] = _mm512_inserti32x4(v[i], load(8 + i), 2);
    v[i] = _mm512_inserti32x4(v[i], load(12 + i), 3);
  }
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
  out[0] = _mm512_unpacklo_epi64(a, c);
  out[1] = _mm512_unpackhi_epi64(a, c);
  out[2] = _mm512_unpacklo_epi64(b, d);
  out[3] = _mm512_unpackhi_epi64(b, d);
}

// words[4 j + i] = the codes of columns 8 j + i and 8 j + i + 4, of dwords[j] with eight codes:
// they lie 16 bits apart, so one shift brings both to where the look-up reads them (it takes five
// bits; the table has the sixteen values twice).
inline void DecodeMxfp4(const __m512i* dwords, __m512i* words) {
  const __m512i table = _mm512_broadcast_i64x4(
      _mm256_setr_epi16(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
  for (int j = 0; j < 4; ++j) {
    for (int i = 0; i < 4; ++i) {
      words[4 * j + i] = _mm512_permutexvar_epi16(_mm512_srli_epi32(dwords[j], 4 * i), table);
    }
  }
}

// words[i] = columns i and i + 4 of eight, from dwords of two columns each. Adding 1.5 * 2^23
// rounds to an integer and leaves it in the lowest bits.
inline void DecodeBf16(const __m512i* dwords, __m512 inverse_scale, __m512i* words) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000));
  const __m512 magic = _mm512_set1_ps(12582912.0f);
  const auto round = [&](__m512i bits) {
    return _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(bits), inverse_scale, magic));
  };
  const auto pair = [&](__m512i low, __m512i high) {  // the low halves of both
    return _mm512_mask_blend_epi16(0xAAAAAAAA, low, _mm512_slli_epi32(high, 16));
  };
  for (int i = 0; i < 2; ++i) {
    words[2 * i] =
        pair(round(_mm512_slli_epi32(dwords[i], 16)), round(_mm512_slli_epi32(dwords[2 + i], 16)));
    words[2 * i + 1] = pair(round(_mm512_and_si512(dwords[i], upper)),
                            round(_mm512_and_si512(dwords[2 + i], upper)));
  }
}

// Sixteen rows of the weights. Where fewer are left the last one is repeated, which costs pointers;
// whole groups (`Whole`) go by strides, which leaves registers for better things.
template <WeightFormat Format, bool Whole>
class RowGroup {
 public:
  static constexpr bool kIsMxfp4 = Format == WeightFormat::kMxfp4;
  static constexpr int kBlockBytes = kIsMxfp4 ? kMxfp4BlockBytes : 2 * kFixedBlockSize;

  RowGroup(const FixedMatmulArgs& a, int64_t row0)
      : last_(Whole ? kLanes - 1 : static_cast<int>(a.row_end - 1 - row0)),
        stride_(a.weight.RowBytes()),
        scale_stride_(a.weight.ScaleCols()),
        data_(a.weight.data + row0 * stride_),
        scales_(a.weight.scales + row0 * scale_stride_) {}

  // The integers of a block with these scales, see DecodeMxfp4.
  void Decode(int64_t block, __m512 scale, __m512i* words) const {
    const uint8_t* at = data_ + block * kBlockBytes;
    if constexpr (kIsMxfp4) {
      __m512i dwords[4];
      TransposeDwords([&](int r) { return Load(at + Row(r) * stride_); }, dwords);
      DecodeMxfp4(dwords, words);
    } else {
      const __m512 inverse = _mm512_castsi512_ps(_mm512_sub_epi32(
          _mm512_set1_epi32(254 << 23), _mm512_castps_si512(scale)));  // of a power of two
      const int64_t left = stride_ - block * kBlockBytes;
      for (int j = 0; j < 4; ++j, at += 16) {
        __m512i dwords[4];
        if (left >= kBlockBytes) {
          TransposeDwords([&](int r) { return Load(at + Row(r) * stride_); }, dwords);
        } else {  // zeros behind the end of the rows
          const int64_t bytes = left - 16 * j;
          const auto there = static_cast<__mmask16>(bytes <= 0   ? 0
                                                    : bytes < 16 ? (1 << bytes) - 1
                                                                 : 0xFFFF);
          TransposeDwords([&](int r) { return _mm_maskz_loadu_epi8(there, at + Row(r) * stride_); },
                          dwords);
        }
        DecodeBf16(dwords, inverse, words + 4 * j);
      }
    }
  }

  // Asks for the lines of each row that start in `block`; past the end of the rows they are those
  // of the next tile.
  void Prefetch(int64_t block) const {
    const int64_t blocks = stride_ / kBlockBytes;
    const int64_t rows_on = block < blocks ? 0 : kTileGroups * kLanes;
    const uint8_t* at = data_ + rows_on * stride_ + (block - (rows_on ? blocks : 0)) * kBlockBytes;
    for (int r = 0; r < kLanes; ++r) __builtin_prefetch(at + r * stride_, 0, 2);
  }

  // out[b] = scales of block first + b, for b < n <= 16.
  void LoadScales(int64_t first, int n, __m512* out) const {
    const auto there = static_cast<__mmask16>((1 << n) - 1);  // the tensor may end behind these
    __m512i dwords[4];
    TransposeDwords(
        [&](int r) {
          return _mm_maskz_loadu_epi8(there, scales_ + Row(r) * scale_stride_ + first);
        },
        dwords);
    const __m512i byte = _mm512_set1_epi32(255);
    const __m512i smallest = _mm512_set1_epi32(0x00400000);  // scale 0 is 2^-127, a subnormal
    for (int b = 0; b < n; ++b) {
      const __m512i scale = _mm512_and_si512(_mm512_srli_epi32(dwords[b / 4], b % 4 * 8), byte);
      out[b] = _mm512_castsi512_ps(_mm512_max_epi32(_mm512_slli_epi32(scale, 23), smallest));
    }
  }

 private:
  static __m128i Load(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  int64_t Row(int r) const { return Whole || r < last_ ? r : last_; }

  int last_;
  int64_t stride_, scale_stride_;  // bytes
  const uint8_t* data_;
  const uint8_t* scales_;
};

inline __m512i BroadcastPair(const int16_t* x) {
  int32_t pair;
  std::memcpy(&pair, x, sizeof pair);
  return _mm512_set1_epi32(pair);
}

inline __m512 AddBlock(__m512i products, float x_scale, __m512 w_scale, __m512 sum) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(products),
                         _mm512_mul_ps(w_scale, _mm512_set1_ps(x_scale)), sum);
}

void StoreLanes(const FixedMatmulArgs& a, int64_t row0, int token, __m512 sum) {
  const int64_t left = a.row_end - row0;  // the last group of a tile may lie past the end
  if (left <= 0) return;
  const auto lanes = static_cast<__mmask16>(left < kLanes ? (1 << left) - 1 : 0xFFFF);
  if (a.bias) {
    const __m256i bits = _mm256_maskz_loadu_epi16(lanes, a.bias + row0);
    sum =
        _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)));
  }
  _mm512_mask_storeu_ps(a.out + token * a.out_stride + row0 - a.row_begin, lanes, sum);
}

// out[.., row0 + r] of one token.
template <WeightFormat Format, bool Whole>
void FixedOneToken(const FixedMatmulArgs& a, int64_t row0) {
  const int64_t blocks = a.weight.ScaleCols();
  const int64_t at = (a.x_rows ? a.x_rows[0] : 0) * FixedBlocks(a.weight.cols);
  const int16_t* x = a.x.integers + at * kFixedBlockSize;
  const float* x_scales = a.x.scales + at;
  const RowGroup<Format, Whole> w(a, row0);
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
    __m512i words[kPairs];
    w.Decode(block, scales[block % 16], words);
    __m512i sums[4] = {};
    for (int p = 0; p < kPairs; ++p) {
      sums[p % 4] = Dot(sums[p % 4], words[p], BroadcastPair(x + block * kFixedBlockSize + 2 * p));
    }
    const __m512i products =
        _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
    sum = AddBlock(products, x_scales[block], scales[block % 16], sum);
  }
  StoreLanes(a, row0, 0, sum);
}

struct FixedTile {
  __m512i words[kTileBlocks][kPairs][kTileGroups];
  __m512 scales[kTileBlocks][kTileGroups];
};

// sums[t][g] += n blocks of the tile times those of `Tokens` tokens.
template <int Tokens>
void MultiplyFixedTile(const FixedTile& tile, int n, const FixedRows* x,
                       __m512 (*sums)[kTileGroups]) {
  __m512 sum[Tokens][kTileGroups];
  for (int t = 0; t < Tokens; ++t) {
    for (int g = 0; g < kTileGroups; ++g) sum[t][g] = sums[t][g];
  }
  for (int b = 0; b < n; ++b) {
    __m512i products[Tokens][kTileGroups] = {};
#pragma GCC unroll 16
    for (int p = 0; p < kPairs; ++p) {
      for (int t = 0; t < Tokens; ++t) {
        const __m512i pair = BroadcastPair(x[t].integers + b * kFixedBlockSize + 2 * p);
        for (int g = 0; g < kTileGroups; ++g) {
          products[t][g] = Dot(products[t][g], tile.words[b][p][g], pair);
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
template <WeightFormat Format, bool Whole>
void DecodeFixedTile(const FixedMatmulArgs& a, int64_t row0, int64_t block0, int n, int group,
                     FixedTile* tile) {
  const RowGroup<Format, Whole> rows(a, row0);
  __m512 scales[kTileBlocks];
  rows.LoadScales(block0, n, scales);
  for (int b = 0; b < n; ++b) {
    if (b % (64 / rows.kBlockBytes) == 0) rows.Prefetch(block0 + b + kTileBlocks);
    __m512i words[kPairs];
    rows.Decode(block0 + b, scales[b], words);
    for (int p = 0; p < kPairs; ++p) tile->words[b][p][group] = words[p];
    tile->scales[b][group] = scales[b];
  }
}

// One tile of rows times up to kTileTokens tokens.
template <WeightFormat Format>
void FixedTiles(const FixedMatmulArgs& a, int64_t row0, int first_token, int tokens) {
  constexpr decltype(&MultiplyFixedTile<1>) kMultiply[kTokensAtOnce + 1] = {nullptr,
                                                                            MultiplyFixedTile<1>,
                                                                            MultiplyFixedTile<2>,
                                                                            MultiplyFixedTile<3>,
                                                                            MultiplyFixedTile<4>,
                                                                            MultiplyFixedTile<5>,
                                                                            MultiplyFixedTile<6>};
  const int64_t blocks = a.weight.ScaleCols();
  const int64_t row_blocks = FixedBlocks(a.weight.cols);
  // Shares as equal as can be: one token alone would wait for its own sums.
  const int shares = (tokens + kTokensAtOnce - 1) / kTokensAtOnce;
  const int share = tokens / shares, larger_shares = tokens % shares;
  FixedTile tile;
  __m512 sums[kTileTokens][kTileGroups];
  for (int t = 0; t < tokens; ++t) sums[t][0] = sums[t][1] = _mm512_setzero_ps();
  for (int64_t block0 = 0; block0 < blocks; block0 += kTileBlocks) {
    const int n = static_cast<int>(blocks - block0 < kTileBlocks ? blocks - block0 : kTileBlocks);
    for (int g = 0; g < kTileGroups; ++g) {
      const int64_t row = row0 + g * kLanes;
      if (row + kLanes <= a.row_end) {
        DecodeFixedTile<Format, true>(a, row, block0, n, g, &tile);
      } else {  // a group past the end repeats the last row: nothing of it is written out
        DecodeFixedTile<Format, false>(a, row < a.row_end ? row : a.row_end - 1, block0, n, g,
                                       &tile);
      }
    }
    for (int i = 0, t = 0; i < shares; ++i) {
      const int count = share + (i < larger_shares);
      FixedRows x[kTokensAtOnce];
      for (int j = 0; j < count; ++j) {
        const int token = first_token + t + j;
        const int64_t at = (a.x_rows ? a.x_rows[token] : token) * row_blocks + block0;
        x[j] = {a.x.integers + at * kFixedBlockSize, a.x.scales + at};
      }
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

template <WeightFormat Format>
void MatmulFixedRows(const FixedMatmulArgs& a) {
  if (a.tokens == 1) {
    int64_t row = a.row_begin;
    for (; row + kLanes <= a.row_end; row += kLanes) FixedOneToken<Format, true>(a, row);
    if (row < a.row_end) FixedOneToken<Format, false>(a, row);
    return;
  }
  for (int first = 0; first < a.tokens; first += kTileTokens) {
    const int tokens = a.tokens - first < kTileTokens ? a.tokens - first : kTileTokens;
    for (int64_t row = a.row_begin; row < a.row_end; row += kTileGroups * kLanes) {
      FixedTiles<Format>(a, row, first, tokens);
    }
  }
}

void MatmulFixed(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) return MatmulFixedRows<WeightFormat::kMxfp4>(a);
  MatmulFixedRows<WeightFormat::kBf16>(a);
}

}  // namespace
}  // namespace motet
