// The products of one to four tokens with AVX2, where bringing many rows' weights side by side
// would cost more than the products: each row is multiplied as it lies by x's words in the same
// order, and only sums change sides.

namespace motet {
namespace {

// At most: five tokens are faster as tiles, three too if their integers are bytes.
template <class Integer>
constexpr int kFewTokens = sizeof(Integer) == 2 ? 4 : 2;

// Pairs of partial sums of two rows.
inline __m256i AddPairs(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

// Of pairs of rows: each lane of 128 bits has its sums of four rows.
inline __m256i AddFours(__m256i ab, __m256i cd) {
  return _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
}

// As many blocks of one row as a register of codes, or two of bf16, hold.
template <WeightFormat Format, class Integer>
struct FewBlocks;

template <class Integer>
struct FewBlocks<WeightFormat::kMxfp4, Integer> {
  static constexpr int kBlocks = 2;

  static void Decode(const uint8_t* at, float, __m256i* words) {
    DecodeMxfp4<Integer>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)), words);
  }
  // Of four rows each: the lower halves are the first block's.
  static void Finish(__m256i rows0, __m256i rows4, __m256i* sums) {
    sums[0] = _mm256_permute2x128_si256(rows0, rows4, 0x20);
    sums[1] = _mm256_permute2x128_si256(rows0, rows4, 0x31);
  }
};

template <>
struct FewBlocks<WeightFormat::kBf16, int16_t> {
  static constexpr int kBlocks = 1;

  static void Decode(const uint8_t* at, float inverse_scale, __m256i* words) {
    const __m256 inverse = _mm256_set1_ps(inverse_scale);
    for (int i = 0; i < 2; ++i) {
      words[i] = DecodeBf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at) + i), inverse);
    }
  }
  static void Finish(__m256i rows0, __m256i rows4, __m256i* sums) {
    sums[0] = _mm256_add_epi32(_mm256_blend_epi32(rows0, rows4, 0xF0),
                               _mm256_permute2x128_si256(rows0, rows4, 0x21));
  }
};

// The sums over each lane of words' products.
template <class Integer, int Registers>
inline __m256i DotOfWords(const __m256i* words, const __m256i* x) {
  __m256i sums = _mm256_setzero_si256();
  for (int i = 0; i < Registers; ++i) {
    const __m256i of_x = _mm256_loadu_si256(x + i);
    sums = sizeof(Integer) == 2 ? _mm256_add_epi32(sums, _mm256_madd_epi16(words[i], of_x))
                                : _mm256_add_epi16(sums, _mm256_maddubs_epi16(words[i], of_x));
  }
  return sizeof(Integer) == 2 ? sums : _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}

// sum[t] += the products of eight rows, from `at` on and `stride` bytes apart, and of x from
// `block` on: of `blocks` blocks, which are Few::kBlocks but at the end of rows.
template <WeightFormat Format, class Integer, int Tokens>
inline void AddFewBlocks(const uint8_t* at, int64_t stride, const XRow<Integer>* x, int64_t block,
                         int blocks, const __m256* scales, const __m256* inverse_scales,
                         __m256* sum) {
  using Few = FewBlocks<Format, Integer>;
  constexpr int kRegisters = Few::kBlocks * kWords<Integer> / kLanes;
  const auto* inverses = reinterpret_cast<const float*>(inverse_scales);
  __m256i four[Tokens][2];
#pragma GCC unroll 2
  for (int q = 0; q < 2; ++q) {
    __m256i pair[Tokens][2];
#pragma GCC unroll 2
    for (int p = 0; p < 2; ++p) {
      __m256i rows[Tokens][2];
#pragma GCC unroll 2
      for (int r = 0; r < 2; ++r) {
        const int row = 4 * q + 2 * p + r;
        __m256i words[kRegisters];
        Few::Decode(at + row * stride, inverses[row], words);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) {
          const auto* of_x =
              reinterpret_cast<const __m256i*>(x[t].integers + block * kFixedBlockSize);
          rows[t][r] = DotOfWords<Integer, kRegisters>(words, of_x);
          // Row by row: compilers would decode several first, and run out of registers.
          asm("" : "+x"(rows[t][r]));
        }
      }
      for (int t = 0; t < Tokens; ++t) pair[t][p] = AddPairs(rows[t][0], rows[t][1]);
    }
    for (int t = 0; t < Tokens; ++t) four[t][q] = AddFours(pair[t][0], pair[t][1]);
  }
  for (int t = 0; t < Tokens; ++t) {
    __m256i sums[Few::kBlocks];
    Few::Finish(four[t][0], four[t][1], sums);
    for (int b = 0; b < blocks; ++b) {
      const int32_t start = x[t].Start(block + b);  // of two halves
      sums[b] =
          _mm256_add_epi32(sums[b], _mm256_set1_epi32(static_cast<int16_t>(start) + (start >> 16)));
      sum[t] = AddBlock(_mm256_cvtepi32_ps(sums[b]), x[t].scales[block + b], scales[b], sum[t]);
    }
  }
}

// Eight rows for all of a few tokens. Where rows end is looked at once for kScaleBlocks blocks:
// between every two it would cost a tenth of all instructions.
template <WeightFormat Format, class Integer, int Tokens>
void FewTokens(const FixedMatmulArgs& a, int64_t row0) {
  using Rows = RowGroup<Format, Integer>;
  constexpr auto kAdd = AddFewBlocks<Format, Integer, Tokens>;
  constexpr int kBlocks = FewBlocks<Format, Integer>::kBlocks;
  const Rows w(a, row0);
  const int64_t blocks = a.weight.ScaleCols();
  XRow<Integer> x[Tokens];
  __m256 sum[Tokens];
  for (int t = 0; t < Tokens; ++t) {
    x[t] = RowOf<Integer>(a, t);
    sum[t] = _mm256_setzero_ps();
  }
  alignas(32) __m256 scales[kScaleBlocks], inverse[kScaleBlocks];
  uint8_t padded[kLanes * kScaleBlocks * Rows::kBlockBytes];
  for (int64_t block0 = 0; block0 < blocks; block0 += kScaleBlocks) {
    const int n = static_cast<int>(blocks - block0 < kScaleBlocks ? blocks - block0 : kScaleBlocks);
    w.LoadScales(block0, scales);
    for (int b = 0; b < kScaleBlocks; ++b) inverse[b] = InverseScales(scales[b]);
    const int whole = n / kBlocks * kBlocks;
    int64_t stride;
    const uint8_t* at = w.Blocks(block0, whole, padded, &stride);
    for (int b = 0; b < whole; b += kBlocks) {
      w.Prefetch(1, block0 + b, kBlocks);
      kAdd(at + b * Rows::kBlockBytes, stride, x, block0 + b, kBlocks, scales + b, inverse + b,
           sum);
    }
    if (whole < n) {
      at = w.Blocks(block0 + whole, kBlocks, padded, &stride);
      kAdd(at, stride, x, block0 + whole, n - whole, scales + whole, inverse + whole, sum);
    }
  }
  for (int t = 0; t < Tokens; ++t) StoreLanes(a, row0, t, sum[t]);
}

// a.tokens, up to `Tokens`.
template <WeightFormat Format, class Integer, int Tokens>
void MatmulFew(const FixedMatmulArgs& a) {
  if constexpr (Tokens > 1) {
    if (a.tokens < Tokens) return MatmulFew<Format, Integer, Tokens - 1>(a);
  }
  for (int64_t row = a.row_begin; row < a.row_end; row += kLanes) {
    FewTokens<Format, Integer, Tokens>(a, row);
  }
}

}  // namespace
}  // namespace motet
