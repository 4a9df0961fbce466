// x · Wᵀ in fixed point, eight rows at a time. Every output adds its blocks in order, one float
// each, whatever the number of tokens: for one token weights are used as they are decoded, for
// several a tile of them is decoded once and multiplied by all.

namespace motet {
namespace {

constexpr int kFixedRows = 8;
constexpr int kScaleBlocks = 8;       // scales are laid out for so many blocks at once
constexpr int kFixedTileGroups = 8;   // decoded tile: 8 KiB, stays in the first-level cache
constexpr int kFixedTileTokens = 64;  // running sums: 2 KiB

// Eight rows of the weights; rows past the end repeat the last one and are not written out.
template <WeightFormat Format>
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

  FixedWeights Decode(int r, int64_t group) const {
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
  static FixedWeights DecodeGroup(const uint8_t* at, const uint8_t* scale) {
    if constexpr (kIsMxfp4)
      return DecodeMxfp4Group(at);
    else
      return DecodeBf16Group(at, scale);
  }
};

// sum += the group's two blocks, the first one first.
inline Vec AddGroup(const FixedSums* rows, const float* x_scales, const Vec* w_scales, Vec sum) {
  Vec block0, block1;
  SumsOfRows(rows, &block0, &block1);
  sum = MulAdd(Mul(block0, Set(x_scales[0])), w_scales[0], sum);
  return MulAdd(Mul(block1, Set(x_scales[1])), w_scales[1], sum);
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

template <WeightFormat Format>
void FixedOneToken(const FixedMatmulArgs& a) {
  const int64_t row_blocks = FixedBlocks(a.weight.cols);
  const int64_t at = a.x_rows ? a.x_rows[0] : 0;
  const int16_t* x = a.x.integers + at * row_blocks * kFixedBlockSize;
  const float* x_scales = a.x.scales + at * row_blocks;
  for (int64_t row0 = a.row_begin; row0 < a.row_end; row0 += kFixedRows) {
    const FixedRowsView<Format> w(a, row0);
    Vec scales[kScaleBlocks];
    Vec sum = Set(0);
    for (int64_t group = 0; group < w.groups(); ++group) {
      const int64_t block = group * kGroupBlocks;
      if (block % kScaleBlocks == 0) w.LoadScales(block, scales);
      const FixedInputs inputs = LoadInputs(x + block * kFixedBlockSize);
      FixedSums sums[kFixedRows];
      for (int r = 0; r < kFixedRows; ++r) {
        // A tile is eight short runs, which hardware prefetchers do not follow.
        const uint8_t* next = w.data[r] + kFixedRows * w.row_bytes + group * w.kGroupBytes;
        for (int i = 0; i < w.kGroupBytes; i += 64) {
          if (w.kGroupBytes >= 64 || group % 2 == 0) __builtin_prefetch(next + i, 0, 2);
        }
        sums[r] = MultiplyGroup(w.Decode(r, group), inputs);
      }
      sum = AddGroup(sums, x_scales + block, scales + block % kScaleBlocks, sum);
    }
    StoreFixedRows(a, row0, 0, sum);
  }
}

template <WeightFormat Format>
void FixedTile(const FixedMatmulArgs& a, int64_t row0, int first_token, int tokens) {
  const int64_t row_blocks = FixedBlocks(a.weight.cols);
  const FixedRowsView<Format> w(a, row0);
  const int64_t groups = w.groups();
  FixedWeights tile[kFixedTileGroups][kFixedRows];
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
      const int64_t at = a.x_rows ? a.x_rows[first_token + t] : first_token + t;
      const int64_t block0 = group0 * kGroupBlocks;
      const int16_t* x = a.x.integers + (at * row_blocks + block0) * kFixedBlockSize;
      const float* x_scales = a.x.scales + at * row_blocks + block0;
      Vec sum = sums[t];
      for (int g = 0; g < n; ++g) {
        const FixedInputs inputs = LoadInputs(x + g * kGroupBlocks * kFixedBlockSize);
        FixedSums rows[kFixedRows];
        for (int r = 0; r < kFixedRows; ++r) rows[r] = MultiplyGroup(tile[g][r], inputs);
        sum = AddGroup(rows, x_scales + g * kGroupBlocks, scales + g * kGroupBlocks, sum);
      }
      sums[t] = sum;
    }
  }
  for (int t = 0; t < tokens; ++t) StoreFixedRows(a, row0, first_token + t, sums[t]);
}

template <WeightFormat Format>
void MatmulFixedRows(const FixedMatmulArgs& a) {
  if (a.tokens == 1) return FixedOneToken<Format>(a);
  for (int first = 0; first < a.tokens; first += kFixedTileTokens) {
    const int tokens = a.tokens - first < kFixedTileTokens ? a.tokens - first : kFixedTileTokens;
    for (int64_t row = a.row_begin; row < a.row_end; row += kFixedRows) {
      FixedTile<Format>(a, row, first, tokens);
    }
  }
}

void MatmulFixed(const FixedMatmulArgs& a) {
  if (a.weight.format == WeightFormat::kMxfp4) return MatmulFixedRows<WeightFormat::kMxfp4>(a);
  MatmulFixedRows<WeightFormat::kBf16>(a);
}

}  // namespace
}  // namespace motet
