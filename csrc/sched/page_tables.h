// The page tables of the running sequences, for one kind of layer.
#pragma once

#include <cstdint>
#include <vector>

#include "sched/batch_plan.h"
#include "sched/page_pool.h"

namespace motet {

constexpr int64_t PagesFor(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

class PageTables {
 public:
  // `window_pages` are those that a query at a page's first position still needs before it; 0: all.
  PageTables(int64_t num_pages, int64_t max_sequences, int64_t pages_per_sequence,
             int64_t window_pages);

  // Pages that Cover would take.
  int64_t Missing(int64_t slot, int64_t first_position, int64_t end_position) const;
  // Makes [first_position, end_position) of a sequence its own to write, in pages taken from the
  // pool. Those that others see too are to be copied first.
  void Cover(int64_t slot, int64_t first_position, int64_t end_position,
             std::vector<PageCopy>& copies);
  // A page of the pool becomes the sequence's too; the indices of adopted pages rise by one each.
  void Adopt(int64_t slot, int64_t index, int32_t page);
  // All pages of a sequence become another's too, which has none.
  void Fork(int64_t slot, int64_t to_slot);
  // Makes the contents of the page known, if the sequence still has it.
  void Name(int64_t slot, int64_t index, const PageKey& key);
  // Gives back the pages that hold only positions before `position`.
  void ReleaseBefore(int64_t slot, int64_t position);
  void ReleaseAll(int64_t slot);

  const int32_t* data() const { return table_.data(); }
  const PagePool& pool() const { return pool_; }
  int64_t window_pages() const { return window_pages_; }

  // Throws std::logic_error unless the tables and the pool agree.
  void Audit() const;
  bool Holds(int64_t slot, int64_t index) const { return Row(slot)[index] >= 0; }

 private:
  const int32_t* Row(int64_t slot) const { return table_.data() + slot * pages_per_sequence_; }
  int32_t* Row(int64_t slot) { return table_.data() + slot * pages_per_sequence_; }

  PagePool pool_;
  int64_t pages_per_sequence_;
  int64_t window_pages_;
  std::vector<int32_t> table_;       // [max_sequences, pages_per_sequence] -1: no page
  std::vector<int64_t> first_held_;  // [max_sequences] pages before it are given back
  std::vector<int64_t> end_held_;    // [max_sequences] no page from here on
};

}  // namespace motet
