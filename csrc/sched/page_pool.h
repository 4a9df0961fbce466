// Pages of the KV cache: who owns which, and the page tables of the running sequences.
#pragma once

#include <cstdint>
#include <vector>

namespace motet {

// Free pages of one kind, as a stack of indices.
class PagePool {
 public:
  explicit PagePool(int64_t num_pages);

  int64_t total() const { return total_; }
  int64_t available() const { return static_cast<int64_t>(free_.size()); }
  int32_t Take();  // only when available() > 0
  void Give(int32_t page);

 private:
  int64_t total_;
  std::vector<int32_t> free_;
};

// One pool and its page tables [max_sequences, pages_per_sequence].
class PageTables {
 public:
  PageTables(int64_t num_pages, int64_t max_sequences, int64_t pages_per_sequence);

  // Makes [first_position, end_position) of a sequence writable; only within what was reserved.
  void Cover(int64_t slot, int64_t first_position, int64_t end_position);
  // Gives back the pages that hold only positions before `position`.
  void ReleaseBefore(int64_t slot, int64_t position);
  void ReleaseAll(int64_t slot);

  const int32_t* data() const { return table_.data(); }
  const PagePool& pool() const { return pool_; }

 private:
  PagePool pool_;
  int64_t pages_per_sequence_;
  std::vector<int32_t> table_;  // -1: no page
  // [max_sequences] first page that may still be held, so that release looks at each page once.
  std::vector<int64_t> first_held_;
};

}  // namespace motet
