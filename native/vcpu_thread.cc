#include "vcpu_thread.h"

#include <sched.h>
#include <time.h>

#include <cerrno>
#include <utility>

#include "delivery.h"
#include "loop_watch.h"
#include "thread.h"

namespace node_kvm {

namespace {

// The delay after which a stop request is sent again if it has not ended the thread, because the
// signal queue was full or another handler has replaced the kick's handler.
constexpr int64_t kAskAgainNs = 10'000'000;
constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

VcpuThread::VcpuThread(Napi::Env env, std::shared_ptr<Descriptor> descriptor,
                       std::shared_ptr<Region> region, LoopWatch* watch)
    : env_(env), run_(std::move(descriptor), std::move(region)), watch_(watch) {
  // This call fails only if the initial value is too large or if the system has no semaphores.
  static_cast<void>(sem_init(&wanted_, 0, 0));
}

VcpuThread::~VcpuThread() {
  Stop();
  if (delivery_ != nullptr) delivery_->Remove(this);
  static_cast<void>(sem_destroy(&wanted_));  // this call fails only for an invalid semaphore
}

[[gnu::hot]] std::optional<int> VcpuThread::RunHere() {
  if (is_running_) return -EBUSY;
  Wake* wake = watch_ == nullptr ? nullptr : watch_->wake();
  for (;;) {
    const int result = run_.Run(Caller::kJavaScript, wake);
    if (result != kWoken) return result;
    if (watch_->IsEnvironmentEnding(env_)) return {};
  }
}

Refusal VcpuThread::Start() {
  if (is_running_) return {"KVM_RUN", -EBUSY};
  if (is_stopping_ || done_.Value().IsEmpty()) return {"KVM_RUN", -EBADF};
  if (delivery_ == nullptr) {
    const Refusal refusal = Delivery::Of(env_, &delivery_);
    if (refusal) return refusal;
    delivery_->Add(this);
  }
  if (!has_thread_) {
    const int error = StartThread(Main, this, KickSignals(), &thread_);
    if (error != 0) return {"pthread_create", error};
    has_thread_ = true;
  }
  is_running_ = true;
  done_.Ref();
  delivery_->Expect();
  loop_cpu_ = sched_getcpu();
  is_wanted_ = true;
  if (is_asleep_) Post();
  const uint64_t until = for_end_.Begin(loop_cpu_ != thread_cpu_);
  if (until != 0) delivery_->PollUntil(until);
  return {};
}

void* VcpuThread::Main(void* self) {
  static_cast<VcpuThread*>(self)->Work();
  return nullptr;
}

void VcpuThread::Work() {
  for (;;) {
    Await();
    if (is_wanted_.exchange(false)) {
      result_ = run_.Run(Caller::kOwnThread, nullptr);
      thread_cpu_ = sched_getcpu();
      delivery_->Post(this);
    } else if (is_stopping_) {
      // The stop request is checked last, because the end of a run that was started before the
      // request is still delivered.
      return;
    }
  }
}

// Waits until a run is requested, or until the thread must end.
void VcpuThread::Await() {
  const auto is_called = [this] { return is_wanted_ || is_stopping_; };
  const uint64_t until = for_request_.Begin(loop_cpu_ != thread_cpu_);
  while (!is_called() && uv_hrtime() < until) __builtin_ia32_pause();
  while (!is_called()) {
    // Both sides store before they load, so either this thread reads the request, or the requesting
    // thread reads that this thread sleeps.
    is_asleep_ = true;
    // A signal also interrupts the wait; the condition is then checked again.
    if (!is_called()) static_cast<void>(sem_wait(&wanted_));
    is_asleep_ = false;
  }
  for_request_.End();
}

// This call fails only if the semaphore has its maximum value; in this case, the thread is awake.
void VcpuThread::Post() { static_cast<void>(sem_post(&wanted_)); }

void VcpuThread::RequestStop() {
  if (is_stopping_.exchange(true)) return;
  // If no signal could be sent, Stop sends it again.
  static_cast<void>(run_.kick().Request(kStop));
  Post();
}

void VcpuThread::Stop() {
  RequestStop();
  while (has_thread_) {
    timespec until = {};
    // This call fails only for an unknown clock.
    static_cast<void>(clock_gettime(CLOCK_REALTIME, &until));
    until.tv_nsec += kAskAgainNs;
    until.tv_sec += until.tv_nsec / kSecondNs;
    until.tv_nsec %= kSecondNs;
    const int error = pthread_timedjoin_np(thread_, nullptr, &until);
    has_thread_ = error != 0 && error != ESRCH;
    if (has_thread_) static_cast<void>(run_.kick().Request(kStop));
  }
}

void VcpuThread::Abandon() {
  Stop();
  delivery_ = nullptr;
}

void VcpuThread::Close() {
  Stop();
  run_.Close();
}

void VcpuThread::Deliver() {
  is_running_ = false;
  for_end_.End();
  // A kick that was sent after the end of this run must not end the next run.
  run_.kick().Withdraw(kAbort | kPause);
  delivery_->Delivered();
  const Napi::Env env = env_;
  const Napi::Function done = done_.Value();
  done_.Unref();
  const napi_value result = Napi::Number::New(env, result_);
  // After this call, another thread may delete this object.
  delivery_->call().Call(done, {&result, 1});
}

}  // namespace node_kvm
