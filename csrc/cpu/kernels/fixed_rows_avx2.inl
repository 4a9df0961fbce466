// The operands of fixed-point products with AVX2: eight rows of weights side by side and a token's
// row of x, and what becomes of a block's products.
//
// A decoded block is a register for each word of columns, see fixed_avx2.h: lane r holds row r's
// weights next to each other, as the dot instructions take them; x's word is broadcast.

namespace motet {
namespace {

constexpr int kLanes = 8;        // rows in a register
constexpr int kScaleBlocks = 8;  // whose scales are laid out at once

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

}  // namespace
}  // namespace motet
