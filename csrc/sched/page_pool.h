// Pages of one kind of layer: free, owned by one or more sequences, or kept for what they hold.
#pragma once

#include <cstdint>
#include <vector>

#include "sched/page_index.h"

namespace motet {

// What happens to a page whose last owner gives it up, if it has a key. Pages that are kept short
// are taken again before those that are kept long, and of each the one given first.
enum class Keep { kShort, kLong };

class PagePool {
 public:
  explicit PagePool(int64_t num_pages);

  int64_t total() const { return static_cast<int64_t>(owners_.size()); }
  int64_t available() const { return static_cast<int64_t>(free_.size()) + kept_; }
  int64_t kept() const { return kept_; }

  int32_t Take();            // only when available() > 0
  void Share(int32_t page);  // one owner more, also for a page that was only kept
  void Give(int32_t page, Keep keep);
  int32_t owners(int32_t page) const { return owners_[page]; }

  // Makes a page's contents known; its owner may not write to it from then on. Nothing happens if
  // another page is known by the key.
  void Name(int32_t page, const PageKey& key);
  int32_t Find(const PageKey& key) const { return index_.Find(key); }

  // Throws std::logic_error unless `owners` [total] are the owners and every page without any is
  // either free or kept.
  void Audit(const std::vector<int32_t>& owners) const;

 private:
  struct Links {
    int32_t previous, next;
  };
  int32_t List(Keep keep) const {  // the lists' ends come after the pages
    return static_cast<int32_t>(owners_.size()) + (keep == Keep::kLong ? 1 : 0);
  }
  void Link(int32_t page, int32_t list);  // at the list's end
  void Unlink(int32_t page);

  std::vector<int32_t> owners_;  // [total]
  std::vector<int32_t> free_;    // a stack
  int64_t kept_ = 0;
  std::vector<Links> links_;    // [total + 2] of kept pages, rings that start at a list
  std::vector<PageKey> keys_;   // [total]
  std::vector<uint8_t> named_;  // [total] whether the index has it
  PageIndex index_;
};

}  // namespace motet
