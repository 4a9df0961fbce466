// A thread that steps an engine while there is work, and sleeps otherwise.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/engine.h"

namespace motet {

class EngineThread {
 public:
  explicit EngineThread(Engine& engine) : engine_(engine), thread_([this] { Run(); }) {}
  ~EngineThread() { Stop(); }

  // Moves what happened into `events`, as soon as something has; nothing once the thread has ended
  // and all was handed out.
  void Wait(std::vector<Event>& events);
  // Ends all requests as cancelled, and the thread, after the layer that runs. From any thread.
  void Stop();

 private:
  void Run();
  void Publish(std::vector<Event>& events);

  Engine& engine_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // guards:
  std::condition_variable changed_;
  std::vector<Event> events_;
  bool ended_ = false;
  std::once_flag joined_;
  std::thread thread_;  // last: it uses what is above
};

}  // namespace motet
