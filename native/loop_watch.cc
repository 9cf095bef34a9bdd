#include "loop_watch.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <mutex>
#include <vector>

#include "thread.h"

namespace node_kvm {

namespace {

// A second wake-up of a loop that has not seen the first may be no wake-up at all (uv_async_send
// does nothing then), so such a loop is looked at again.
constexpr int kAgainMs = 100;

// Never destroyed: its thread lives until the process is gone.
class Watcher {
 public:
  static Watcher& Get() {
    static auto* watcher = new Watcher;
    return *watcher;
  }

  void Add(LoopWatch::Watched* watched) {
    const std::lock_guard lock(mutex_);
    if (epoll_ < 0) Begin();
    all_.push_back(watched);
    // A loop's epoll becomes ready once for each wake-up.
    epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.fd = watched->loop_fd}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, watched->loop_fd, &event);
  }

  void Remove(LoopWatch::Watched* watched) {
    const std::lock_guard lock(mutex_);
    std::erase(all_, watched);
    epoll_ctl(epoll_, EPOLL_CTL_DEL, watched->loop_fd, nullptr);
  }

 private:
  void Begin() {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    pthread_t thread = {};
    if (StartThread(Main, this, {}, &thread) == 0) pthread_detach(thread);
  }

  static void* Main(void* watcher) { static_cast<Watcher*>(watcher)->Watch(); }

  [[noreturn]] void Watch() {
    int timeout = -1;
    for (;;) {
      epoll_event event = {};
      epoll_wait(epoll_, &event, 1, timeout);
      timeout = Look() ? kAgainMs : -1;
    }
  }

  // Whether a loop has still not seen that it was woken.
  bool Look() {
    const std::lock_guard lock(mutex_);
    bool is_any = false;
    for (LoopWatch::Watched* watched : all_) {
      pollfd loop = {.fd = watched->loop_fd, .events = POLLIN, .revents = 0};
      if (poll(&loop, 1, 0) != 1) continue;
      is_any = true;
      watched->wake.woken = true;
      if (watched->wake.is_inside) SignalThread(watched->wake.tid);
    }
    return is_any;
  }

  std::mutex mutex_;
  int epoll_ = -1;
  std::vector<LoopWatch::Watched*> all_;
};

}  // namespace

LoopWatch::LoopWatch(Napi::Env env, const Napi::Function& probe) : probe_(Napi::Persistent(probe)) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return;
  watched_.wake.tid = static_cast<pid_t>(syscall(SYS_gettid));
  watched_.loop_fd = uv_backend_fd(loop);
  Watcher::Get().Add(&watched_);
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
