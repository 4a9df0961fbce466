// Which tokens of which sequences the next step computes. Reads as: schedule -> run -> commit.
#pragma once

#include <cstdint>
#include <vector>

#include "sched/batch_plan.h"
#include "sched/page_tables.h"
#include "sched/prefix.h"
#include "sched/sequence.h"

namespace motet {

struct SchedulerLimits {
  int64_t max_sequences;   // running at once
  int64_t max_tokens;      // computed in one step
  int64_t max_logit_rows;  // in one step, at least max_sequences
  int64_t max_context;     // tokens of one sequence
  int64_t sliding_window;
  int64_t full_pages, sliding_pages;
  bool prefix_cache;
};

// Pages of sliding layers that sequences own at most, when a step computes `step_tokens` for all of
// them together.
int64_t SlidingPagesInUse(int64_t sliding_window, int64_t max_sequences, int64_t step_tokens,
                          int64_t max_context);

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  // A part of the plan: rows [first_row, first_row + count) belong to `sequence`, the last
  // `drafted` of them to its draft; its logit rows start at first_logit_row.
  struct Entry {
    Sequence* sequence;
    int first_row, count, drafted;
    int first_logit_row, num_logit_rows;
  };

  // The caller keeps the sequence alive until Remove. Its pages may be found under `salt`.
  void Add(Sequence* sequence, uint64_t salt);
  // Takes in a sequence whose prompt another one, which runs, has just computed: they share pages.
  void AddFork(Sequence* sequence, const Sequence& prompt);
  void Remove(Sequence* sequence);  // gives its pages back, whether it waits or runs
  bool idle() const { return waiting_.empty() && running_.empty(); }

  // Fills the plan and the entries, with at most `prompt_tokens` tokens beside those of sequences
  // that are generating; false when there is nothing to do. Nothing is taken as computed until
  // Commit, so a step that was interrupted can simply be scheduled again.
  bool Schedule(int64_t prompt_tokens, BatchPlan& plan, std::vector<Entry>& entries);
  // Of an entry's tokens the first `count` are computed, and are the sequence's own.
  void Commit(Sequence* sequence, int64_t count);

  const std::vector<Sequence*>& running() const { return running_; }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t paused_total() const { return paused_total_; }
  const PageTables& full() const { return full_; }
  const PageTables& sliding() const { return sliding_; }

  // Throws std::logic_error if pages are lost, owned twice or missing.
  void Audit() const;

 private:
  void AdmitWaiting();
  bool MakeRoomFor(Sequence* sequence);
  bool Fits(Sequence* sequence);
  PrefixMatch Match(Sequence* sequence);
  void Start(Sequence* sequence);
  // Gives up a running sequence's pages; it waits, and computes again what the cache loses.
  void Pause(Sequence* sequence);
  void ShareBudget(int64_t prompt_tokens);
  bool Reserve(Sequence* sequence, BatchPlan& plan);
  void Append(Sequence* sequence, BatchPlan& plan, std::vector<Entry>& entries);

  SchedulerLimits limits_;
  int64_t pages_per_sequence_;
  PageKeys keys_;
  PageTables full_, sliding_;
  std::vector<int32_t> free_slots_;
  std::vector<Sequence*> waiting_;  // in order of arrival
  std::vector<Sequence*> running_;  // in order of arrival
  int64_t paused_total_ = 0;
};

}  // namespace motet
