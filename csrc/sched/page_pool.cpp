#include "sched/page_pool.h"

#include <algorithm>

#include "base/page.h"

namespace motet {

PagePool::PagePool(int64_t num_pages) : total_(num_pages) {
  free_.reserve(num_pages);
  // The lowest page is taken first, so that a short conversation touches little memory.
  for (int64_t i = num_pages; i-- > 0;) free_.push_back(static_cast<int32_t>(i));
}

int32_t PagePool::Take() {
  const int32_t page = free_.back();
  free_.pop_back();
  return page;
}

void PagePool::Give(int32_t page) { free_.push_back(page); }

PageTables::PageTables(int64_t num_pages, int64_t max_sequences, int64_t pages_per_sequence)
    : pool_(num_pages),
      pages_per_sequence_(pages_per_sequence),
      table_(max_sequences * pages_per_sequence, -1),
      first_held_(max_sequences, 0) {}

void PageTables::Cover(int64_t slot, int64_t first_position, int64_t end_position) {
  int32_t* row = table_.data() + slot * pages_per_sequence_;
  const int64_t end = (end_position + kPageTokens - 1) / kPageTokens;
  for (int64_t page = first_position / kPageTokens; page < end; ++page) {
    if (row[page] < 0) row[page] = pool_.Take();
  }
}

void PageTables::ReleaseBefore(int64_t slot, int64_t position) {
  int32_t* row = table_.data() + slot * pages_per_sequence_;
  const int64_t end = std::min(position / kPageTokens, pages_per_sequence_);
  for (int64_t& page = first_held_[slot]; page < end; ++page) {
    if (row[page] >= 0) pool_.Give(row[page]);
    row[page] = -1;
  }
}

void PageTables::ReleaseAll(int64_t slot) {
  ReleaseBefore(slot, pages_per_sequence_ * kPageTokens);
  first_held_[slot] = 0;
}

}  // namespace motet
