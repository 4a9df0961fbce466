// The operands of fixed-point products with AVX-512: sixteen rows of weights side by side and a
// token's row of x, and what becomes of a block's products.
//
// A decoded block is a register for each word of columns, see fixed_avx512.h: lane r holds row r's
// weights next to each other, as the dot instruction takes them; x's word is broadcast.

namespace motet {
namespace {

constexpr int kLanes = 16;      // rows in a register
constexpr int kTileGroups = 2;  // times kLanes rows make a tile

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

// words[i] of eight columns, from dwords of their codes.
template <class Integer>
inline void DecodeMxfp4(__m512i dwords, __m512i* words);

// Columns i and i + 4 lie 16 bits apart, so one shift brings both to where the look-up reads them
// (it takes five bits; the table has the sixteen values twice).
template <>
inline void DecodeMxfp4<int16_t>(__m512i dwords, __m512i* words) {
  const __m512i table = _mm512_broadcast_i64x4(
      _mm256_setr_epi16(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
  for (int i = 0; i < 4; ++i) {
    words[i] = _mm512_permutexvar_epi16(_mm512_srli_epi32(dwords, 4 * i), table);
  }
}

// Bytes with kMxfp4Offset.
template <>
inline void DecodeMxfp4<int8_t>(__m512i dwords, __m512i* words) {
  const __m512i table = _mm512_broadcast_i32x4(
      _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
  const __m512i nibble = _mm512_set1_epi8(15);
  words[0] = _mm512_shuffle_epi8(table, _mm512_and_si512(dwords, nibble));
  words[1] = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(dwords, 4), nibble));
}

// words[i] of 16 bits, from dwords of two columns each. Adding 1.5 * 2^23 rounds to an integer and
// leaves it in the lowest bits.
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

  // words[kShifts j + i] of a block with these scales.
  template <class Integer>
  void Decode(int64_t block, __m512 scale, __m512i* words) const {
    const uint8_t* at = data_ + block * kBlockBytes;
    if constexpr (kIsMxfp4) {
      __m512i dwords[4];
      TransposeDwords([&](int r) { return Load(at + Row(r) * stride_); }, dwords);
      for (int j = 0; j < 4; ++j) DecodeMxfp4<Integer>(dwords[j], words + kShifts<Integer> * j);
    } else {
      static_assert(sizeof(Integer) == 2);
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

  // The codes of four blocks of one row.
  __m512i FourBlocks(int r, int64_t block, __mmask64 there) const {
    return _mm512_maskz_loadu_epi8(there, data_ + Row(r) * stride_ + block * kBlockBytes);
  }

  // Asks for the lines of each row that start in `block`; past the end of the rows they are those
  // of the next tile.
  void Prefetch(int64_t block) const {
    if (block % (64 / kBlockBytes) != 0) return;
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

// Sixteen rows of int8 weights: a group as it lies, whole or not.
template <bool Whole>
class RowGroup<WeightFormat::kInt8, Whole> {
 public:
  RowGroup(const FixedMatmulArgs& a, int64_t row0)
      : data_(a.weight.data + row0 / kInt8Rows * a.weight.ScaleCols() * kInt8BlockBytes),
        scales_(reinterpret_cast<const uint16_t*>(a.weight.scales) +
                row0 / kInt8Rows * a.weight.ScaleCols() * kInt8Rows) {}

  template <class Integer>
  void Decode(int64_t block, __m512 /*scale*/, __m512i* words) const {
    static_assert(sizeof(Integer) == 1);
    for (int p = 0; p < kWords<Integer>; ++p) {
      words[p] = _mm512_loadu_si512(data_ + block * kInt8BlockBytes + 64 * p);
    }
  }

  void Prefetch(int64_t) const {}  // one run of bytes, which hardware prefetchers follow

  __m512 Scale(int64_t block) const {
    const auto* at = reinterpret_cast<const __m256i*>(scales_ + block * kInt8Rows);
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at)), 16));
  }

  void LoadScales(int64_t first, int n, __m512* out) const {
    for (int b = 0; b < n; ++b) out[b] = Scale(first + b);
  }

 private:
  const uint8_t* data_;
  const uint16_t* scales_;
};

// A token's row of x, from a block on.
template <class Integer>
struct XRow {
  const Integer* integers;
  const float* scales;
  const int32_t* starts;
};

template <class Integer>
inline XRow<Integer> RowOf(const FixedMatmulArgs& a, int token, int64_t block = 0) {
  const int64_t at = (a.x_rows ? a.x_rows[token] : token) * FixedBlocks(a.weight.cols) + block;
  return {static_cast<const Integer*>(a.x.integers) + at * kFixedBlockSize, a.x.scales + at,
          a.x.starts + at};
}

// Word kShifts j + i of a block at x.
template <class Integer>
inline __m512i BroadcastWord(const Integer* x, int index) {
  int32_t word;
  std::memcpy(&word, x + WordIndex<Integer>(0, index / kShifts<Integer>, index % kShifts<Integer>),
              sizeof word);
  return _mm512_set1_epi32(word);
}

// What a block's sum starts from.
template <class Integer>
inline __m512i Start(const XRow<Integer>& x, int64_t block) {
  return sizeof(Integer) == 1 ? _mm512_set1_epi32(x.starts[block]) : _mm512_setzero_si512();
}

inline __m512 AddBlock(__m512i products, float x_scale, __m512 w_scale, __m512 sum) {
  return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(products), _mm512_set1_ps(x_scale)),
                         w_scale, sum);
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

}  // namespace
}  // namespace motet
