#include "sched/scheduler.h"

#include <algorithm>
#include <stdexcept>

namespace motet {
namespace {

// Pages before a page's first position that a query there sees keys of.
int64_t WindowPages(int64_t sliding_window) { return PagesFor(sliding_window - 1); }

// Puts a sequence among those that came before and after it.
void Enqueue(std::vector<Sequence*>& queue, Sequence* sequence) {
  const auto later = [](const Sequence* a, const Sequence* b) { return a->arrival < b->arrival; };
  queue.insert(std::upper_bound(queue.begin(), queue.end(), sequence, later), sequence);
}

}  // namespace

int64_t SlidingPagesInUse(int64_t sliding_window, int64_t max_sequences, int64_t step_tokens,
                          int64_t max_context) {
  // The window's ends need not meet page boundaries, nor those of what a step adds.
  const int64_t each = std::min(PagesFor(sliding_window) + 2, PagesFor(max_context));
  return std::min(max_sequences * each + PagesFor(step_tokens),
                  max_sequences * PagesFor(max_context));
}

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits),
      pages_per_sequence_(PagesFor(limits.max_context)),
      full_(limits.full_pages, limits.max_sequences, pages_per_sequence_, 0),
      sliding_(limits.sliding_pages, limits.max_sequences, pages_per_sequence_,
               WindowPages(limits.sliding_window)) {
  for (int64_t i = limits.max_sequences; i-- > 0;) free_slots_.push_back(static_cast<int32_t>(i));
  running_.reserve(limits.max_sequences);
}

void Scheduler::Add(Sequence* sequence, uint64_t salt) {
  sequence->root = keys_.Root(salt);
  sequence->keys.reserve(PagesFor(sequence->max_tokens));
  Enqueue(waiting_, sequence);
}

void Scheduler::AddFork(Sequence* sequence, const Sequence& prompt) {
  sequence->root = prompt.root;
  sequence->keys.reserve(PagesFor(sequence->max_tokens));
  sequence->cached_tokens = prompt.cached_tokens;
  if (free_slots_.empty()) return Enqueue(waiting_, sequence);
  sequence->slot = free_slots_.back();
  free_slots_.pop_back();
  full_.Fork(prompt.slot, sequence->slot);
  sliding_.Fork(prompt.slot, sequence->slot);
  sequence->computed = prompt.computed;
  Enqueue(running_, sequence);
}

void Scheduler::Remove(Sequence* sequence) {
  std::erase(waiting_, sequence);
  if (std::erase(running_, sequence) == 0) return;
  full_.ReleaseAll(sequence->slot);
  sliding_.ReleaseAll(sequence->slot);
  free_slots_.push_back(sequence->slot);
  sequence->slot = -1;
}

void Scheduler::Pause(Sequence* sequence) {
  Remove(sequence);
  sequence->computed = 0;
  ++paused_total_;
  Enqueue(waiting_, sequence);
}

PrefixMatch Scheduler::Match(Sequence* sequence) {
  if (!limits_.prefix_cache) return {};
  // The last token is computed in any case: its logits are wanted.
  const int64_t most = sequence->all_logits ? sequence->logits_taken : sequence->length() - 1;
  return MatchPrefix(keys_, *sequence, std::min(most, sequence->length() - 1), full_, sliding_);
}

// Whether a waiting sequence, and those that run, can come to the end of what they have to compute
// without pausing one another.
bool Scheduler::Fits(Sequence* sequence) {
  if (running_.empty()) return true;  // one always fits, see KvCachePlan
  int64_t spare = full_.pool().available();
  for (const Sequence* other : running_) {
    spare -= PagesFor(other->length() + 1) - PagesFor(other->computed);
  }
  const PrefixMatch match = Match(sequence);
  return PagesFor(sequence->length() + 1) - match.pages + match.full_kept <= spare;
}

// Those whose readers are behind make room for one that can go on.
bool Scheduler::MakeRoomFor(Sequence* sequence) {
  while (free_slots_.empty() || !Fits(sequence)) {
    const auto stalled = std::find_if(running_.rbegin(), running_.rend(),
                                      [](const Sequence* other) { return other->stalled; });
    if (stalled == running_.rend()) return false;
    Pause(*stalled);
  }
  return true;
}

void Scheduler::Start(Sequence* sequence) {
  const PrefixMatch match = Match(sequence);
  sequence->slot = free_slots_.back();
  free_slots_.pop_back();
  for (int64_t i = 0; i < match.pages; ++i) {
    const PageKey& key = keys_.Of(*sequence, i);
    full_.Adopt(sequence->slot, i, full_.pool().Find(key));
    if (i < match.pages - sliding_.window_pages()) continue;
    sliding_.Adopt(sequence->slot, i, sliding_.pool().Find(key));
  }
  sequence->computed = match.pages * kPageTokens;
  if (sequence->length() == sequence->n_prompt) sequence->cached_tokens = sequence->computed;
  Enqueue(running_, sequence);
}

// First come, first served.
void Scheduler::AdmitWaiting() {
  for (;;) {
    const auto first = std::find_if(waiting_.begin(), waiting_.end(),
                                    [](const Sequence* sequence) { return !sequence->stalled; });
    if (first == waiting_.end()) return;
    Sequence* sequence = *first;
    if (!MakeRoomFor(sequence)) return;
    std::erase(waiting_, sequence);
    Start(sequence);
  }
}

// Who generates gets a token each: a prompt never delays them. Of the rest one half goes to the
// prompt with the least left, so that a short one does not wait for a long one, and what it does
// not need to the oldest ones.
void Scheduler::ShareBudget(int64_t prompt_tokens) {
  int64_t tokens = limits_.max_tokens;
  int64_t spare_logit_rows = limits_.max_logit_rows - static_cast<int64_t>(running_.size());
  Sequence* shortest = nullptr;
  const auto left = [](const Sequence* s) { return s->length() - s->computed; };
  for (Sequence* sequence : running_) {
    sequence->planned = 0;
    if (sequence->stalled) continue;
    if (sequence->generating()) {
      sequence->planned = 1;
      --tokens;
    } else if (!shortest || left(sequence) < left(shortest)) {
      shortest = sequence;
    }
  }
  int64_t budget = std::min(tokens, prompt_tokens);
  const auto give = [&](Sequence* sequence, int64_t most) {
    int64_t count = std::min(most, left(sequence) - sequence->planned);
    if (sequence->max_chunk > 0) count = std::min(count, sequence->max_chunk - sequence->planned);
    if (sequence->all_logits) {
      const int64_t begin = sequence->computed + sequence->planned;
      const int64_t without = std::max(sequence->logits_taken - begin, int64_t{0});
      count = std::min(count, without + std::max(spare_logit_rows, int64_t{1}));
      spare_logit_rows -= std::max(count - without, int64_t{0});
    }
    sequence->planned += count;
    budget -= count;
    tokens -= count;
  };
  if (shortest) give(shortest, (budget + 1) / 2);
  for (Sequence* sequence : running_) {
    if (!sequence->stalled && !sequence->generating()) give(sequence, budget);
  }
  for (Sequence* sequence : running_) {
    const auto most = sequence->planned == 1 && sequence->generating()
                          ? std::max(std::min(tokens, spare_logit_rows), int64_t{0})
                          : 0;
    if (static_cast<int64_t>(sequence->draft.size()) > most) sequence->draft.resize(most);
    tokens -= static_cast<int64_t>(sequence->draft.size());
    spare_logit_rows -= static_cast<int64_t>(sequence->draft.size());
  }
}

// Takes the pages for what is planned, from the youngest others if need be; false if the sequence
// itself had to be paused.
bool Scheduler::Reserve(Sequence* sequence, BatchPlan& plan) {
  const auto end = [&] {
    return sequence->computed + sequence->planned + static_cast<int64_t>(sequence->draft.size());
  };
  const auto fits = [&](const PageTables& tables) {
    return tables.Missing(sequence->slot, sequence->computed, end()) <= tables.pool().available();
  };
  while (!fits(full_) || !fits(sliding_)) {
    if (!sequence->draft.empty()) {
      sequence->draft.clear();
    } else if (running_.back() != sequence) {
      Pause(running_.back());
    } else if (sequence->planned > 1) {
      sequence->planned /= 2;
    } else {
      Pause(sequence);
      return false;
    }
  }
  full_.Cover(sequence->slot, sequence->computed, end(), plan.full_copies);
  sliding_.Cover(sequence->slot, sequence->computed, end(), plan.sliding_copies);
  return true;
}

void Scheduler::Append(Sequence* sequence, BatchPlan& plan, std::vector<Entry>& entries) {
  const int64_t begin = sequence->computed, length = sequence->length();
  const int drafted = static_cast<int>(sequence->draft.size());
  const int count = static_cast<int>(sequence->planned) + drafted;
  Entry entry{sequence, plan.num_tokens, count, drafted, plan.num_logit_rows, 0};
  for (int64_t i = begin; i < begin + count; ++i) {
    const int row = plan.num_tokens++;
    plan.token_ids[row] = i < length ? sequence->tokens[i] : sequence->draft[i - length];
    plan.positions[row] = static_cast<int32_t>(i);
    plan.slots[row] = sequence->slot;
    const bool wanted = i + 1 >= length || (sequence->all_logits && i < sequence->n_prompt &&
                                            i >= sequence->logits_taken);
    if (wanted) plan.logit_rows[plan.num_logit_rows++] = row;
  }
  entry.num_logit_rows = plan.num_logit_rows - entry.first_logit_row;
  entries.push_back(entry);
}

bool Scheduler::Schedule(int64_t prompt_tokens, BatchPlan& plan, std::vector<Entry>& entries) {
  plan.num_tokens = plan.num_logit_rows = 0;
  plan.full_pages = full_.data();
  plan.sliding_pages = sliding_.data();
  plan.pages_per_sequence = pages_per_sequence_;
  plan.full_copies.clear();
  plan.sliding_copies.clear();
  entries.clear();
  AdmitWaiting();
  ShareBudget(std::max(prompt_tokens, int64_t{1}));
  // The oldest first: whom it pauses is not part of the plan yet.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    if (sequence->planned > 0 && Reserve(sequence, plan)) Append(sequence, plan, entries);
  }
  return !entries.empty();
}

void Scheduler::Commit(Sequence* sequence, int64_t count) {
  const int64_t first_page = sequence->computed / kPageTokens;
  sequence->computed += count;
  if (limits_.prefix_cache) {
    for (int64_t i = first_page; (i + 1) * kPageTokens <= sequence->computed; ++i) {
      const PageKey& key = keys_.Of(*sequence, i);
      full_.Name(sequence->slot, i, key);
      sliding_.Name(sequence->slot, i, key);
    }
  }
  // The next query, at position `computed`, sees sliding_window keys with its own.
  sliding_.ReleaseBefore(sequence->slot, sequence->computed - limits_.sliding_window + 1);
}

void Scheduler::Audit() const {
  full_.Audit();
  sliding_.Audit();
  for (const Sequence* sequence : running_) {
    const int64_t seen = std::max(sequence->computed - limits_.sliding_window + 1, int64_t{0});
    for (int64_t i = 0; i < PagesFor(sequence->computed); ++i) {
      const bool in_window = i >= seen / kPageTokens;
      if (!full_.Holds(sequence->slot, i) || (in_window && !sliding_.Holds(sequence->slot, i))) {
        throw std::logic_error("a running sequence lacks page " + std::to_string(i));
      }
    }
  }
}

}  // namespace motet
