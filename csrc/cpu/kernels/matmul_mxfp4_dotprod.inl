// x · Wᵀ of integers for MXFP4 weights with NEON's dot products of bytes, which are several times
// as fast as products of 16 bits: an integer of 16 bits is 256 high + low, and a code times it two
// products of bytes. Both take the same codes, with kMxfp4Offset: high bytes have a sign, low ones
// none. The results are the same bits as matmul_fixed.inl's.
//
// Four rows lie side by side in a register, a word of four even or four odd columns each; x's words
// are taken from a register's lanes.

namespace motet {
namespace {

constexpr int kQuads = kFixedRows / 4;
constexpr int kDotTileBlocks = 16;   // decoded tile: 4 KiB
constexpr int kDotTileTokens = 64;   // running sums: 2 KiB
constexpr int kDotTokensAtOnce = 4;  // times kQuads sums of high and of low bytes in registers

// The even or the odd columns of a block of x.
template <class Integer>
struct Columns;
template <>
struct Columns<int16_t> {
  uint8x16_t low;
  int8x16_t high;
};
template <>
struct Columns<int8_t> {
  int8x16_t all;
};

// From rows as QuantizeFixedSplit leaves them: of each block the low bytes of even columns, their
// high bytes, and both of the odd ones.
inline Columns<int16_t> LoadColumns(const int16_t* row, int64_t block, int odd) {
  const auto* at = reinterpret_cast<const uint8_t*>(row + block * kFixedBlockSize + 16 * odd);
  return {vld1q_u8(at), vreinterpretq_s8_u8(vld1q_u8(at + 16))};
}
inline Columns<int8_t> LoadColumns(const int8_t* row, int64_t block, int odd) {
  return {vld1q_s8(row + block / kGroupBlocks * kGroupBlocks * kFixedBlockSize +
                   block % kGroupBlocks * 16 + odd * kFixedBlockSize)};
}

// Running sums of four rows.
template <class Integer>
struct DotSums;
template <>
struct DotSums<int16_t> {
  int32x4_t low, high;
};
template <>
struct DotSums<int8_t> {
  int32x4_t all;
};

template <class Integer>
inline DotSums<Integer> StartSums(int32_t start);
template <>
inline DotSums<int16_t> StartSums(int32_t start) {
  return {vdupq_n_s32(start), vdupq_n_s32(0)};
}
template <>
inline DotSums<int8_t> StartSums(int32_t start) {
  return {vdupq_n_s32(start)};
}

inline int32x4_t Total(const DotSums<int16_t>& s) {
  return vaddq_s32(s.low, vshlq_n_s32(s.high, 8));
}
inline int32x4_t Total(const DotSums<int8_t>& s) { return s.all; }

template <int Word>
inline void AddWord(DotSums<int16_t>& s, int8x16_t w, const Columns<int16_t>& x) {
  s.low = vreinterpretq_s32_u32(
      vdotq_laneq_u32(vreinterpretq_u32_s32(s.low), vreinterpretq_u8_s8(w), x.low, Word));
  s.high = vdotq_laneq_s32(s.high, w, x.high, Word);
}
template <int Word>
inline void AddWord(DotSums<int8_t>& s, int8x16_t w, const Columns<int8_t>& x) {
  s.all = vdotq_laneq_s32(s.all, w, x.all, Word);
}

// The codes of a block of four rows.
struct QuadBlock {
  int8x16_t words[2][4];  // of even and of odd columns
};

inline QuadBlock DecodeQuad(const uint8_t* const* rows, int64_t block) {
  float32x4_t words[4];  // moved only
  for (int i = 0; i < 4; ++i) {
    words[i] = vreinterpretq_f32_u8(vld1q_u8(rows[i] + block * kMxfp4BlockBytes));
  }
  Transpose(words);
  const int8x16_t table = OffsetCodes();
  QuadBlock w;
  for (int j = 0; j < 4; ++j) {
    const uint8x16_t codes = vreinterpretq_u8_f32(words[j]);
    w.words[0][j] = vqtbl1q_s8(table, vandq_u8(codes, vdupq_n_u8(15)));
    w.words[1][j] = vqtbl1q_s8(table, vshrq_n_u8(codes, 4));
  }
  return w;
}

template <class Integer>
inline void AddColumns(DotSums<Integer>& s, const int8x16_t* words, const Columns<Integer>& x) {
  AddWord<0>(s, words[0], x);
  AddWord<1>(s, words[1], x);
  AddWord<2>(s, words[2], x);
  AddWord<3>(s, words[3], x);
}

template <class Integer>
inline Vec ToFloats(const DotSums<Integer>* quads) {
  return {vcvtq_f32_s32(Total(quads[0])), vcvtq_f32_s32(Total(quads[1]))};
}

template <class Integer>
using Mxfp4Rows = FixedRowsView<Integer, WeightFormat::kMxfp4>;

template <class Integer>
void DotOneToken(const FixedMatmulArgs& a) {
  const XRow<Integer> x = RowOf<Integer>(a, 0);
  for (int64_t row0 = a.row_begin; row0 < a.row_end; row0 += kFixedRows) {
    const Mxfp4Rows<Integer> w(a, row0);
    Vec scales[kScaleBlocks];
    Vec sum = Set(0);
    for (int64_t block = 0; block < w.blocks; ++block) {
      if (block % kScaleBlocks == 0) w.LoadScales(block, scales);
      // A tile is eight short runs, which hardware prefetchers do not follow.
      if (block % 4 == 0) {
        for (int r = 0; r < kFixedRows; ++r) {
          __builtin_prefetch(w.data[r] + kFixedRows * w.row_bytes + block * kMxfp4BlockBytes, 0, 2);
        }
      }
      const Columns<Integer> even = LoadColumns(x.integers, block, 0);
      const Columns<Integer> odd = LoadColumns(x.integers, block, 1);
      DotSums<Integer> quads[kQuads];
      for (int q = 0; q < kQuads; ++q) {
        const QuadBlock quad = DecodeQuad(w.data + 4 * q, block);
        quads[q] = StartSums<Integer>(x.starts[block]);
        AddColumns(quads[q], quad.words[0], even);
        AddColumns(quads[q], quad.words[1], odd);
      }
      sum = AddBlock(ToFloats(quads), x.scales[block], scales[block % kScaleBlocks], sum);
    }
    StoreFixedRows(a, row0, 0, sum);
  }
}

struct DotTile {
  QuadBlock quads[kDotTileBlocks][kQuads];
  Vec scales[kDotTileBlocks];
};

// sums[t] += the tile's first `n` blocks times x[t], which is at the tile's first block.
template <int Tokens, class Integer>
void MultiplyDotTile(const DotTile& tile, int n, const XRow<Integer>* x, Vec* sums) {
  for (int b = 0; b < n; ++b) {
    DotSums<Integer> quads[Tokens][kQuads];
    for (int t = 0; t < Tokens; ++t) {
      for (int q = 0; q < kQuads; ++q) quads[t][q] = StartSums<Integer>(x[t].starts[b]);
    }
    for (int odd = 0; odd < 2; ++odd) {
      Columns<Integer> columns[Tokens];
      for (int t = 0; t < Tokens; ++t) columns[t] = LoadColumns(x[t].integers, b, odd);
      for (int q = 0; q < kQuads; ++q) {
        const int8x16_t* words = tile.quads[b][q].words[odd];
        for (int t = 0; t < Tokens; ++t) AddWord<0>(quads[t][q], words[0], columns[t]);
        for (int t = 0; t < Tokens; ++t) AddWord<1>(quads[t][q], words[1], columns[t]);
        for (int t = 0; t < Tokens; ++t) AddWord<2>(quads[t][q], words[2], columns[t]);
        for (int t = 0; t < Tokens; ++t) AddWord<3>(quads[t][q], words[3], columns[t]);
      }
    }
    for (int t = 0; t < Tokens; ++t) {
      sums[t] = AddBlock(ToFloats(quads[t]), x[t].scales[b], tile.scales[b], sums[t]);
    }
  }
}

template <class Integer>
void DotRows(const FixedMatmulArgs& a, int64_t row0, int first_token, int tokens) {
  const Mxfp4Rows<Integer> w(a, row0);
  DotTile tile;
  Vec sums[kDotTileTokens];
  for (int t = 0; t < tokens; ++t) sums[t] = Set(0);
  for (int64_t block = 0; block < w.blocks; block += kDotTileBlocks) {
    const int64_t left = w.blocks - block;
    const int n = left < kDotTileBlocks ? static_cast<int>(left) : kDotTileBlocks;
    for (int b = 0; b < n; ++b) {
      if (b % kScaleBlocks == 0) w.LoadScales(block + b, tile.scales + b);
      for (int q = 0; q < kQuads; ++q) {
        tile.quads[b][q] = DecodeQuad(w.data + 4 * q, block + b);
      }
    }
    int t = 0;
    const auto multiply = [&](auto multiply_tile, int count) {
      XRow<Integer> x[kDotTokensAtOnce];
      for (int i = 0; i < count; ++i) x[i] = RowOf<Integer>(a, first_token + t + i, block);
      multiply_tile(tile, n, x, sums + t);
      t += count;
    };
    while (tokens - t >= 4) multiply(MultiplyDotTile<4, Integer>, 4);
    if (tokens - t == 3) multiply(MultiplyDotTile<3, Integer>, 3);
    if (tokens - t == 2) multiply(MultiplyDotTile<2, Integer>, 2);
    if (tokens - t == 1) multiply(MultiplyDotTile<1, Integer>, 1);
  }
  for (int t = 0; t < tokens; ++t) StoreFixedRows(a, row0, first_token + t, sums[t]);
}

template <class Integer>
void DotProducts(const FixedMatmulArgs& a) {
  if (a.tokens == 1) return DotOneToken<Integer>(a);
  for (int first = 0; first < a.tokens; first += kDotTileTokens) {
    const int tokens = a.tokens - first < kDotTileTokens ? a.tokens - first : kDotTileTokens;
    for (int64_t row = a.row_begin; row < a.row_end; row += kFixedRows) {
      DotRows<Integer>(a, row, first, tokens);
    }
  }
}

void MatmulFixedDot(const FixedMatmulArgs& a) {
  a.weight.format == WeightFormat::kMxfp4 ? DotProducts<int16_t>(a) : MatmulFixed(a);
}

void MatmulInt8Dot(const FixedMatmulArgs& a) {
  a.weight.format == WeightFormat::kMxfp4 ? DotProducts<int8_t>(a) : MatmulInt8(a);
}

// An integer of 16 bits takes two products of bytes.
int64_t PeakSplitDots(int64_t rounds) { return PeakDots<int8_t>(rounds) / 2; }

// Parts low and high bytes of what will be multiplied by MXFP4 weights, and sets starts.
void QuantizeFixedSplit(const QuantizeArgs& a) {
  QuantizeFixed(a);
  if (a.weights != WeightFormat::kMxfp4) return;
  for (int64_t block = 0; block < FixedBlocks(a.size); ++block) {
    auto* bytes = static_cast<uint8_t*>(a.out.integers) + block * 2 * kFixedBlockSize;
    int32x4_t sum = vdupq_n_s32(0);
    for (int odd = 0; odd < 2; ++odd, bytes += 32) {
      const uint8x16_t first = vld1q_u8(bytes), second = vld1q_u8(bytes + 16);
      sum =
          vpadalq_s16(vpadalq_s16(sum, vreinterpretq_s16_u8(first)), vreinterpretq_s16_u8(second));
      vst1q_u8(bytes, vuzp1q_u8(first, second));
      vst1q_u8(bytes + 16, vuzp2q_u8(first, second));
    }
    a.out.starts[block] = -kMxfp4Offset * vaddvq_s32(sum);
  }
}

}  // namespace
}  // namespace motet
