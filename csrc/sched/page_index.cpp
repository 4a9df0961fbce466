#include "sched/page_index.h"

#include <bit>

namespace motet {

PageIndex::PageIndex(int64_t num_pages)
    : mask_(std::bit_ceil(static_cast<size_t>(2 * num_pages + 2)) - 1), slots_(mask_ + 1) {}

size_t PageIndex::Probe(const PageKey& key) const {
  size_t at = Home(key);
  while (slots_[at].page >= 0 && slots_[at].key != key) at = (at + 1) & mask_;
  return at;
}

int32_t PageIndex::Find(const PageKey& key) const { return slots_[Probe(key)].page; }

void PageIndex::Insert(const PageKey& key, int32_t page) { slots_[Probe(key)] = {key, page}; }

// Later entries of the run move up where the gap would end their search.
void PageIndex::Erase(const PageKey& key) {
  size_t gap = Probe(key);
  if (slots_[gap].page < 0) return;
  for (size_t at = (gap + 1) & mask_; slots_[at].page >= 0; at = (at + 1) & mask_) {
    const size_t home = Home(slots_[at].key);
    const bool reachable_without = ((at - home) & mask_) < ((at - gap) & mask_);
    if (reachable_without) continue;
    slots_[gap] = slots_[at];
    gap = at;
  }
  slots_[gap].page = -1;
}

}  // namespace motet
