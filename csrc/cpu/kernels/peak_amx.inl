// As peak.inl, with AMX: tiles as the products have them, 32 columns deep.

namespace motet {
namespace {

template <class Integer>
int64_t PeakDots(int64_t rounds) {
  alignas(64) int32_t sums[kAmxTokens][kLanes];
  const TileConfig config(kAmxTokens);
  _tile_zero(4);
  _tile_zero(6);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 6);
    _tile_dpbssd(2, 4, 6);
    _tile_dpbssd(3, 4, 6);
  }
  _tile_stored(0, sums, 64);
  // An integer of 16 bits takes two products of bytes.
  return rounds * 4 * kAmxTokens * kLanes * kFixedBlockSize / static_cast<int64_t>(sizeof(Integer));
}

}  // namespace
}  // namespace motet
