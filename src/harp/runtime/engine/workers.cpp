#include "workers.h"

#include "platform.h"
#include "tuning.h"

namespace harp {

// Spins a little, since layers take microseconds, then yields: another program may need the core to let us go on.
void Barrier::wait() {
  if (count_ == 1) return;
  const int round = round_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == count_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    return;
  }
  for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins)
    if (spins > tuning::SPINS) std::this_thread::yield();
}

Workers::Workers(int threads) : process_(process_id()) {
  for (int index = 1; index < threads; ++index) helpers_.emplace_back([this, index] { help(index); });
}

Workers::~Workers() {
  if (process_id() != process_) {  // the threads are not ours: they stayed with the parent
    for (auto& helper : helpers_) helper.detach();
    return;
  }
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& helper : helpers_) helper.join();
}

void Workers::run(const std::function<void(int)>& team, const std::function<void(int)>& work) {
  std::unique_lock busy(busy_, std::try_to_lock);
  if (helpers_.empty() || !busy.owns_lock() || process_id() != process_) {
    team(1);
    work(0);
    return;
  }
  team(threads());
  {
    std::lock_guard lock(mutex_);
    work_ = &work;
    running_ = static_cast<int>(helpers_.size());
    ++round_;
  }
  wake_.notify_all();
  work(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return running_ == 0; });
}

void Workers::help(int index) {
  std::int64_t seen = 0;
  for (;;) {
    const std::function<void(int)>* work;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
      work = work_;
    }
    (*work)(index);
    std::lock_guard lock(mutex_);
    if (--running_ == 0) done_.notify_one();
  }
}

}  // namespace harp
