/*
 * The yardstick: runs the same guest with the same calls as the JavaScript side, in C. The program
 * only measures; the JavaScript files of this folder choose the commands and evaluate the results.
 *
 * Reads lines `WORD ARGUMENT...` on stdin. For each line, prints `NANOSECONDS OPERATIONS`, or
 * `error TEXT`. The program needs only the kernel's headers:
 *
 *   cc -O2 -static -Wall -Werror -pthread -o yardstick yardstick.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define MOST_PIECES 64
#define MOST_MACHINES 2048
/* The kernel's KVM_COALESCED_MMIO_MAX. */
#define RING_ENTRIES \
  ((PAGE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))

struct machine {
  int vm;
  int vcpu;
  uint8_t *memory;
  struct kvm_run *run;
};

struct piece {
  uint64_t gpa;
  uint8_t *bytes;
  size_t length;
};

static int kvm = -1;
static size_t run_size;
/* The commands measure the last machine. */
static struct machine machines[MOST_MACHINES];
static size_t machine_count;
/* The contents of every machine. */
static size_t memory_size;
static struct piece pieces[MOST_PIECES];
static size_t piece_count;
static struct kvm_cpuid2 *cpuid;
static struct kvm_sregs *sregs;
static struct kvm_regs *regs;
/* The time that a command has measured itself; if negative, the whole duration is the result. */
static int64_t spent;
/* Stores the values that were read; the compiler then does not remove the reads. */
static volatile uint64_t sink;
static jmp_buf next_line;

static void refuse(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("error ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  longjmp(next_line, 1);
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int call(int fd, unsigned long request, const char *name, void *argument) {
  const int answer = ioctl(fd, request, argument);
  if (answer < 0) refuse("%s: %s", name, strerror(errno));
  return answer;
}
#define CALL(fd, request, argument) call(fd, request, #request, (void *)(argument))

static struct machine *last(void) {
  if (machine_count == 0) refuse("there is no VM yet");
  return &machines[machine_count - 1];
}

/* Makes the calls of the JavaScript side's Sandbox, in the same order. */
static void make(struct machine *made) {
  made->memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made->memory == MAP_FAILED) refuse("mmap: %s", strerror(errno));
  made->vm = CALL(kvm, KVM_CREATE_VM, 0);
  struct kvm_userspace_memory_region region = {.memory_size = memory_size,
                                               .userspace_addr = (uintptr_t)made->memory};
  CALL(made->vm, KVM_SET_USER_MEMORY_REGION, &region);
  made->vcpu = CALL(made->vm, KVM_CREATE_VCPU, 0);
  made->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, made->vcpu, 0);
  if (made->run == MAP_FAILED) refuse("mmap of the vCPU: %s", strerror(errno));
  CALL(made->vcpu, KVM_SET_CPUID2, cpuid);
  for (size_t i = 0; i < piece_count; i++)
    memcpy(made->memory + pieces[i].gpa, pieces[i].bytes, pieces[i].length);
  struct kvm_sregs before;
  CALL(made->vcpu, KVM_GET_SREGS, &before);
  CALL(made->vcpu, KVM_SET_SREGS, sregs);
  CALL(made->vcpu, KVM_SET_REGS, regs);
}

static void unmake(struct machine *made) {
  munmap(made->run, run_size);
  close(made->vcpu);
  close(made->vm);
  munmap(made->memory, memory_size);
}

/* Does the minimum that each VMM does for an exit: checks the exit reason and reads the value. */
static uint64_t value_of_exit(const struct kvm_run *run) {
  switch (run->exit_reason) {
    case KVM_EXIT_IO:
      return *((const uint8_t *)run + run->io.data_offset);
    case KVM_EXIT_MMIO:
      return run->mmio.data[0];
    case KVM_EXIT_HLT:
      return 1;
  }
  refuse("the guest left with exit reason %u", run->exit_reason);
  return 0;
}

static void step(struct machine *one) {
  if (ioctl(one->vcpu, KVM_RUN, 0) < 0) refuse("KVM_RUN: %s", strerror(errno));
  sink += value_of_exit(one->run);
}

static long loop(long n, void (*beside)(struct machine *)) {
  struct machine *one = last();
  for (long i = 0; i < n; i++) {
    step(one);
    if (beside != NULL) beside(one);
  }
  return n;
}

static long do_run(long n) { return loop(n, NULL); }

static void read_registers(struct machine *one) {
  struct kvm_regs read;
  CALL(one->vcpu, KVM_GET_REGS, &read);
  sink += read.rax;
}

static void read_synchronised(struct machine *one) { sink += one->run->s.regs.regs.rax; }

static long do_run_getregs(long n) { return loop(n, read_registers); }

static long do_run_sync_regs(long n) {
  last()->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
  loop(n, read_synchronised);
  last()->run->kvm_valid_regs = 0;
  return n;
}

/* Touches 32 pages between two exits; an emulated CPU walks the page tables for each page again. */
static void look_around(struct machine *one) {
  static volatile uint8_t pages[32][PAGE];
  for (size_t i = 0; i < 32; i++) sink += pages[i][one->run->exit_reason];
}

static long do_run_pages(long n) { return loop(n, look_around); }

static long do_immediate(long n) {
  struct machine *one = last();
  one->run->immediate_exit = 1;
  for (long i = 0; i < n; i++)
    if (ioctl(one->vcpu, KVM_RUN, 0) != -1 || errno != EINTR) refuse("KVM_RUN: no EINTR");
  one->run->immediate_exit = 0;
  return n;
}

static long do_getregs(long n) {
  for (long i = 0; i < n; i++) read_registers(last());
  return n;
}

static long do_setregs(long n) {
  struct kvm_regs read;
  CALL(last()->vcpu, KVM_GET_REGS, &read);
  for (long i = 0; i < n; i++) CALL(last()->vcpu, KVM_SET_REGS, &read);
  return n;
}

static long do_setcpuid(long n) {
  for (long i = 0; i < n; i++) CALL(last()->vcpu, KVM_SET_CPUID2, cpuid);
  return n;
}

static long drain(struct kvm_coalesced_mmio_ring *ring) {
  long count = 0;
  while (ring->first != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
    const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[ring->first];
    sink += entry->phys_addr + entry->data[0];
    __atomic_store_n(&ring->first, (ring->first + 1) % RING_ENTRIES, __ATOMIC_RELEASE);
    count++;
  }
  return count;
}

/* Counts writes: the writes in the ring, and the write that did not fit into the ring. */
static long do_coalesced(long n) {
  struct machine *one = last();
  struct kvm_coalesced_mmio_ring *ring =
      (void *)((uint8_t *)one->run + KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE);
  long count = 0;
  while (count < n) {
    step(one);
    count += drain(ring) + 1;
  }
  return count;
}

/* Collects a port's writes in a ring, like the exit filter between KVM_RUN and JavaScript. */
static long do_collect(long n) {
  struct machine *one = last();
  static uint8_t page[PAGE] __attribute__((aligned(PAGE)));
  struct kvm_coalesced_mmio_ring *ring = (void *)page;
  for (long count = 0; count < n;) {
    step(one);
    const struct kvm_run *run = one->run;
    struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[ring->last];
    entry->phys_addr = run->io.port;
    entry->len = run->io.size;
    entry->pio = 1;
    memcpy(entry->data, (const uint8_t *)run + run->io.data_offset, run->io.size);
    ring->last = (ring->last + 1) % RING_ENTRIES;
    if (++count % (RING_ENTRIES - 1) == 0 || count == n) drain(ring);
  }
  return n;
}

static long do_life(long n) {
  for (long i = 0; i < n; i++) {
    struct machine one;
    make(&one);
    step(&one);
    unmake(&one);
  }
  return n;
}

static long do_make(long n) {
  for (long i = 0; i < n; i++) {
    if (machine_count == MOST_MACHINES) refuse("too many VMs");
    make(&machines[machine_count]);
    machine_count++;
  }
  return n;
}

/* Creates VMs, runs each once, and keeps them open. */
static long do_hold(long n) {
  for (long i = 0; i < n; i++) {
    do_make(1);
    do_run(1);
  }
  return n;
}

static long do_drop(long n) {
  while (machine_count > 0) unmake(&machines[--machine_count]);
  return n;
}

static sem_t go, stopped;

static void no_handler(int number) { (void)number; }

static void *spin(void *nothing) {
  for (;;) {
    while (sem_wait(&go) != 0) continue;
    while (ioctl(last()->vcpu, KVM_RUN, 0) == 0) continue;
    sem_post(&stopped);
  }
  return nothing;
}

/* Measures from the kick until this thread sees that KVM_RUN, which only a kick ends, has returned.
 */
static long do_kick(long n) {
  static pthread_t thread;
  if (thread == 0) {
    const struct sigaction action = {.sa_handler = no_handler};
    sigaction(SIGUSR1, &action, NULL);
    sem_init(&go, 0, 0);
    sem_init(&stopped, 0, 0);
    if (pthread_create(&thread, NULL, spin, NULL) != 0) refuse("pthread_create");
  }
  struct machine *one = last();
  const struct timespec millisecond = {.tv_nsec = 1000000};
  spent = 0;
  for (long i = 0; i < n; i++) {
    sem_post(&go);
    nanosleep(&millisecond, NULL);
    const int64_t start = now();
    one->run->immediate_exit = 1;
    pthread_kill(thread, SIGUSR1);
    while (sem_wait(&stopped) != 0) continue;
    spent += now() - start;
    one->run->immediate_exit = 0;
  }
  return n;
}

static sem_t wanted;
static int ended = -1;

static void *run_wanted(void *nothing) {
  for (;;) {
    while (sem_wait(&wanted) != 0) continue;
    const int answer = ioctl(last()->vcpu, KVM_RUN, 0);
    /* The other thread finds a wrong exit reason after an error. */
    if (answer < 0) last()->run->exit_reason = (uint32_t)-1;
    if (eventfd_write(ended, 1) != 0) abort();
  }
  return nothing;
}

/* Runs the vCPU on another thread, as a VMM with an event loop does: epoll reports the end of each
 * run. */
static long do_run_apart(long n) {
  static pthread_t thread;
  static int loop_fd;
  if (thread == 0) {
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event wish = {.events = EPOLLIN};
    if (loop_fd < 0 || ended < 0 || epoll_ctl(loop_fd, EPOLL_CTL_ADD, ended, &wish) != 0)
      refuse("epoll: %s", strerror(errno));
    sem_init(&wanted, 0, 0);
    if (pthread_create(&thread, NULL, run_wanted, NULL) != 0) refuse("pthread_create");
  }
  struct machine *one = last();
  for (long i = 0; i < n; i++) {
    struct epoll_event found;
    eventfd_t count;
    sem_post(&wanted);
    while (epoll_wait(loop_fd, &found, 1, -1) != 1) continue;
    if (eventfd_read(ended, &count) != 0) refuse("eventfd_read: %s", strerror(errno));
    sink += value_of_exit(one->run);
  }
  return n;
}

static void *bytes_of(const char *hex, size_t least, size_t *found) {
  const size_t length = strlen(hex) / 2;
  uint8_t *bytes = malloc(length);
  if (bytes == NULL || length < least) refuse("no memory, or too few bytes");
  for (size_t i = 0; i < length; i++) {
    const char digits[] = {hex[2 * i], hex[2 * i + 1], 0};
    bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
  }
  if (found != NULL) *found = length;
  return bytes;
}

static void load(char *rest) {
  if (piece_count == MOST_PIECES) refuse("too many pieces");
  struct piece *piece = &pieces[piece_count];
  char *hex;
  piece->gpa = strtoull(rest, &hex, 0);
  piece->bytes = bytes_of(hex + strspn(hex, " "), 0, &piece->length);
  if (piece->gpa + piece->length > memory_size) refuse("a piece beyond the memory");
  piece_count++;
}

static void coalesce(char *rest) {
  struct kvm_coalesced_mmio_zone zone = {0};
  zone.addr = strtoull(rest, &rest, 0);
  zone.size = (uint32_t)strtoul(rest, &rest, 0);
  zone.pio = (uint32_t)strtoul(rest, NULL, 0);
  CALL(last()->vm, KVM_REGISTER_COALESCED_MMIO, &zone);
}

static void set_memory(char *rest) { memory_size = strtoul(rest, NULL, 0); }
static void set_cpuid(char *rest) { cpuid = bytes_of(rest, sizeof(*cpuid), NULL); }
static void set_sregs(char *rest) { sregs = bytes_of(rest, sizeof(*sregs), NULL); }
static void set_regs(char *rest) { regs = bytes_of(rest, sizeof(*regs), NULL); }

static const struct {
  const char *name;
  void (*prepare)(char *rest);
  long (*measure)(long n);
} commands[] = {{"memory", set_memory, NULL},
                {"load", load, NULL},
                {"cpuid", set_cpuid, NULL},
                {"sregs", set_sregs, NULL},
                {"regs", set_regs, NULL},
                {"coalesce", coalesce, NULL},
                {"make", NULL, do_make},
                {"run", NULL, do_run},
                {"run-apart", NULL, do_run_apart},
                {"run-getregs", NULL, do_run_getregs},
                {"run-sync-regs", NULL, do_run_sync_regs},
                {"run-pages", NULL, do_run_pages},
                {"immediate", NULL, do_immediate},
                {"getregs", NULL, do_getregs},
                {"setregs", NULL, do_setregs},
                {"setcpuid", NULL, do_setcpuid},
                {"coalesced", NULL, do_coalesced},
                {"collect", NULL, do_collect},
                {"life", NULL, do_life},
                {"hold", NULL, do_hold},
                {"drop", NULL, do_drop},
                {"kick", NULL, do_kick}};

static long obey(const char *word, char *rest) {
  for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
    if (strcmp(word, commands[i].name) != 0) continue;
    if (commands[i].measure != NULL) return commands[i].measure(atol(rest));
    commands[i].prepare(rest);
    return 0;
  }
  refuse("no command %s", word);
  return 0;
}

int main(void) {
  static char *line;
  static size_t room;
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *device = getenv("NODE_KVM_DEVICE");
  kvm = open(device == NULL ? "/dev/kvm" : device, O_RDWR | O_CLOEXEC);
  if (kvm >= 0) run_size = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  setjmp(next_line);
  while (getline(&line, &room, stdin) > 0) {
    char *rest = line;
    const char *word = strsep(&rest, " \n");
    if (rest == NULL) rest = "";
    rest[strcspn(rest, "\n")] = 0;
    if (kvm < 0) refuse("the device cannot be opened");
    spent = -1;
    const int64_t start = now();
    const long operations = obey(word, rest);
    const int64_t end = now();
    printf("%lld %ld\n", (long long)(spent < 0 ? end - start : spent), operations);
  }
  return 0;
}
