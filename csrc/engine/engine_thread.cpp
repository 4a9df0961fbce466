#include "engine/engine_thread.h"

#include <exception>
#include <iterator>

namespace motet {

void EngineThread::Wait(std::vector<Event>& events) {
  events.clear();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !events_.empty() || ended_; });
  std::swap(events, events_);
}

void EngineThread::Publish(std::vector<Event>& events) {
  if (events.empty()) return;
  const std::lock_guard lock(mutex_);
  events_.insert(events_.end(), std::move_iterator(events.begin()),
                 std::move_iterator(events.end()));
  changed_.notify_all();
}

void EngineThread::Run() {
  std::vector<Event> events;
  while (!stop_) {
    bool computed = false;
    try {
      computed = engine_.Step(events, [this] {
        if (stop_) throw Engine::Abandoned();
      });
    } catch (const std::exception& error) {  // no memory: what runs can't go on, later calls can
      engine_.EndAll(Finish::kError, error.what(), events);
    }
    Publish(events);
    if (!computed && !stop_) engine_.WaitForWork();
  }
  engine_.EndAll(Finish::kCancelled, {}, events);
  Publish(events);
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void EngineThread::Stop() {
  stop_ = true;
  engine_.Wake();
  std::call_once(joined_, [this] { thread_.join(); });
}

}  // namespace motet
