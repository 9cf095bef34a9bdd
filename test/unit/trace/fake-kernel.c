// The fake kernel of export-c.test.ts: it returns the results that are recorded there, except for
// the call that FAKE names.
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int is(const char *what) {
  const char *fake = getenv("FAKE");
  return fake && !strcmp(fake, what);
}

static unsigned char *memory;
static struct kvm_run *run;

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
  (void)flags;
  if (is("no-kvm") || strncmp(path, "/nowhere/", 9) == 0) {
    errno = ENOENT;
    return -1;
  }
  return 100;
}

void *__real_mmap(void *, size_t, int, int, int, long);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, long offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, long offset) {
  if (fd == -1) return __real_mmap(at, size, protection, flags, fd, offset);
  run = __real_mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return run;
}

int __wrap_close(int fd);
int __wrap_close(int fd) {
  (void)fd;
  return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  unsigned long argument = va_arg(list, unsigned long);
  va_end(list);
  switch (request) {
    case KVM_GET_API_VERSION:
      return 12;
    case KVM_CHECK_EXTENSION:
      return is("capability") ? 0 : 4096;
    case KVM_GET_VCPU_MMAP_SIZE:
      return 12288;
    case KVM_CREATE_VM:
      return 101;
    case KVM_CREATE_VCPU:
      if (is("no-vcpu")) {
        errno = EEXIST;
        return -1;
      }
      return 102;
    case KVM_SET_USER_MEMORY_REGION:
      memory = (unsigned char *)(unsigned long)((struct kvm_userspace_memory_region *)argument)
                   ->userspace_addr;
      return memory[0] == 0 && fd == 101 ? 0 : 7;
    case KVM_SET_CPUID2: {
      struct kvm_cpuid2 *cpuid = (void *)argument;
      if (is("accepts") || cpuid->entries[0].eax != 0xd) return 0;
      errno = is("errno") ? EPERM : EINVAL;
      return -1;
    }
    case KVM_GET_SREGS: {
      struct kvm_sregs *sregs = (void *)argument;
      sregs->cr0 = 0x60000010;
      sregs->cs.selector = is("selector") ? 8 : 0xf000;
      return 0;
    }
    case KVM_GET_MSRS: {
      struct kvm_msrs *msrs = (void *)argument;
      msrs->entries[0].data = is("tsc") ? 2 : 1;
      msrs->entries[1].data = is("efer") ? 2 : 1;
      return 2;
    }
    case KVM_RUN:
      if (run->immediate_exit) {
        errno = EINTR;
        return -1;
      }
      run->exit_reason = is("shutdown") ? KVM_EXIT_SHUTDOWN : KVM_EXIT_MMIO;
      run->mmio.phys_addr = 0xc0000000;
      run->mmio.len = 4;
      run->mmio.is_write = 1;
      run->mmio.data[0] = is("data") ? 0x5b : 0x5a;
      memory[0x2008] = is("guest") ? 8 : 7;
      return memory[0x1000] == 0xf4 ? 0 : -1;
  }
  errno = ENOTTY;
  return -1;
}
