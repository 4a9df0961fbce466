// Writes rounded values as integers, where the order of them is a matter of FixedIndex alone.

namespace motet {
namespace {

// Writes a block's integers in their order: `block` of the group at `group`.
template <class Integer>
inline void StoreBlock(const float* values, WeightFormat, int block, Integer* group) {
  for (int i = 0; i < kFixedBlockSize; ++i) {
    group[FixedIndex<Integer>(block * kFixedBlockSize + i)] = static_cast<Integer>(values[i]);
  }
}

// What a block's sum of bytes starts from.
inline int32_t BlockStart(const float* values, int32_t offset) {
  int32_t sum = 0;
  for (int i = 0; i < kFixedBlockSize; ++i) sum += static_cast<int32_t>(values[i]);
  return -offset * sum;
}

}  // namespace
}  // namespace motet
