// x · Wᵀ of integers with AVX2: eight rows side by side, a block's products added up exactly in
// 32-bit lanes, blocks added in order as floats. The results are the same bits as matmul_fixed.inl's.
//
// A decoded block is a register for each word of columns, see fixed_avx2.h: lane r holds row r's
// weights next to each other, as the dot instruction takes them; x's word is broadcast. For a few
// tokens weights are used as they are decoded, for more a tile of them is decoded once for all.

namespace motet {
namespace {

constexpr int kLanes = 8;         // rows in a register
constexpr int kScaleBlocks = 8;   // scales are laid out for so many blocks at once
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
    v[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(4 + i), 1);
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

  // Calls use(p, word p of a block), for all in order.
  template <class Use>
  void Decode(int64_t block, __m256 scale, const Use& use) const {
    const uint8_t* at = data_ + block * kBlockBytes;
    int64_t stride = stride_;
    uint8_t padded[kLanes][kBlockBytes];
    if (rows_ < kLanes || (block + 1) * kBlockBytes > stride_) {
      const int64_t left = stride_ - block * kBlockBytes;
      std::memset(padded, 0, sizeof padded);
      for (int64_t r = 0; r < rows_; ++r) {
        std::memcpy(padded[r], at + r * stride,
                    static_cast<size_t>(left < kBlockBytes ? left : kBlockBytes));
      }
      at = padded[0];
      stride = kBlockBytes;
    }
    __m256i dwords[4], words[kShifts<Integer>];
    if constexpr (kIsMxfp4) TransposeDwords(at, stride, dwords);
    const __m256 inverse = _mm256_castsi256_ps(_mm256_sub_epi32(
        _mm256_set1_epi32(254 << 23), _mm256_castps_si256(scale)));  // of a power of two
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if constexpr (kIsMxfp4) {
        DecodeMxfp4<Integer>(dwords[j], words);
      } else {
        TransposeDwords(at + 16 * j, stride, dwords);
        DecodeBf16(dwords, inverse, words);
      }
      for (int i = 0; i < kShifts<Integer>; ++i) use(kShifts<Integer> * j + i, words[i]);
    }
  }

  // Eight short runs of bytes, which hardware prefetchers do not follow: the next rows, which lie
  // behind these, are asked for in order instead, a part for each block.
  void Prefetch(int64_t block) const {
    const uint8_t* next = data_ + kLanes * (kTileGroups * stride_ + block * kBlockBytes);
    for (int i = 0; i < kLanes * kBlockBytes; i += 64) __builtin_prefetch(next + i, 0, 2);
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

// Half of the sixteen rows of int8 weights that lie side by side.
template <>
class RowGroup<WeightFormat::kInt8, int8_t> {
 public:
  RowGroup(const FixedMatmulArgs& a, int64_t row0) : blocks_(a.weight.ScaleCols()) {
    const int64_t first = row0 / kInt8Rows * blocks_, row = row0 % kInt8Rows / kLanes * kLanes;
    data_ = a.weight.data + first * kInt8BlockBytes + row * 4;
    scales_ = reinterpret_cast<const uint16_t*>(a.weight.scales) + first * kInt8Rows + row;
  }

  template <class Use>
  void Decode(int64_t block, __m256 /*scale*/, const Use& use) const {
    const __m256i offset = _mm256_set1_epi8(static_cast<char>(kInt8Offset));
    const uint8_t* at = data_ + block * kInt8BlockBytes;
#pragma GCC unroll 8
    for (int p = 0; p < kWords<int8_t>; ++p) {
      const auto* word = reinterpret_cast<const __m256i*>(at + 4 * kInt8Rows * p);
      use(p, _mm256_xor_si256(_mm256_loadu_si256(word), offset));
    }
  }

  void Prefetch(int64_t) const {}  // one run of bytes, which hardware prefetchers follow

  void LoadScales(int64_t first, __m256* out) const {
    for (int b = 0; b < kScaleBlocks && first + b < blocks_; ++b) {
      out[b] = LoadBf16(scales_ + (first + b) * kInt8Rows);
    }
  }

 private:
  int64_t blocks_;
  const uint8_t* data_;
  const uint16_t* scales_;
};

// A token's row of x, from a block on.
template <class Integer>
struct XRow {
  const Integer* integers;
  const float* scales;
  const int32_t* starts;

  __m256i Word(int64_t block, int p) const {
    int32_t word;
    std::memcpy(&word, integers + block * kFixedBlockSize + p * kPerWord<Integer>, sizeof word);
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
  alignas(32) float values[kLanes];
  _mm256_store_ps(values, sum);
  // The last group of a tile may lie past the end.
  const int64_t rows = a.row_end - row0 < kLanes ? a.row_end - row0 : kLanes;
  float* out = a.out + token * a.out_stride + row0 - a.row_begin;
  for (int64_t r = 0; r < rows; ++r) {
    out[r] = a.bias ? values[r] + Bf16ToFloat(a.bias[row0 + r]) : values[r];
  }
}

template <class Integer>
struct FixedTile {
  __m256i words[kTileBlocks][kWords<Integer>][kTileGroups];
  __m256 scales[kTileGroups][kTileBlocks];
};

// sums[t][g] += n blocks of the tile times those of `Tokens` tokens.
template <WeightFormat Format, class Integer, int Tokens>
void MultiplyTile(const FixedTile<Integer>& tile, int n, const XRow<Integer>* x,
                  __m256 (*sums)[kTileGroups]) {
  using Sums = Products<Format, Integer>;
  for (int b = 0; b < n; ++b) {
    __m256i products[Tokens][kTileGroups];
    for (int t = 0; t < Tokens; ++t) {
      for (int g = 0; g < kTileGroups; ++g) products[t][g] = Sums::Start(x[t].Start(b));
    }
#pragma GCC unroll 16
    for (int p = 0; p < kWords<Integer>; ++p) {
      for (int t = 0; t < Tokens; ++t) {
        const __m256i word = x[t].Word(b, p);
        for (int g = 0; g < kTileGroups; ++g) {
          Sums::Add(products[t][g], tile.words[b][p][g], word);
        }
      }
    }
    for (int t = 0; t < Tokens; ++t) {
      for (int g = 0; g < kTileGroups; ++g) {
        sums[t][g] =
            AddBlock(Sums::Floats(products[t][g]), x[t].scales[b], tile.scales[g][b], sums[t][g]);
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
  FixedTile<Integer> tile;
  __m256 sums[kTileTokens][kTileGroups];
  for (int t = 0; t < tokens; ++t) sums[t][0] = sums[t][1] = _mm256_setzero_ps();
  for (int64_t block0 = 0; block0 < blocks; block0 += kTileBlocks) {
    const int n = static_cast<int>(blocks - block0 < kTileBlocks ? blocks - block0 : kTileBlocks);
    for (int g = 0; g < kTileGroups; ++g) {
      // A group past the end repeats the last row: nothing of it is written out.
      const int64_t row = row0 + g * kLanes;
      const RowGroup<Format, Integer> w(a, row < a.row_end ? row : a.row_end - 1);
      w.LoadScales(block0, tile.scales[g]);
      for (int b = 0; b < n; ++b) {
        w.Prefetch(block0 + b);
        w.Decode(block0 + b, tile.scales[g][b],
                 [&](int p, __m256i word) { tile.words[b][p][g] = word; });
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

template <WeightFormat Format, class Integer>
void MatmulWords(const FixedMatmulArgs& a) {
  for (int first = 0; first < a.tokens; first += kTileTokens) {
    const int tokens = a.tokens - first < kTileTokens ? a.tokens - first : kTileTokens;
    for (int64_t row = a.row_begin; row < a.row_end; row += kTileGroups * kLanes) {
      FixedTiles<Format, Integer>(a, row, first, tokens);
    }
  }
}

void MatmulFixed(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) return MatmulWords<WeightFormat::kMxfp4, int16_t>(a);
  MatmulWords<WeightFormat::kBf16, int16_t>(a);
}

void MatmulInt8(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) return MatmulWords<WeightFormat::kMxfp4, int8_t>(a);
  MatmulWords<WeightFormat::kInt8, int8_t>(a);
}

}  // namespace
}  // namespace motet
