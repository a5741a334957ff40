// A few threads that help whoever runs first; nobody waits for them, and they never outnumber what was asked for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace harp {

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait();

 private:
  const int count_;
  std::atomic<int> arrived_{0}, round_{0};
};

class Workers {
 public:
  explicit Workers(int threads);
  ~Workers();
  int threads() const { return static_cast<int>(helpers_.size()) + 1; }
  // Calls work(0), …, work(n - 1) at the same time, n being the number of threads; or work(0) alone when the helpers
  // are busy with another caller, or died in a fork. `team` learns n before any call.
  void run(const std::function<void(int n)>& team, const std::function<void(int index)>& work);

 private:
  void help(int index);

  std::mutex busy_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* work_ = nullptr;
  std::int64_t round_ = 0;
  int running_ = 0;
  bool stop_ = false;
  int process_;
  std::vector<std::thread> helpers_;
};

}  // namespace harp
