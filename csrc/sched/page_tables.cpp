#include "sched/page_tables.h"

#include <algorithm>
#include <stdexcept>

namespace motet {
namespace {

// Behind the window, every so many windows' pages one window's are kept long: from there a sequence
// that shares the tokens before can go on, after computing less than that many tokens again.
constexpr int64_t kWindowsPerCheckpoint = 4;

Keep KeepBehindWindow(int64_t index, int64_t window_pages) {
  const int64_t phase = index % (kWindowsPerCheckpoint * window_pages);
  return phase >= (kWindowsPerCheckpoint - 1) * window_pages ? Keep::kLong : Keep::kShort;
}

}  // namespace

PageTables::PageTables(int64_t num_pages, int64_t max_sequences, int64_t pages_per_sequence,
                       int64_t window_pages)
    : pool_(num_pages),
      pages_per_sequence_(pages_per_sequence),
      window_pages_(window_pages),
      table_(max_sequences * pages_per_sequence, -1),
      first_held_(max_sequences, 0),
      end_held_(max_sequences, 0) {}

int64_t PageTables::Missing(int64_t slot, int64_t first_position, int64_t end_position) const {
  const int32_t* row = Row(slot);
  int64_t missing = 0;
  for (int64_t i = first_position / kPageTokens; i < PagesFor(end_position); ++i) {
    missing += row[i] < 0 || pool_.owners(row[i]) > 1;
  }
  return missing;
}

void PageTables::Cover(int64_t slot, int64_t first_position, int64_t end_position,
                       std::vector<PageCopy>& copies) {
  int32_t* row = Row(slot);
  const int64_t end = PagesFor(end_position);
  for (int64_t i = first_position / kPageTokens; i < end; ++i) {
    if (row[i] >= 0 && pool_.owners(row[i]) == 1) continue;
    const int32_t page = pool_.Take();
    if (row[i] >= 0) {
      copies.push_back({row[i], page});
      pool_.Give(row[i], Keep::kLong);
    }
    row[i] = page;
  }
  end_held_[slot] = std::max(end_held_[slot], end);
}

void PageTables::Adopt(int64_t slot, int64_t index, int32_t page) {
  pool_.Share(page);
  if (end_held_[slot] == 0) first_held_[slot] = index;
  Row(slot)[index] = page;
  end_held_[slot] = index + 1;
}

void PageTables::Fork(int64_t slot, int64_t to_slot) {
  const int32_t* row = Row(slot);
  for (int64_t i = first_held_[slot]; i < end_held_[slot]; ++i) {
    if (row[i] < 0) continue;
    pool_.Share(row[i]);
    Row(to_slot)[i] = row[i];
  }
  first_held_[to_slot] = first_held_[slot];
  end_held_[to_slot] = end_held_[slot];
}

void PageTables::Name(int64_t slot, int64_t index, const PageKey& key) {
  const int32_t page = Row(slot)[index];
  if (page >= 0) pool_.Name(page, key);
}

void PageTables::ReleaseBefore(int64_t slot, int64_t position) {
  int32_t* row = Row(slot);
  const int64_t end = std::min(position / kPageTokens, end_held_[slot]);
  for (int64_t& i = first_held_[slot]; i < end; ++i) {
    if (row[i] >= 0) pool_.Give(row[i], KeepBehindWindow(i, window_pages_));
    row[i] = -1;
  }
}

// From the end: what was given first is taken again first, and a page is of no use without those
// before it.
void PageTables::ReleaseAll(int64_t slot) {
  int32_t* row = Row(slot);
  for (int64_t i = end_held_[slot]; i-- > first_held_[slot];) {
    if (row[i] >= 0) pool_.Give(row[i], Keep::kLong);
    row[i] = -1;
  }
  first_held_[slot] = end_held_[slot] = 0;
}

void PageTables::Audit() const {
  std::vector<int32_t> owners(pool_.total(), 0);
  for (size_t slot = 0; slot < first_held_.size(); ++slot) {
    const int32_t* row = Row(static_cast<int64_t>(slot));
    for (int64_t i = 0; i < pages_per_sequence_; ++i) {
      if (row[i] < 0) continue;
      ++owners[row[i]];
      if (i < first_held_[slot] || i >= end_held_[slot]) {
        throw std::logic_error("a page outside of what its sequence holds");
      }
    }
  }
  pool_.Audit(owners);
}

}  // namespace motet
