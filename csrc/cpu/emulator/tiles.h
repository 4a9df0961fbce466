// Intel AMX in plain C++: tiles as Intel's SDM describes them (volume 1, chapter on AMX; volume 2,
// LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TILERELEASE, TDPB*), for palette 1. Where a CPU would
// raise #UD or #GP, std::logic_error is thrown. Beyond that a configuration must be released before
// the next is loaded, as kernels here do.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbusd
#undef _tile_dpbuud

namespace motet {
namespace {

// Names in this namespace hide the compiler's own of the same name.
namespace tiles {

constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;

struct Tile {
  int rows, row_bytes;  // 0: not configured
  uint8_t bytes[kRows][kRowBytes];
};

struct State {
  bool configured;
  Tile tile[kTiles];
};

inline State& OfThread() {
  thread_local State state = {};
  return state;
}

inline void Require(bool ok, const char* what) {
  if (!ok) throw std::logic_error(what);
}

inline Tile& Configured(int number) {
  Require(OfThread().configured, "no tile configuration");
  Require(number >= 0 && number < kTiles, "no such tile");
  Tile& tile = OfThread().tile[number];
  Require(tile.rows > 0, "this tile has no rows");
  return tile;
}

// A and B are int8_t or uint8_t. The sum wraps around.
template <class A, class B>
inline void Multiply(int sums, int a, int b) {
  Tile& c = Configured(sums);
  const Tile &x = Configured(a), &y = Configured(b);
  Require(sums != a && sums != b && a != b, "an instruction names one tile twice");
  Require(c.row_bytes % 4 == 0 && x.row_bytes % 4 == 0 && y.row_bytes % 4 == 0, "split words");
  Require(c.rows == x.rows, "rows of the sums and of the first factor differ");
  Require(c.row_bytes == y.row_bytes, "columns of the sums and of the second factor differ");
  Require(x.row_bytes == 4 * y.rows, "columns of the first and rows of the second factor differ");
  for (int m = 0; m < c.rows; ++m) {
    for (int n = 0; n < c.row_bytes / 4; ++n) {
      uint32_t sum;
      std::memcpy(&sum, c.bytes[m] + 4 * n, sizeof sum);
      for (int k = 0; k < x.row_bytes; ++k) {
        sum += static_cast<uint32_t>(static_cast<A>(x.bytes[m][k]) *
                                     static_cast<B>(y.bytes[k / 4][4 * n + k % 4]));
      }
      std::memcpy(c.bytes[m] + 4 * n, &sum, sizeof sum);
    }
  }
}

}  // namespace tiles

inline void _tile_release() { tiles::OfThread() = {}; }

inline void _tile_loadconfig(const void* config) {
  using namespace tiles;
  uint8_t at[64];
  std::memcpy(at, config, sizeof at);
  State next = {};
  Require(at[0] == 1 && at[1] == 0, "not palette 1 from row 0");
  next.configured = true;
  for (int i = 2; i < 16; ++i) Require(at[i] == 0, "reserved bytes are not zero");
  for (int i = 0; i < 16; ++i) {
    const int row_bytes = at[16 + 2 * i] + 256 * at[17 + 2 * i], rows = at[48 + i];
    Require(i < kTiles || (rows == 0 && row_bytes == 0), "more tiles than there are");
    Require(rows <= kRows && row_bytes <= kRowBytes, "tiles larger than they can be");
    Require((rows == 0) == (row_bytes == 0), "rows without columns");
    if (i < kTiles) next.tile[i] = {rows, row_bytes, {}};
  }
  Require(!OfThread().configured, "the configuration before was not released");
  OfThread() = next;
}

inline void _tile_zero(int tile) {
  std::memset(tiles::Configured(tile).bytes, 0, sizeof(tiles::Tile::bytes));
}

// What lies past the configured rows and columns becomes zero.
inline void _tile_loadd(int tile, const void* from, int64_t stride) {
  _tile_zero(tile);
  tiles::Tile& t = tiles::Configured(tile);
  for (int r = 0; r < t.rows; ++r) {
    std::memcpy(t.bytes[r], static_cast<const uint8_t*>(from) + r * stride, t.row_bytes);
  }
}

inline void _tile_stored(int tile, void* to, int64_t stride) {
  const tiles::Tile& t = tiles::Configured(tile);
  for (int r = 0; r < t.rows; ++r) {
    std::memcpy(static_cast<uint8_t*>(to) + r * stride, t.bytes[r], t.row_bytes);
  }
}

inline void _tile_dpbssd(int c, int a, int b) { tiles::Multiply<int8_t, int8_t>(c, a, b); }
inline void _tile_dpbsud(int c, int a, int b) { tiles::Multiply<int8_t, uint8_t>(c, a, b); }
inline void _tile_dpbusd(int c, int a, int b) { tiles::Multiply<uint8_t, int8_t>(c, a, b); }
inline void _tile_dpbuud(int c, int a, int b) { tiles::Multiply<uint8_t, uint8_t>(c, a, b); }

}  // namespace
}  // namespace motet
