// x · Wᵀ of integers, eight rows at a time. Every output adds its blocks in order, one float
// each, whatever the number of tokens: for one token weights are used as they are decoded, for
// several a tile of them is decoded once and multiplied by all.

namespace motet {
namespace {

constexpr int kFixedRows = 8;
constexpr int kScaleBlocks = 8;       // scales are laid out for so many blocks at once
constexpr int kFixedTileGroups = 8;   // decoded tile: 8 KiB, stays in the first-level cache
constexpr int kFixedTileTokens = 64;  // running sums: 2 KiB

// Eight rows of the weights; rows past the end repeat the last one and are not written out.
template <class Integer, WeightFormat Format>
struct FixedRowsView {
  static constexpr bool kIsMxfp4 = Format == WeightFormat::kMxfp4;
  static constexpr int kGroupBytes =
      kGroupBlocks * (kIsMxfp4 ? kMxfp4BlockBytes : 2 * kFixedBlockSize);
  const uint8_t* data[kFixedRows];
  const uint8_t* scales[kFixedRows];
  int64_t row_bytes, blocks;

  FixedRowsView(const FixedMatmulArgs& a, int64_t row0)
      : row_bytes(a.weight.RowBytes()), blocks(a.weight.ScaleCols()) {
    for (int r = 0; r < kFixedRows; ++r) {
      const int64_t row = row0 + r < a.row_end ? row0 + r : a.row_end - 1;
      data[r] = a.weight.data + row * row_bytes;
      scales[r] = a.weight.scales + row * blocks;
    }
  }

  int64_t groups() const { return (blocks + kGroupBlocks - 1) / kGroupBlocks; }

  FixedWeights<Integer> Decode(int r, int64_t group) const {
    const uint8_t* at = data[r] + group * kGroupBytes;
    const uint8_t* scale = scales[r] + group * kGroupBlocks;
    if ((group + 1) * kGroupBytes <= row_bytes) return DecodeGroup(at, scale);
    // The row ends within the group: the rest is zeros.
    uint8_t padded[kGroupBytes] = {}, padded_scales[kGroupBlocks] = {1, 1};
    std::memcpy(padded, at, static_cast<size_t>(row_bytes - group * kGroupBytes));
    std::memcpy(padded_scales, scale, static_cast<size_t>(blocks - group * kGroupBlocks));
    return DecodeGroup(padded, padded_scales);
  }

  // out[b] = scales of block first + b; those past the end are never multiplied by anything but 0.
  void LoadScales(int64_t first, Vec* out) const {
    const uint8_t* at[kFixedRows];
    for (int r = 0; r < kFixedRows; ++r) at[r] = scales[r] + first;
    const int64_t left = blocks - first;
    ScalesOfRows(at, left < kScaleBlocks ? static_cast<int>(left) : kScaleBlocks, out);
  }

 private:
  static FixedWeights<Integer> DecodeGroup(const uint8_t* at, const uint8_t* scale) {
    if constexpr (kIsMxfp4)
      return DecodeMxfp4Group<Integer>(at);
    else
      return DecodeBf16Group(at, scale);
  }
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

// sum += the products of a block.
inline Vec AddBlock(Vec products, float x_scale, Vec w_scale, Vec sum) {
  return MulAdd(Mul(products, Set(x_scale)), w_scale, sum);
}

// sum += the group's two blocks, the first one first.
template <class Integer>
inline Vec AddGroup(const FixedSums* rows, const XRow<Integer>& x, int64_t block,
                    const Vec* w_scales, Vec sum) {
  Vec products[kGroupBlocks];
  SumsOfRows(rows, &products[0], &products[1]);
  for (int b = 0; b < kGroupBlocks; ++b) {
    if constexpr (sizeof(Integer) == 1) {  // exact, as floats too
      products[b] = Add(products[b], Set(static_cast<float>(x.starts[block + b])));
    }
    sum = AddBlock(products[b], x.scales[block + b], w_scales[b], sum);
  }
  return sum;
}

void StoreFixedRows(const FixedMatmulArgs& a, int64_t row0, int token, Vec sum) {
  alignas(64) float values[kFixedRows];
  Store(values, sum);
  const int rows = a.row_end - row0 < kFixedRows ? static_cast<int>(a.row_end - row0) : kFixedRows;
  float* out = a.out + token * a.out_stride + row0 - a.row_begin;
  for (int r = 0; r < rows; ++r) {
    out[r] = a.bias ? values[r] + Bf16ToFloat(a.bias[row0 + r]) : values[r];
  }
}

template <class Integer, WeightFormat Format>
void FixedOneToken(const FixedMatmulArgs& a) {
  const XRow<Integer> x = RowOf<Integer>(a, 0);
  for (int64_t row0 = a.row_begin; row0 < a.row_end; row0 += kFixedRows) {
    const FixedRowsView<Integer, Format> w(a, row0);
    Vec scales[kScaleBlocks];
    Vec sum = Set(0);
    for (int64_t group = 0; group < w.groups(); ++group) {
      const int64_t block = group * kGroupBlocks;
      if (block % kScaleBlocks == 0) w.LoadScales(block, scales);
      const auto inputs = LoadInputs(x.integers + block * kFixedBlockSize);
      FixedSums sums[kFixedRows];
      for (int r = 0; r < kFixedRows; ++r) {
        // A tile is eight short runs, which hardware prefetchers do not follow.
        const uint8_t* next = w.data[r] + kFixedRows * w.row_bytes + group * w.kGroupBytes;
        for (int i = 0; i < w.kGroupBytes; i += 64) {
          if (w.kGroupBytes >= 64 || group % 2 == 0) __builtin_prefetch(next + i, 0, 2);
        }
        sums[r] = MultiplyGroup(w.Decode(r, group), inputs);
      }
      sum = AddGroup(sums, x, block, scales + block % kScaleBlocks, sum);
    }
    StoreFixedRows(a, row0, 0, sum);
  }
}

template <class Integer, WeightFormat Format>
void FixedTile(const FixedMatmulArgs& a, int64_t row0, int first_token, int tokens) {
  const FixedRowsView<Integer, Format> w(a, row0);
  const int64_t groups = w.groups();
  FixedWeights<Integer> tile[kFixedTileGroups][kFixedRows];
  Vec scales[kFixedTileGroups * kGroupBlocks];
  Vec sums[kFixedTileTokens];
  for (int t = 0; t < tokens; ++t) sums[t] = Set(0);
  for (int64_t group0 = 0; group0 < groups; group0 += kFixedTileGroups) {
    const int64_t left = groups - group0;
    const int n = left < kFixedTileGroups ? static_cast<int>(left) : kFixedTileGroups;
    for (int g = 0; g < n; ++g) {
      const int64_t block = (group0 + g) * kGroupBlocks;
      if (g * kGroupBlocks % kScaleBlocks == 0) w.LoadScales(block, scales + g * kGroupBlocks);
      for (int r = 0; r < kFixedRows; ++r) {
        tile[g][r] = w.Decode(r, group0 + g);
      }
    }
    for (int t = 0; t < tokens; ++t) {
      const XRow<Integer> x = RowOf<Integer>(a, first_token + t, group0 * kGroupBlocks);
      Vec sum = sums[t];
      for (int g = 0; g < n; ++g) {
        const auto inputs = LoadInputs(x.integers + g * kGroupBlocks * kFixedBlockSize);
        FixedSums rows[kFixedRows];
        for (int r = 0; r < kFixedRows; ++r) rows[r] = MultiplyGroup(tile[g][r], inputs);
        sum = AddGroup(rows, x, g * kGroupBlocks, scales + g * kGroupBlocks, sum);
      }
      sums[t] = sum;
    }
  }
  for (int t = 0; t < tokens; ++t) StoreFixedRows(a, row0, first_token + t, sums[t]);
}

template <class Integer, WeightFormat Format>
void MatmulFixedRows(const FixedMatmulArgs& a) {
  if (a.tokens == 1) return FixedOneToken<Integer, Format>(a);
  for (int first = 0; first < a.tokens; first += kFixedTileTokens) {
    const int tokens = a.tokens - first < kFixedTileTokens ? a.tokens - first : kFixedTileTokens;
    for (int64_t row = a.row_begin; row < a.row_end; row += kFixedRows) {
      FixedTile<Integer, Format>(a, row, first, tokens);
    }
  }
}

// Sixteen rows of int8 weights, which lie side by side, times a few tokens.
template <int Tokens>
void Int8Rows(const FixedMatmulArgs& a, int64_t row0, int first_token) {
  constexpr int kHalves = kInt8Rows / kFixedRows, kWords = kFixedBlockSize / 4;
  const int64_t blocks = a.weight.ScaleCols(), first = row0 / kInt8Rows * blocks;
  const auto* scales = reinterpret_cast<const uint16_t*>(a.weight.scales) + first * kInt8Rows;
  XRow<int8_t> x[Tokens];
  Vec sum[Tokens][kHalves];
  for (int t = 0; t < Tokens; ++t) {
    x[t] = RowOf<int8_t>(a, first_token + t);
    for (Vec& s : sum[t]) s = Set(0);
  }
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t group = block / kGroupBlocks * kGroupBlocks * kFixedBlockSize;
    const int64_t in_group = block % kGroupBlocks * 16;  // 16 even columns, and 16 odd ones
    for (int half = 0; half < kHalves; ++half) {
      const uint8_t* words = a.weight.data + (first + block) * kInt8BlockBytes + 32 * half;
      Int8Sums sums[Tokens];
      for (Int8Sums& s : sums) s = NoSums();
      for (int p = 0; p < kWords; ++p) {
        const int64_t at = group + p % 2 * kFixedBlockSize + in_group + p / 2 * 4;
        for (int t = 0; t < Tokens; ++t) {
          sums[t] = AddWords(sums[t], words + 4 * kInt8Rows * p, x[t].integers + at);
        }
      }
      const Vec scale = LoadBf16(scales + block * kInt8Rows + kFixedRows * half);
      for (int t = 0; t < Tokens; ++t) {
        sum[t][half] = AddBlock(ToFloats(sums[t]), x[t].scales[block], scale, sum[t][half]);
      }
    }
  }
  for (int t = 0; t < Tokens; ++t) {
    for (int half = 0; half < kHalves; ++half) {
      StoreFixedRows(a, row0 + kFixedRows * half, first_token + t, sum[t][half]);
    }
  }
}

void MatmulFixed(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) {
    return MatmulFixedRows<int16_t, WeightFormat::kMxfp4>(a);
  }
  MatmulFixedRows<int16_t, WeightFormat::kBf16>(a);
}

void MatmulInt8(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) {
    return MatmulFixedRows<int8_t, WeightFormat::kMxfp4>(a);
  }
  constexpr int kTokens = 4;
  for (int64_t row = a.row_begin; row < a.row_end; row += kInt8Rows) {
    int t = 0;
    for (; t + kTokens <= a.tokens; t += kTokens) Int8Rows<kTokens>(a, row, t);
    for (; t < a.tokens; ++t) Int8Rows<1>(a, row, t);
  }
}

}  // namespace
}  // namespace motet
