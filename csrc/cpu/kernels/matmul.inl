// x · Wᵀ for weights in the checkpoint's own layout, four rows at a time. For several tokens a tile
// of the rows is decoded to float once and multiplied by all of them; for one token bf16 lanes are
// used as they come. Both add up the same way: every output is eight running lane sums over k, in
// order, reduced by a tree. (MXFP4 comes here in f32 mode only, see matmul_fixed.inl.)

namespace motet {
namespace {

constexpr int kTileRows = 4;
constexpr int kTileCols = 512;      // decoded tile: 8 KiB, stays in the first-level cache
constexpr int kMaxTileTokens = 64;  // running sums: 8 KiB

// A tile takes short runs of four rows in turn, which hardware prefetchers do not follow. So each
// run asks for the same run of the tile after: far enough ahead to hide memory, near enough to stay
// in the second-level cache.
void PrefetchNextTile(const uint8_t* run, int64_t bytes, int64_t row_bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(run + kTileRows * row_bytes + i, 0, 2);
}

// Decodes W[row, k0 .. k0+n) and zero-fills up to a multiple of 8.
void DecodeRow(const WeightMatrix& w, int64_t row, int64_t k0, int n, float* out) {
  const uint8_t* data = w.data + row * w.RowBytes();
  int k = 0;
  if (w.format == WeightFormat::kMxfp4) {
    const uint8_t* codes = data + k0 / 2;
    PrefetchNextTile(codes, n / 2, w.RowBytes());
    const uint8_t* scales = w.scales + (row * w.cols + k0) / kMxfp4BlockSize;
    for (; k < n; k += kMxfp4BlockSize) {
      Vec lanes[4];
      DecodeMxfp4Block(codes + k / 2, scales[k / kMxfp4BlockSize], lanes);
      for (int j = 0; j < 4; ++j) Store(out + k + 8 * j, lanes[j]);
    }
    return;
  }
  const auto* bits = reinterpret_cast<const uint16_t*>(data) + k0;
  PrefetchNextTile(data + 2 * k0, 2 * n, w.RowBytes());
  for (; k + 8 <= n; k += 8) Store(out + k, LoadBf16(bits + k));
  if (k == n) return;
  Store(out + k, Set(0));
  for (; k < n; ++k) out[k] = Bf16ToFloat(bits[k]);
}

const float* TokenRow(const MatmulArgs& a, int token) {
  return a.x + (a.x_rows ? a.x_rows[token] : token) * a.x_stride;
}

// sums[t][r] += tile[r] · x[t] for `Tokens` tokens. Lanes past n are fed from a padded copy.
template <int Tokens>
void MultiplyTile(const float* tile, const MatmulArgs& a, int token, int64_t k0, int n,
                  float* sums) {
  Vec sum[Tokens][kTileRows];
  for (int t = 0; t < Tokens; ++t) {
    for (int r = 0; r < kTileRows; ++r) sum[t][r] = Load(sums + (t * kTileRows + r) * 8);
  }
  const float* row[Tokens];
  for (int t = 0; t < Tokens; ++t) row[t] = TokenRow(a, token + t) + k0;
  int k = 0;
  for (; k + 8 <= n; k += 8) {
    Vec v[Tokens];
    for (int t = 0; t < Tokens; ++t) v[t] = Load(row[t] + k);
    for (int r = 0; r < kTileRows; ++r) {
      const Vec w = Load(tile + r * kTileCols + k);
      for (int t = 0; t < Tokens; ++t) sum[t][r] = MulAdd(w, v[t], sum[t][r]);
    }
  }
  if (k < n) {
    for (int t = 0; t < Tokens; ++t) {
      float padded[8] = {};
      for (int i = 0; i < n - k; ++i) padded[i] = row[t][k + i];
      const Vec v = Load(padded);
      for (int r = 0; r < kTileRows; ++r) {
        sum[t][r] = MulAdd(Load(tile + r * kTileCols + k), v, sum[t][r]);
      }
    }
  }
  for (int t = 0; t < Tokens; ++t) {
    for (int r = 0; r < kTileRows; ++r) Store(sums + (t * kTileRows + r) * 8, sum[t][r]);
  }
}

// One tile of rows times up to kMaxTileTokens tokens.
void MatmulTile(const MatmulArgs& a, int64_t row0, int first_token, int tokens) {
  alignas(64) float tile[kTileRows * kTileCols];
  alignas(64) float sums[kMaxTileTokens * kTileRows * 8];
  const int rows = a.row_end - row0 < kTileRows ? static_cast<int>(a.row_end - row0) : kTileRows;
  std::memset(sums, 0, sizeof(float) * tokens * kTileRows * 8);
  for (int64_t k0 = 0; k0 < a.weight.cols; k0 += kTileCols) {
    const int64_t left = a.weight.cols - k0;
    const int n = left < kTileCols ? static_cast<int>(left) : kTileCols;
    for (int r = 0; r < kTileRows; ++r) {
      // Rows past the end repeat the last one; their sums are not written out.
      DecodeRow(a.weight, row0 + (r < rows ? r : rows - 1), k0, n, tile + r * kTileCols);
    }
    int t = 0;
    const auto multiply = [&](auto multiply_tile, int count) {
      multiply_tile(tile, a, first_token + t, k0, n, sums + t * kTileRows * 8);
      t += count;
    };
    while (tokens - t >= 3) multiply(MultiplyTile<3>, 3);
    if (tokens - t == 2) multiply(MultiplyTile<2>, 2);
    if (tokens - t == 1) multiply(MultiplyTile<1>, 1);
  }
  for (int t = 0; t < tokens; ++t) {
    for (int r = 0; r < rows; ++r) {
      float value = ReduceAdd(Load(sums + (t * kTileRows + r) * 8));
      if (a.bias) value += Bf16ToFloat(a.bias[row0 + r]);
      a.out[(first_token + t) * a.out_stride + row0 + r - a.row_begin] = value;
    }
  }
}

// One token, bf16; columns past a multiple of 8 are fed from padded copies.
void MultiplyBf16(const MatmulArgs& a, const int64_t* rows, const float* x, Vec* sums) {
  const WeightMatrix& w = a.weight;
  const uint16_t* row[kTileRows];
  for (int r = 0; r < kTileRows; ++r) {
    row[r] = reinterpret_cast<const uint16_t*>(w.data) + rows[r] * w.cols;
  }
  int64_t k = 0;
  for (; k + 32 <= w.cols; k += 32) {
    for (int r = 0; r < kTileRows; ++r) {
      __builtin_prefetch(row[r] + kTileRows * w.cols + k, 0, 2);
      for (int j = 0; j < 32; j += 8) {
        sums[r] = MulAdd(LoadBf16(row[r] + k + j), Load(x + k + j), sums[r]);
      }
    }
  }
  for (; k < w.cols; k += 8) {
    const int n = w.cols - k < 8 ? static_cast<int>(w.cols - k) : 8;
    float padded_x[8] = {};
    std::memcpy(padded_x, x + k, sizeof(float) * n);
    for (int r = 0; r < kTileRows; ++r) {
      uint16_t padded_row[8] = {};
      std::memcpy(padded_row, row[r] + k, sizeof(uint16_t) * n);
      sums[r] = MulAdd(LoadBf16(padded_row), Load(padded_x), sums[r]);
    }
  }
}

void MatmulOneToken(const MatmulArgs& a) {
  const float* x = TokenRow(a, 0);
  for (int64_t row0 = a.row_begin; row0 < a.row_end; row0 += kTileRows) {
    // Rows past the end repeat the last one; their sums are not written out.
    int64_t rows[kTileRows];
    for (int r = 0; r < kTileRows; ++r) rows[r] = row0 + r < a.row_end ? row0 + r : a.row_end - 1;
    Vec sums[kTileRows] = {Set(0), Set(0), Set(0), Set(0)};
    MultiplyBf16(a, rows, x, sums);
    for (int r = 0; r < kTileRows && row0 + r < a.row_end; ++r) {
      float value = ReduceAdd(sums[r]);
      if (a.bias) value += Bf16ToFloat(a.bias[row0 + r]);
      a.out[row0 + r - a.row_begin] = value;
    }
  }
}

void Matmul(const MatmulArgs& a) {
  if (a.tokens == 1 && a.weight.format == WeightFormat::kBf16) return MatmulOneToken(a);
  for (int first = 0; first < a.tokens; first += kMaxTileTokens) {
    const int tokens = a.tokens - first < kMaxTileTokens ? a.tokens - first : kMaxTileTokens;
    for (int64_t row = a.row_begin; row < a.row_end; row += kTileRows) {
      MatmulTile(a, row, first, tokens);
    }
  }
}

}  // namespace
}  // namespace motet
