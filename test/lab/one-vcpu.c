// The program of exec.test.ts: one vCPU in real mode adds two numbers and writes the sum to a port.
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

int main(void) {
  /* mov, add, out, hlt */
  static const unsigned char code[] = {0xb0, 40, 0x04, 2, 0xe6, 0x10, 0xf4};
  int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
  void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memcpy(page, code, sizeof code);
  struct kvm_userspace_memory_region region = {0, 0, 0x1000, 4096, (unsigned long)page};
  if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region)) return 1;
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  struct kvm_run *run =
      mmap(0, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  struct kvm_sregs sregs;
  ioctl(vcpu, KVM_GET_SREGS, &sregs);
  sregs.cs.base = sregs.cs.selector = 0;
  ioctl(vcpu, KVM_SET_SREGS, &sregs);
  struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
  ioctl(vcpu, KVM_SET_REGS, &regs);
  if (ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO) return 2;
  return *((unsigned char *)run + run->io.data_offset);
}
