// Kicks a simulated KVM_RUN, so that ThreadSanitizer checks kick.cc, vcpu_run.cc and thread.cc on
// any host: `kicks 1000000`. The program prints the errors, or the number of kicks. With `full`
// after the number, the signal queue of this process is full during the kicks.
// test/lifecycle/kicks.js kicks the real KVM_RUN. kicks.test.ts builds this program.
#include <poll.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "ioctl.h"
#include "kick.h"
#include "thread.h"
#include "vcpu_run.h"

namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

// If a kick was lost, the guest stops by itself after this time.
constexpr nanoseconds kForever = std::chrono::seconds(20);

[[noreturn]] void Fail(const char* what, int result) {
  printf("%s: %d\n", what, result);
  fflush(stdout);
  _exit(1);
}

void Wait(sem_t* semaphore) {
  while (sem_wait(semaphore) != 0) {
  }
}

// Returns a delay from 1 ns to 2^bits ns; every order of magnitude is equally likely.
class Moments {
 public:
  explicit Moments(uint32_t seed) : bits_(seed) {}
  nanoseconds Magnitude(double bits) {
    return nanoseconds(
        static_cast<int64_t>(std::exp2(std::uniform_real_distribution(0.0, bits)(bits_))));
  }
  bool Toss() { return bits_() % 2 == 0; }
  void Pass() {
    const auto until = steady_clock::now() + Magnitude(16);
    while (steady_clock::now() < until) {
    }
  }

 private:
  std::mt19937 bits_;
};

struct Guest {
  const volatile uint8_t* immediate_exit = nullptr;
  nanoseconds runs_for = kForever;
};
thread_local Guest* entered = nullptr;

struct Vcpu {
  Vcpu()
      : region(node_kvm::Region::Map(node_kvm::kPageSize, {})),
        run(std::make_shared<node_kvm::Descriptor>(), region) {
    guest.immediate_exit = region->data() + node_kvm::kRunImmediateExitOffset;
    sem_init(&wanted, 0, 0);
    sem_init(&ended, 0, 0);
  }

  std::shared_ptr<node_kvm::Region> region;
  node_kvm::VcpuRun run;
  Guest guest;
  node_kvm::Wake wake;
  sem_t wanted = {};
  sem_t ended = {};
  int result = 0;
  std::atomic<bool> is_stopping = false;
};

// Does the same as VcpuThread::Work.
void* Work(void* argument) {
  auto* vcpu = static_cast<Vcpu*>(argument);
  entered = &vcpu->guest;
  for (;;) {
    Wait(&vcpu->wanted);
    if (vcpu->is_stopping) return nullptr;
    vcpu->result = vcpu->run.Run(node_kvm::Caller::kOwnThread, nullptr);
    sem_post(&vcpu->ended);
  }
}

void Request(Vcpu* vcpu, uint32_t reasons) {
  const int error = vcpu->run.kick().Request(reasons);
  if (error != 0) Fail("a kick could not be sent", error);
}

int RunFor(Vcpu* vcpu, nanoseconds time, Moments* kick) {
  vcpu->guest.runs_for = time;
  vcpu->run.kick().Withdraw(node_kvm::kAbort);
  sem_post(&vcpu->wanted);
  if (kick != nullptr) {
    if (kick->Toss()) kick->Pass();
    Request(vcpu, node_kvm::kAbort);
  }
  Wait(&vcpu->ended);
  return vcpu->result;
}

// A vCPU with a separate thread, and the threads that kick it.
void KickOne(int kicks, uint32_t seed) {
  Moments moments(seed);
  Vcpu vcpu;
  pthread_t thread = {};
  if (node_kvm::StartThread(Work, &vcpu, node_kvm::KickSignals(), &thread) != 0) abort();
  for (int done = 0; done < kicks; ++done) {
    if (moments.Toss()) {
      const int result = RunFor(&vcpu, kForever, &moments);
      if (result != -EINTR) Fail("a kick was lost", result);
    } else {
      const int result = RunFor(&vcpu, moments.Magnitude(16), &moments);
      if (result != 0 && result != -EINTR) Fail("neither a kick nor an exit", result);
    }
    if (moments.Toss()) continue;
    const int result = RunFor(&vcpu, moments.Magnitude(12), nullptr);
    if (result != 0) Fail("a run ended that nobody kicked", result);
  }
  vcpu.is_stopping = true;
  vcpu.guest.runs_for = kForever;
  Request(&vcpu, node_kvm::kStop);
  sem_post(&vcpu.wanted);
  pthread_join(thread, nullptr);
}

// A worker that runs KVM_RUN on a separate thread and is woken in the same way as in loop_watch.cc.
void WakeOne(int wakes, uint32_t seed) {
  Vcpu vcpu;
  std::thread worker([&] {
    entered = &vcpu.guest;
    vcpu.wake.tid = static_cast<pid_t>(syscall(SYS_gettid));
    sem_post(&vcpu.wanted);
    for (int done = 0; done < wakes; ++done) {
      const int result = vcpu.run.Run(node_kvm::Caller::kJavaScript, &vcpu.wake);
      if (result != node_kvm::kWoken) Fail("a wake-up was lost", result);
      sem_post(&vcpu.ended);
    }
  });
  Moments moments(seed);
  Wait(&vcpu.wanted);
  for (int done = 0; done < wakes; ++done) {
    moments.Pass();
    vcpu.wake.woken = true;
    const int error = vcpu.wake.is_inside ? node_kvm::SignalThread(vcpu.wake.tid) : 0;
    if (error != 0) Fail("a wake-up could not be sent", error);
    Wait(&vcpu.ended);
  }
  worker.join();
}

}  // namespace

// Simulates KVM_RUN: it reads immediate_exit once, and no signal arrives between this read and the
// guest's start.
int64_t node_kvm::CallWithInteger(int /*fd*/, uint32_t /*request*/, uint64_t /*argument*/) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int64_t result = -EINTR;
  if (*entered->immediate_exit == 0) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(entered->runs_for);
    const timespec time = {.tv_sec = seconds.count(),
                           .tv_nsec = (entered->runs_for - seconds).count()};
    result = ppoll(nullptr, 0, &time, &before) < 0 ? -errno : 0;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

int main(int count, char** words) {
  const int kicks = count > 1 ? atoi(words[1]) : 1'000'000;
  const rlimit none = {.rlim_cur = 0, .rlim_max = 0};
  if (count > 2 && setrlimit(RLIMIT_SIGPENDING, &none) != 0) return 3;
  if (node_kvm::InstallKick() != 0) return 2;
  std::vector<std::thread> kickers;
  for (uint32_t vcpu = 0; vcpu < 2; ++vcpu) kickers.emplace_back(KickOne, kicks / 2, vcpu);
  kickers.emplace_back(WakeOne, kicks / 10, 2);
  for (std::thread& kicker : kickers) kicker.join();
  printf("%d kicks\n", kicks);
  return 0;
}
