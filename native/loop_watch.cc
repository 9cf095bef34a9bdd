#include "loop_watch.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <mutex>
#include <utility>
#include <vector>

#include "thread.h"
#include "unique_fd.h"

namespace node_kvm {

namespace {

// The delay before a loop is checked again, in milliseconds. While a loop has not handled a
// wake-up, uv_async_send does nothing, so a second wake-up may not make the epoll descriptor ready.
constexpr int kAgainMs = 100;

// This object is never destroyed, because the watching thread runs until the process exits.
class Watcher {
 public:
  static Watcher& Get() {
    static auto* watcher = new Watcher;
    return *watcher;
  }

  Refusal Add(LoopWatch::Watched* watched) {
    const std::lock_guard lock(mutex_);
    const Refusal refusal = is_begun_ ? Refusal{} : Begin();
    if (refusal) return refusal;
    // The epoll descriptor of a loop becomes ready once for each wake-up.
    epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.fd = watched->loop_fd}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, watched->loop_fd, &event) != 0) {
      return Refusal::Of("epoll_ctl");
    }
    all_.push_back(watched);
    return {};
  }

  void Remove(LoopWatch::Watched* watched) {
    const std::lock_guard lock(mutex_);
    std::erase(all_, watched);
    // If the descriptor could not be removed, it causes at most one useless wake-up before the loop
    // closes it.
    static_cast<void>(epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watched->loop_fd, nullptr));
  }

 private:
  // If one of the two resources cannot be created, the other is also released, so that the next
  // worker can try again.
  Refusal Begin() {
    UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
    if (epoll.get() < 0) return Refusal::Of("epoll_create1");
    epoll_ = std::move(epoll);
    pthread_t thread = {};
    const int error = StartThread(Main, this, {}, &thread);
    if (error != 0) {
      epoll_.Reset();
      return {"pthread_create", error};
    }
    // This call fails only for a thread that was already joined or detached.
    static_cast<void>(pthread_detach(thread));
    is_begun_ = true;
    return {};
  }

  static void* Main(void* watcher) { static_cast<Watcher*>(watcher)->Watch(); }

  [[noreturn]] void Watch() {
    const int epoll = Epoll();
    int timeout = -1;
    for (;;) {
      epoll_event event = {};
      // This call is not known to fail. If it fails, the loops are polled.
      const bool has_failed = epoll_wait(epoll, &event, 1, timeout) < 0;
      if (has_failed) usleep(kAgainMs * 1000);
      timeout = CheckLoops() || has_failed ? kAgainMs : -1;
    }
  }

  int Epoll() {
    const std::lock_guard lock(mutex_);
    return epoll_.get();
  }

  // Returns whether a loop has not yet handled its wake-up.
  bool CheckLoops() {
    const std::lock_guard lock(mutex_);
    bool is_any = false;
    for (LoopWatch::Watched* watched : all_) {
      pollfd loop = {.fd = watched->loop_fd, .events = POLLIN, .revents = 0};
      const int ready = poll(&loop, 1, 0);
      if (ready == 0) continue;
      is_any = true;
      // If poll() fails because no memory is available, the loop may have been woken. The worker is
      // therefore interrupted, and determines whether its environment is shutting down.
      watched->wake.woken = true;
      // If the kick signal could not be sent, it is sent again at the next check.
      if (watched->wake.is_inside) static_cast<void>(SignalThread(watched->wake.tid));
    }
    return is_any;
  }

  std::mutex mutex_;
  UniqueFd epoll_;
  bool is_begun_ = false;
  std::vector<LoopWatch::Watched*> all_;
};

}  // namespace

Refusal LoopWatch::Start(Napi::Env env, const Napi::Function& probe) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return {"napi_get_uv_event_loop", -ENOTSUP};
  probe_ = Napi::Persistent(probe);
  if (probe_.IsEmpty()) return {"napi_create_reference", -ENOMEM};
  watched_.wake.tid = static_cast<pid_t>(syscall(SYS_gettid));
  watched_.loop_fd = uv_backend_fd(loop);
  const Refusal refusal = Watcher::Get().Add(&watched_);
  if (refusal) watched_.loop_fd = -1;
  return refusal;
}

LoopWatch::~LoopWatch() {
  if (watched_.loop_fd >= 0) Watcher::Get().Remove(&watched_);
}

bool LoopWatch::IsEnvironmentEnding(Napi::Env env) {
  napi_value global = nullptr;
  napi_value result = nullptr;
  if (napi_get_global(env, &global) != napi_ok) return true;
  return napi_call_function(env, global, probe_.Value(), 0, nullptr, &result) != napi_ok;
}

}  // namespace node_kvm
