#include "bus_error.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <mutex>

#include "handler_state.h"

namespace node_kvm {

// The watched ranges are written under a lock, and the signal handler reads them without the lock.
// The range that a thread accesses does not change during the access, because the accessing code
// owns a reference to the range. A range that changes is therefore not the accessed range, and the
// handler skips it.
struct WatchedRange {
  std::atomic<uint32_t> version = 0;  // the version is odd while the range changes
  std::atomic<uintptr_t> start = 0;
  std::atomic<size_t> size = 0;  // 0: free
  std::atomic<size_t> page_size = 0;
  std::atomic<uint32_t> lost = 0;
};

namespace {

// The number of pages per range that the handler replaces one by one; after this number, it
// replaces all following pages at once. The kernel allows a process 65530 mappings, and each
// replaced page needs two mappings.
constexpr uint32_t kLonePages = 1024;

// The list grows by whole chunks. Chunks are reused but never freed, because the handler may be
// reading them.
struct Chunk {
  WatchedRange ranges[64];
  std::atomic<Chunk*> next = nullptr;
};

Chunk first_chunk;
std::mutex writers;
// The SIGBUS handler that was installed before the handler of this file. The previous handler's
// data is never freed, because the handler of this file may be reading it.
std::atomic<const struct sigaction*> previous = nullptr;
// Whether this thread is in the previous handler. The previous handler may call the handler of this
// file again, as the handler of another copy of this addon does.
NODE_KVM_HANDLER_STATE bool is_passing_on = false;

struct Found {
  WatchedRange* range = nullptr;
  uintptr_t start = 0;
  size_t size = 0;
  size_t page_size = 0;
};

// This function only reads shared variables and takes no lock, because it runs inside the signal
// handler.
Found Find(uintptr_t address) {
  for (Chunk* chunk = &first_chunk; chunk != nullptr; chunk = chunk->next) {
    for (WatchedRange& range : chunk->ranges) {
      const uint32_t version = range.version;
      const Found found{&range, range.start, range.size, range.page_size};
      if (version % 2 != 0 || version != range.version) continue;
      if (address - found.start < found.size) return found;
    }
  }
  return {};
}

// The system call is made directly, because the mmap function of a sanitizer takes locks.
bool MapZeros(uintptr_t start, size_t size) {
  return syscall(SYS_mmap, start, size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) >= 0;
}

bool Replace(uintptr_t address) {
  const Found found = Find(address);
  if (found.range == nullptr) return false;
  const uintptr_t page = address & ~(found.page_size - 1);
  const bool is_lone = found.range->lost.fetch_add(1) < kLonePages;
  if (is_lone && MapZeros(page, found.page_size)) return true;
  return MapZeros(page, found.start + found.size - page);
}

// Passes a SIGBUS at another address to the previous handler.
void PassOn(int signal, siginfo_t* info, void* context) {
  const struct sigaction* action = previous;
  const bool is_touch = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
  const bool has_handler = (action->sa_flags & SA_SIGINFO) != 0 ||
                           (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
  if (has_handler && !is_passing_on) {
    is_passing_on = true;
    if ((action->sa_flags & SA_SIGINFO) != 0) {
      action->sa_sigaction(signal, info, context);
    } else {
      action->sa_handler(signal);
    }
    is_passing_on = false;
    return;
  }
  if (!is_touch && action->sa_handler == SIG_IGN) return;
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  // Without the default action, the same fault would repeat forever.
  if (sigaction(SIGBUS, &by_default, nullptr) != 0) abort();
  // When the handler returns, the access is repeated and kills the process, and the core dump
  // contains the faulting address.
  if (!is_touch && raise(signal) != 0) abort();
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  // si_code is greater than 0 if the kernel has sent the signal; a signal from kill() has no
  // address.
  const bool is_ours = info->si_code > 0 && Replace(reinterpret_cast<uintptr_t>(info->si_addr));
  if (!is_ours) PassOn(signal, info, context);
  errno = saved;
}

WatchedRange* FreeRange() {
  Chunk* chunk = &first_chunk;
  for (;;) {
    for (WatchedRange& range : chunk->ranges) {
      if (range.size == 0) return &range;
    }
    if (chunk->next == nullptr) chunk->next = new Chunk;
    chunk = chunk->next;
  }
}

void Write(WatchedRange* range, uintptr_t start, size_t size, size_t page_size) {
  ++range->version;
  range->start = start;
  range->size = size;
  range->page_size = page_size;
  range->lost = 0;
  ++range->version;
}

}  // namespace

BusWatch::BusWatch(const uint8_t* data, size_t size, size_t page_size) {
  const std::lock_guard lock(writers);
  range_ = FreeRange();
  Write(range_, reinterpret_cast<uintptr_t>(data), size, page_size);
}

BusWatch::~BusWatch() {
  const std::lock_guard lock(writers);
  Write(range_, 0, 0, 0);
}

bool BusWatch::HasLostPages() const { return range_->lost != 0; }

int KeepBusHandler() {
  const std::lock_guard lock(writers);
  struct sigaction current = {};
  if (sigaction(SIGBUS, nullptr, &current) != 0) return -errno;
  if (current.sa_sigaction == OnBusError) return 0;
  const struct sigaction* known = previous;
  if (known == nullptr || known->sa_sigaction != current.sa_sigaction) {
    previous = new struct sigaction(current);
  }
  struct sigaction ours = {};
  ours.sa_sigaction = OnBusError;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&ours.sa_mask);
  return sigaction(SIGBUS, &ours, nullptr) == 0 ? 0 : -errno;
}

}  // namespace node_kvm
