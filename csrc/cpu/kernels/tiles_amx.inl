// Operands of AMX's tiles: up to sixteen tokens of x and sixteen rows of weights, a block deep.
//
// TDPB* (Intel SDM, volume 2) multiplies tiles of bytes, with or without signs, and adds them up in
// 32 bits: C [tokens, 16] += A [tokens, 32] · B [8, 16, 4], where B's word (k, n) meets bytes 4k to
// 4k+3 of A's rows. A block of 32 columns is one such product a pair of bytes: integers of 16 bits
// are 256 high + low, high with a sign and low without. x has the rows of A; B's words are those
// of int8 weights (base/matrix.h), to which the others are decoded.

namespace motet {
namespace {

constexpr int kAmxTokens = 16;  // of a tile
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

}  // namespace
}  // namespace motet
