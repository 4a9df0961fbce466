#include "sched/page_pool.h"

#include <stdexcept>
#include <string>

namespace motet {

PagePool::PagePool(int64_t num_pages)
    : owners_(num_pages, 0),
      links_(num_pages + 2),
      keys_(num_pages),
      named_(num_pages, 0),
      index_(num_pages) {
  free_.reserve(num_pages);
  // The lowest page is taken first, so that a short conversation touches little memory.
  for (int64_t i = num_pages; i-- > 0;) free_.push_back(static_cast<int32_t>(i));
  for (const Keep keep : {Keep::kShort, Keep::kLong}) links_[List(keep)] = {List(keep), List(keep)};
}

void PagePool::Link(int32_t page, int32_t list) {
  links_[page] = {links_[list].previous, list};
  links_[links_[page].previous].next = page;
  links_[list].previous = page;
  ++kept_;
}

void PagePool::Unlink(int32_t page) {
  const Links links = links_[page];
  links_[links.previous].next = links.next;
  links_[links.next].previous = links.previous;
  --kept_;
}

int32_t PagePool::Take() {
  int32_t page;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else {
    page = links_[List(Keep::kShort)].next;
    if (page == List(Keep::kShort)) page = links_[List(Keep::kLong)].next;
    Unlink(page);
    index_.Erase(keys_[page]);
    named_[page] = 0;
  }
  owners_[page] = 1;
  return page;
}

void PagePool::Share(int32_t page) {
  if (owners_[page]++ == 0) Unlink(page);
}

void PagePool::Give(int32_t page, Keep keep) {
  if (--owners_[page] > 0) return;
  if (named_[page]) {
    Link(page, List(keep));
  } else {
    free_.push_back(page);
  }
}

void PagePool::Name(int32_t page, const PageKey& key) {
  if (named_[page] || index_.Find(key) >= 0) return;
  index_.Insert(key, page);
  keys_[page] = key;
  named_[page] = 1;
}

void PagePool::Audit(const std::vector<int32_t>& owners) const {
  const auto check = [](bool ok, const char* what, int64_t page) {
    if (!ok) throw std::logic_error(std::string(what) + ", page " + std::to_string(page));
  };
  std::vector<uint8_t> unowned(owners_.size(), 0);
  for (const int32_t page : free_) {
    check(!unowned[page]++, "free twice", page);
    check(!named_[page], "free but known", page);
  }
  int64_t kept = 0;
  for (const Keep keep : {Keep::kShort, Keep::kLong}) {
    for (int32_t page = links_[List(keep)].next; page != List(keep); page = links_[page].next) {
      check(!unowned[page]++, "free or kept twice", page);
      check(named_[page], "kept but unknown", page);
      ++kept;
    }
  }
  check(kept == kept_, "kept pages miscounted", kept);
  for (int32_t page = 0; page < total(); ++page) {
    check(owners_[page] == owners[page], "owners miscounted", page);
    check((owners_[page] == 0) == (unowned[page] == 1), "lost", page);
    check(!named_[page] || index_.Find(keys_[page]) == page, "known by another's key", page);
  }
}

}  // namespace motet
