#include "sched/scheduler.h"

#include <algorithm>

#include "base/page.h"

namespace motet {
namespace {

int64_t PagesFor(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

}  // namespace

int64_t SlidingPagesPerSequence(int64_t sliding_window, int64_t chunk, int64_t max_context) {
  // The window before the chunk and the chunk, whose ends need not meet page boundaries.
  return std::min(PagesFor(sliding_window + chunk) + 1, PagesFor(max_context));
}

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits),
      pages_per_sequence_(PagesFor(limits.max_context)),
      full_(limits.full_pages, limits.max_sequences, pages_per_sequence_),
      sliding_(limits.sliding_pages, limits.max_sequences, pages_per_sequence_) {
  for (int64_t i = limits.max_sequences; i-- > 0;) free_slots_.push_back(static_cast<int32_t>(i));
  running_.reserve(limits.max_sequences);
}

void Scheduler::Add(Sequence* sequence) { waiting_.push_back(sequence); }

void Scheduler::Remove(Sequence* sequence) {
  std::erase(waiting_, sequence);
  if (std::erase(running_, sequence) == 0) return;
  full_.ReleaseAll(sequence->slot);
  sliding_.ReleaseAll(sequence->slot);
  reserved_full_pages_ -= PagesFor(sequence->max_tokens);
  free_slots_.push_back(sequence->slot);
  sequence->slot = -1;
}

// First come, first served. A sequence starts when all pages that it can ever need are free, so
// that a running one never runs out.
void Scheduler::AdmitWaiting() {
  while (!waiting_.empty() && !free_slots_.empty()) {
    Sequence* sequence = waiting_.front();
    const int64_t pages = PagesFor(sequence->max_tokens);
    if (reserved_full_pages_ + pages > full_.pool().total()) return;
    reserved_full_pages_ += pages;
    sequence->slot = free_slots_.back();
    free_slots_.pop_back();
    waiting_.pop_front();
    running_.push_back(sequence);
  }
}

void Scheduler::Append(Sequence* sequence, int64_t count, BatchPlan& plan,
                       std::vector<Entry>& entries) {
  const int64_t length = static_cast<int64_t>(sequence->tokens.size());
  const int64_t begin = sequence->computed, end = begin + count;
  full_.Cover(sequence->slot, begin, end);
  sliding_.Cover(sequence->slot, begin, end);
  Entry entry{sequence, plan.num_tokens, static_cast<int>(count), plan.num_logit_rows, 0};
  for (int64_t i = begin; i < end; ++i) {
    const int row = plan.num_tokens++;
    plan.token_ids[row] = sequence->tokens[i];
    plan.positions[row] = static_cast<int32_t>(i);
    plan.slots[row] = sequence->slot;
    if (i + 1 == length || sequence->all_logits) plan.logit_rows[plan.num_logit_rows++] = row;
  }
  entry.num_logit_rows = plan.num_logit_rows - entry.first_logit_row;
  entries.push_back(entry);
}

bool Scheduler::Schedule(BatchPlan& plan, std::vector<Entry>& entries) {
  AdmitWaiting();
  plan.num_tokens = plan.num_logit_rows = 0;
  plan.full_pages = full_.data();
  plan.sliding_pages = sliding_.data();
  plan.pages_per_sequence = pages_per_sequence_;
  entries.clear();
  // Sequences that are generating go first, one token each: a prompt never delays them.
  for (const bool generating : {true, false}) {
    for (Sequence* sequence : running_) {
      const int64_t left = static_cast<int64_t>(sequence->tokens.size()) - sequence->computed;
      if ((sequence->computed >= sequence->n_prompt) != generating || left == 0) continue;
      int64_t count = std::min(left, limits_.max_tokens - plan.num_tokens);
      if (sequence->max_chunk > 0) count = std::min(count, sequence->max_chunk);
      const int64_t logit_rows = limits_.max_logit_rows - plan.num_logit_rows;
      if (sequence->all_logits) count = std::min(count, logit_rows);
      if (count > 0 && logit_rows > 0) Append(sequence, count, plan, entries);
    }
  }
  return !entries.empty();
}

void Scheduler::Commit(const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    Sequence* sequence = entry.sequence;
    sequence->computed += entry.count;
    // The next query, at position `computed`, sees sliding_window keys with its own.
    sliding_.ReleaseBefore(sequence->slot, sequence->computed - limits_.sliding_window + 1);
  }
}

}  // namespace motet
