#include "vcpu_thread.h"

#include <sched.h>

#include <cerrno>
#include <utility>

#include "delivery.h"
#include "loop_watch.h"
#include "thread.h"

namespace node_kvm {

VcpuThread::VcpuThread(Napi::Env env, std::shared_ptr<Descriptor> descriptor,
                       std::shared_ptr<Region> region, LoopWatch* watch)
    : env_(env), run_(std::move(descriptor), std::move(region)), watch_(watch) {
  sem_init(&wanted_, 0, 0);
}

VcpuThread::~VcpuThread() {
  Stop();
  if (delivery_ != nullptr) delivery_->Remove(this);
  sem_destroy(&wanted_);
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

int VcpuThread::Start() {
  if (is_running_) return -EBUSY;
  if (is_stopping_ || done_.Value().IsEmpty()) return -EBADF;
  if (delivery_ == nullptr) {
    delivery_ = Delivery::Of(env_);
    if (delivery_ == nullptr) return -ENOMEM;
    delivery_->Add(this);
  }
  if (!has_thread_) {
    const int error = StartThread(Main, this, {KickSignal()}, &thread_);
    if (error != 0) return error;
    has_thread_ = true;
  }
  is_running_ = true;
  done_.Ref();
  delivery_->Expect();
  loop_cpu_ = sched_getcpu();
  is_wanted_ = true;
  if (is_asleep_) sem_post(&wanted_);
  const uint64_t until = for_end_.Begin(loop_cpu_ != thread_cpu_);
  if (until != 0) delivery_->LookUntil(until);
  return 0;
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
      // Not sooner: a run that was started before the stop is owed its end.
      return;
    }
  }
}

// Until there is a run to do, or none any more.
void VcpuThread::Await() {
  const auto is_called = [this] { return is_wanted_ || is_stopping_; };
  const uint64_t until = for_request_.Begin(loop_cpu_ != thread_cpu_);
  while (!is_called() && uv_hrtime() < until) __builtin_ia32_pause();
  while (!is_called()) {
    // Either we see the call here, or who calls sees that we sleep: both sides write before they
    // read.
    is_asleep_ = true;
    if (!is_called()) sem_wait(&wanted_);
    is_asleep_ = false;
  }
  for_request_.End();
}

void VcpuThread::Stop() {
  if (is_stopping_.exchange(true)) return;
  run_.kick().Request(kStop);
  sem_post(&wanted_);
  if (has_thread_) pthread_join(thread_, nullptr);
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
  // What came after its end is not for the next one.
  run_.kick().Withdraw(kAbort | kPause);
  delivery_->Delivered();
  const Napi::Env env = env_;
  const Napi::Function done = done_.Value();
  done_.Unref();
  done.MakeCallback(env.Global(), {Napi::Number::New(env, result_)});
  // From here on this object may be gone. `done` throws nothing of its own.
  if (env.IsExceptionPending()) {
    napi_fatal_exception(env, env.GetAndClearPendingException().Value());
  }
}

}  // namespace node_kvm
