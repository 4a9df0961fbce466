// Which tokens of which sequences the next step computes. Reads as: schedule -> run -> commit.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "sched/batch_plan.h"
#include "sched/page_pool.h"

namespace motet {

struct Sequence {
  std::vector<int32_t> tokens;  // prompt, then output
  int64_t n_prompt = 0;
  int64_t max_tokens = 0;   // prompt and output together; pages are reserved for all of it
  int64_t computed = 0;     // tokens whose keys and values are in the cache
  bool all_logits = false;  // logits of every prompt position, not only the last
  int64_t max_chunk = 0;    // tokens a step at most; 0: what the budget allows
  int32_t slot = -1;        // row in the page tables while running
};

struct SchedulerLimits {
  int64_t max_sequences;   // running at once
  int64_t max_tokens;      // computed in one step
  int64_t max_logit_rows;  // in one step, at least max_sequences
  int64_t max_context;     // tokens of one sequence
  int64_t sliding_window;
  int64_t full_pages, sliding_pages;
};

// The most pages of sliding layers that one sequence holds during a step of `chunk` tokens.
int64_t SlidingPagesPerSequence(int64_t sliding_window, int64_t chunk, int64_t max_context);

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  // A part of the plan: rows [first_row, first_row + count) belong to `sequence`, and its logit
  // rows start at first_logit_row.
  struct Entry {
    Sequence* sequence;
    int first_row, count;
    int first_logit_row, num_logit_rows;
  };

  // The caller keeps the sequence alive until Remove.
  void Add(Sequence* sequence);
  void Remove(Sequence* sequence);  // gives its pages back, whether it waits or runs
  bool idle() const { return waiting_.empty() && running_.empty(); }

  // Fills the plan and the entries; false when there is nothing to do. Nothing is taken as done
  // until Commit, so a step that was interrupted can simply be scheduled again.
  bool Schedule(BatchPlan& plan, std::vector<Entry>& entries);
  void Commit(const std::vector<Entry>& entries);

  const PageTables& full() const { return full_; }
  const PageTables& sliding() const { return sliding_; }

 private:
  void AdmitWaiting();
  void Append(Sequence* sequence, int64_t count, BatchPlan& plan, std::vector<Entry>& entries);

  SchedulerLimits limits_;
  int64_t pages_per_sequence_;
  PageTables full_, sliding_;
  int64_t reserved_full_pages_ = 0;
  std::vector<int32_t> free_slots_;
  std::deque<Sequence*> waiting_;   // in order of arrival
  std::vector<Sequence*> running_;  // in order of admission
};

}  // namespace motet
