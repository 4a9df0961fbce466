// x · Wᵀ of integers with AVX2: eight rows side by side, a block's products added up exactly in
// 32-bit lanes, blocks added in order as floats. The results are the same bits as
// matmul_fixed.inl's.
//
// Sixteen rows make a tile, which is decoded once and multiplied by all tokens: a register for each
// word of columns, see fixed_avx2.h, whose lane r holds row r's weights next to each other, as the
// dot instructions take them; x's word is broadcast. For fewer than four tokens see
// matmul_fixed_few_avx2.inl.

namespace motet {
namespace {

constexpr int kLanes = 8;         // rows in a register
constexpr int kScaleBlocks = 8;   // whose scales are laid out at once
constexpr int kTileGroups = 2;    // times kLanes rows make a tile
constexpr int kTileBlocks = 8;    // decoded at once: 8 KiB, stay in the first-level cache
constexpr int kTileTokens = 128;  // running sums: 8 KiB
constexpr int kTokensAtOnce = 6;  // times kTileGroups integer sums in registers

// Four dwords of eight rows that lie `stride` bytes apart -> out[j] lane r = dword j of row r.
inline void TransposeDwords(const uint8_t* at, int64_t stride, __m256i* out) {
  __m256i v[4];
  for (int i = 0; i < 4; ++i) {
    const auto load = [&](int r) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + r * stride));
    };
    v[i] = _mm256_blend_epi32(_mm256_castsi128_si256(load(i)),
                              _mm256_broadcastsi128_si256(load(4 + i)), 0xF0);
  }
  const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]);
  const __m256i c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
  out[0] = _mm256_unpacklo_epi64(a, c);
  out[1] = _mm256_unpackhi_epi64(a, c);
  out[2] = _mm256_unpacklo_epi64(b, d);
  out[3] = _mm256_unpackhi_epi64(b, d);
}

// out[b] = the scales of block b < 8, eight rows side by side, from bytes of eight blocks a row.
inline void TransposeScales(const uint64_t* rows, __m256* out) {
  __m128i two[4];
  for (int i = 0; i < 4; ++i) {
    two[i] = _mm_unpacklo_epi8(_mm_cvtsi64_si128(static_cast<int64_t>(rows[2 * i])),
                               _mm_cvtsi64_si128(static_cast<int64_t>(rows[2 * i + 1])));
  }
  const __m128i low_a = _mm_unpacklo_epi16(two[0], two[1]);
  const __m128i low_b = _mm_unpacklo_epi16(two[2], two[3]);
  const __m128i high_a = _mm_unpackhi_epi16(two[0], two[1]);
  const __m128i high_b = _mm_unpackhi_epi16(two[2], two[3]);
  const __m128i blocks[4] = {_mm_unpacklo_epi32(low_a, low_b), _mm_unpackhi_epi32(low_a, low_b),
                             _mm_unpacklo_epi32(high_a, high_b),
                             _mm_unpackhi_epi32(high_a, high_b)};
  const __m256i smallest = _mm256_set1_epi32(0x00400000);  // scale 0 is 2^-127, a subnormal
  for (int i = 0; i < 8; ++i) {
    const __m128i bytes = i % 2 ? _mm_srli_si128(blocks[i / 2], 8) : blocks[i / 2];
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 23);
    out[i] = _mm256_castsi256_ps(_mm256_max_epi32(bits, smallest));
  }
}

inline void PrefetchLines(const uint8_t* at, int lines) {
  for (int i = 0; i < lines; ++i) __builtin_prefetch(at + 64 * i, 0, 2);
}

// Eight rows of the weights; those past the end are zeros.
template <WeightFormat Format, class Integer>
class RowGroup {
 public:
  static constexpr bool kIsMxfp4 = Format == WeightFormat::kMxfp4;
  static constexpr int kBlockBytes = kIsMxfp4 ? kMxfp4BlockBytes : 2 * kFixedBlockSize;

  RowGroup(const FixedMatmulArgs& a, int64_t row0)
      : rows_(a.row_end - row0 < kLanes ? a.row_end - row0 : kLanes),
        stride_(a.weight.RowBytes()),
        blocks_(a.weight.ScaleCols()),
        data_(a.weight.data + row0 * stride_),
        scales_(a.weight.scales + row0 * blocks_) {}

  // Blocks from one on, all eight rows `stride` bytes apart: as they lie, or copied to `padded`
  // with zeros behind the end of the rows and for those that are not there.
  const uint8_t* Blocks(int64_t block, int blocks, uint8_t* padded, int64_t* stride) const {
    const uint8_t* at = data_ + block * kBlockBytes;
    const int64_t left = stride_ - block * kBlockBytes, bytes = blocks * kBlockBytes;
    *stride = stride_;
    if (rows_ == kLanes && bytes <= left) return at;
    *stride = bytes;
    std::memset(padded, 0, static_cast<size_t>(kLanes * bytes));
    for (int64_t r = 0; r < rows_; ++r) {
      std::memcpy(padded + r * bytes, at + r * stride_,
                  static_cast<size_t>(left < bytes ? left : bytes));
    }
    return padded;
  }

  // Calls use(p, word p of a block), for all in order, from rows as Blocks gives them.
  template <class Use>
  static void Decode(const uint8_t* at, int64_t stride, __m256 scale, const Use& use) {
    const __m256 inverse = InverseScales(scale);
    __m256i dwords[4], words[4];
    if constexpr (kIsMxfp4) TransposeDwords(at, stride, dwords);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if constexpr (kIsMxfp4) {
        DecodeMxfp4<Integer>(dwords[j], words);
      } else {
        TransposeDwords(at + 16 * j, stride, dwords);
        for (int i = 0; i < 4; ++i) words[i] = DecodeBf16(dwords[i], inverse);
      }
      for (int i = 0; i < kShifts<Integer>; ++i) use(kShifts<Integer> * j + i, words[i]);
    }
  }

  // Eight short runs of bytes, which hardware prefetchers do not follow: the rows `groups` on,
  // which lie behind these, are asked for in order instead, a part for each block.
  const uint8_t* Behind(int groups, int64_t block) const {
    return data_ + kLanes * (groups * stride_ + block * kBlockBytes);
  }
  void Prefetch(int groups, int64_t block, int blocks) const {
    PrefetchLines(Behind(groups, block), blocks * kLanes * kBlockBytes / 64);
  }

  // out[b] = scales of block first + b; those past the end are some finite number.
  void LoadScales(int64_t first, __m256* out) const {
    const int64_t left = blocks_ - first;
    uint64_t bytes[kLanes] = {};
    if (rows_ == kLanes && blocks_ >= kScaleBlocks) {
      const int64_t before = left < kScaleBlocks ? kScaleBlocks - left : 0;
      for (int r = 0; r < kLanes; ++r) {
        std::memcpy(&bytes[r], scales_ + r * blocks_ + first - before, sizeof bytes[r]);
        bytes[r] >>= 8 * before;
      }
    } else {
      for (int64_t r = 0; r < rows_; ++r) {
        std::memcpy(&bytes[r], scales_ + r * blocks_ + first,
                    static_cast<size_t>(left < kScaleBlocks ? left : kScaleBlocks));
      }
    }
    TransposeScales(bytes, out);
  }

 private:
  int64_t rows_, stride_, blocks_;
  const uint8_t* data_;
  const uint8_t* scales_;
};

// A token's row of x, from a block on.
template <class Integer>
struct XRow {
  const Integer* integers;
  const float* scales;
  const int32_t* starts;

  template <WeightFormat Weights>
  __m256i Word(int64_t block, int p) const {
    const int64_t index = WordsOf<Weights, Integer>(block) + WordOf<Weights, Integer>(p);
    int32_t word;
    std::memcpy(&word, integers + index * kPerWord<Integer>, sizeof word);
    return _mm256_set1_epi32(word);
  }
  int32_t Start(int64_t block) const { return sizeof(Integer) == 1 ? starts[block] : 0; }
};

template <class Integer>
inline XRow<Integer> RowOf(const FixedMatmulArgs& a, int token, int64_t block = 0) {
  const int64_t at = (a.x_rows ? a.x_rows[token] : token) * FixedBlocks(a.weight.cols) + block;
  return {static_cast<const Integer*>(a.x.integers) + at * kFixedBlockSize, a.x.scales + at,
          a.x.starts + at};
}

inline __m256 AddBlock(__m256 products, float x_scale, __m256 w_scale, __m256 sum) {
  return _mm256_fmadd_ps(_mm256_mul_ps(products, _mm256_set1_ps(x_scale)), w_scale, sum);
}

void StoreLanes(const FixedMatmulArgs& a, int64_t row0, int token, __m256 sum) {
  const int64_t rows = a.row_end - row0;  // the last group of a tile may lie past the end
  float* out = a.out + token * a.out_stride + row0 - a.row_begin;
  if (rows >= kLanes) {
    if (a.bias) sum = _mm256_add_ps(sum, LoadBf16(a.bias + row0));
    return _mm256_storeu_ps(out, sum);
  }
  alignas(32) float values[kLanes];
  _mm256_store_ps(values, sum);
  for (int64_t r = 0; r < rows; ++r) {
    out[r] = a.bias ? values[r] + Bf16ToFloat(a.bias[row0 + r]) : values[r];
  }
}

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

}  // namespace
}  // namespace motet
