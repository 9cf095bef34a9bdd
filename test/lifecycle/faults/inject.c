// Makes one chosen call of the addon fail. The library replaces each function that node_kvm.node
// imports by a thunk, which counts the calls and fails the n-th call. Only the addon's global
// offset table is changed, so Node's own calls are not affected. A preloaded library cannot replace
// napi_* and uv_*, because the dynamic linker searches Node's executable first. calls.js lists the
// calls and their errnos. The library is for tests on x86-64 Linux only.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// The declarations of Node-API that this file uses; node_api.h may not be installed.
typedef struct napi_env__* napi_env;
typedef struct napi_value__* napi_value;
typedef struct napi_callback_info__* napi_callback_info;
int napi_create_function(napi_env, const char*, size_t,
                         napi_value (*)(napi_env, napi_callback_info), void*, napi_value*);
int napi_set_named_property(napi_env, napi_value, const char*, napi_value);
int napi_get_cb_info(napi_env, napi_callback_info, size_t*, napi_value*, napi_value*, void**);
int napi_get_value_string_utf8(napi_env, napi_value, char*, size_t, size_t*);
int napi_get_value_int32(napi_env, napi_value, int32_t*);
int napi_create_int32(napi_env, int32_t, napi_value*);
int napi_create_array(napi_env, napi_value*);
int napi_create_string_utf8(napi_env, const char*, size_t, napi_value*);
int napi_set_element(napi_env, napi_value, uint32_t, napi_value);
int napi_throw_error(napi_env, const char*, const char*);

enum { kMostCalls = 256, kThunkBytes = 24, kFirstRealTimeSignal = 32 };

// How a call reports a failure.
enum Form { kErrno = 0, kReturned = 1, kNegated = 2 };

struct Call {
  char name[64];
  void* real;
  int number;  // the system call's number if it is made with syscall(); otherwise -1
  int reached;
  int failed;
};

static struct Call calls[kMostCalls];
static int call_count;
static uint8_t* thunks;

static struct {
  int call;  // -1: none
  int nth;   // from 1
  int always;
  int error;
  int form;
} armed = {-1, 0, 0, 0, 0};

struct Decision {
  void* target;  // null: the call fails
  long result;
};

static int IndexOf(const char* name) {
  for (int i = 0; i < call_count; ++i) {
    if (strcmp(calls[i].name, name) == 0) return i;
  }
  if (call_count == kMostCalls) return -1;
  strncpy(calls[call_count].name, name, sizeof(calls[0].name) - 1);
  calls[call_count].number = -1;
  return call_count++;
}

// Every thunk calls this function with the call's index and its first six arguments, also in a
// signal handler.
__attribute__((visibility("hidden"))) struct Decision node_kvm_decide(int index,
                                                                      const long* arguments) {
  struct Decision pass = {calls[index].real, 0};
  if (strcmp(calls[index].name, "syscall") == 0) {
    for (int i = 0; i < call_count; ++i) {
      if (calls[i].number == arguments[0]) index = i;
    }
  }
  // Only a real-time signal can fail with EAGAIN, because a standard signal needs no slot in the
  // signal queue.
  if (calls[index].number == SYS_tgkill && arguments[3] < kFirstRealTimeSignal) return pass;
  const int nth = __atomic_add_fetch(&calls[index].reached, 1, __ATOMIC_SEQ_CST);
  if (armed.call != index || !(nth == armed.nth || (armed.always && nth > armed.nth))) return pass;
  __atomic_add_fetch(&calls[index].failed, 1, __ATOMIC_SEQ_CST);
  // Linux frees the descriptor before it reports an error.
  if (strcmp(calls[index].name, "close") == 0) close((int)arguments[0]);
  struct Decision fail = {0, -1};
  switch (armed.form) {
    case kErrno:
      errno = armed.error;
      break;
    case kReturned:
      fail.result = armed.error;
      break;
    case kNegated:
      fail.result = -armed.error;
      break;
  }
  return fail;
}

// EAX contains the index; all argument registers and the stack are the caller's.
__asm__(
    ".pushsection .text\n"
    ".type node_kvm_enter, @function\n"
    "node_kvm_enter:\n"
    "  push %r9\n  push %r8\n  push %rcx\n  push %rdx\n  push %rsi\n  push %rdi\n"
    "  sub $24, %rsp\n"
    "  movsd %xmm0, (%rsp)\n"
    "  mov %eax, %edi\n"
    "  lea 24(%rsp), %rsi\n"
    "  call node_kvm_decide\n"
    "  movsd (%rsp), %xmm0\n"
    "  add $24, %rsp\n"
    "  mov %rax, %r11\n"
    "  mov %rdx, %rax\n"
    "  pop %rdi\n  pop %rsi\n  pop %rdx\n  pop %rcx\n  pop %r8\n  pop %r9\n"
    "  test %r11, %r11\n"
    "  jz 1f\n"
    "  xor %eax, %eax\n"
    "  jmp *%r11\n"
    "1: ret\n"
    ".popsection\n");
extern void node_kvm_enter(void) __attribute__((visibility("hidden")));

// mov $index, %eax; movabs $node_kvm_enter, %r11; jmp *%r11
static void* MakeThunk(int index) {
  uint8_t* code = thunks + index * kThunkBytes;
  const uint64_t enter = (uint64_t)(uintptr_t)&node_kvm_enter;
  const int32_t immediate = index;
  code[0] = 0xb8;
  memcpy(code + 1, &immediate, 4);
  code[5] = 0x49;
  code[6] = 0xbb;
  memcpy(code + 7, &enter, 8);
  code[15] = 0x41;
  code[16] = 0xff;
  code[17] = 0xe3;
  return code;
}

static char wanted[8192];  // "\nname\nname\n"

static int IsWanted(const char* name) {
  char line[80];
  snprintf(line, sizeof(line), "\n%s\n", name);
  return strstr(wanted, line) != NULL;
}

static void Replace(struct link_map* map, const Elf64_Rela* relocations, size_t bytes,
                    const Elf64_Sym* symbols, const char* strings) {
  for (size_t i = 0; i < bytes / sizeof(Elf64_Rela); ++i) {
    const uint64_t type = ELF64_R_TYPE(relocations[i].r_info);
    if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) continue;
    const Elf64_Sym* symbol = &symbols[ELF64_R_SYM(relocations[i].r_info)];
    const char* name = strings + symbol->st_name;
    if (symbol->st_shndx != SHN_UNDEF || ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT) continue;
    if (!IsWanted(name)) continue;
    void** slot = (void**)(map->l_addr + relocations[i].r_offset);
    void* real = dlsym(RTLD_DEFAULT, name);
    const int index = real == NULL ? -1 : IndexOf(name);
    if (index < 0) continue;
    calls[index].real = real;
    const uintptr_t page = (uintptr_t)slot & ~4095UL;
    if (mprotect((void*)page, 8192, PROT_READ | PROT_WRITE) != 0 &&
        mprotect((void*)page, 4096, PROT_READ | PROT_WRITE) != 0) {
      continue;
    }
    *slot = MakeThunk(index);
  }
}

// install(path, wanted) loads the addon and replaces the imports that `wanted` lists, each between
// newlines. It returns the names of the calls; the functions below use the indices of these names.
static napi_value Install(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value given[2] = {NULL};
  char path[4096] = "";
  napi_get_cb_info(env, info, &count, given, NULL, NULL);
  napi_get_value_string_utf8(env, given[0], path, sizeof(path), NULL);
  napi_get_value_string_utf8(env, given[1], wanted, sizeof(wanted), NULL);
  void* handle = dlopen(path, RTLD_NOW);
  struct link_map* map = NULL;
  thunks = mmap(NULL, kMostCalls * kThunkBytes, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (handle == NULL || thunks == MAP_FAILED || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) {
    napi_throw_error(env, NULL,
                     handle == NULL ? dlerror() : "the addon's link map is not available");
    return NULL;
  }
  const Elf64_Rela* plt = NULL;
  const Elf64_Rela* rela = NULL;
  const Elf64_Sym* symbols = NULL;
  const char* strings = NULL;
  size_t plt_bytes = 0;
  size_t rela_bytes = 0;
  for (const Elf64_Dyn* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_JMPREL) plt = (const void*)entry->d_un.d_ptr;
    if (entry->d_tag == DT_RELA) rela = (const void*)entry->d_un.d_ptr;
    if (entry->d_tag == DT_SYMTAB) symbols = (const void*)entry->d_un.d_ptr;
    if (entry->d_tag == DT_STRTAB) strings = (const void*)entry->d_un.d_ptr;
    if (entry->d_tag == DT_PLTRELSZ) plt_bytes = entry->d_un.d_val;
    if (entry->d_tag == DT_RELASZ) rela_bytes = entry->d_un.d_val;
  }
  static const struct {
    const char* name;
    int number;
  } by_number[] = {{"tgkill", SYS_tgkill},
                   {"gettid", SYS_gettid},
                   {"arch_prctl", SYS_arch_prctl},
                   {"raw mmap", SYS_mmap}};
  for (size_t i = 0; i < sizeof(by_number) / sizeof(by_number[0]); ++i) {
    calls[IndexOf(by_number[i].name)].number = by_number[i].number;
  }
  Replace(map, plt, plt_bytes, symbols, strings);
  Replace(map, rela, rela_bytes, symbols, strings);
  napi_value names = NULL;
  napi_create_array(env, &names);
  for (int i = 0; i < call_count; ++i) {
    napi_value name = NULL;
    napi_create_string_utf8(env, calls[i].name, strlen(calls[i].name), &name);
    napi_set_element(env, names, (uint32_t)i, name);
  }
  return names;
}

// arm(index, nth, isAlways, error, form) selects the call that fails and starts counting at zero;
// with an index of -1, no call fails.
static napi_value Arm(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value given[5] = {NULL};
  int32_t numbers[5] = {-1, 0, 0, 0, 0};
  napi_get_cb_info(env, info, &count, given, NULL, NULL);
  for (size_t i = 0; i < count && i < 5; ++i) napi_get_value_int32(env, given[i], &numbers[i]);
  armed.call = -1;
  for (int i = 0; i < call_count; ++i) calls[i].reached = calls[i].failed = 0;
  armed.nth = numbers[1];
  armed.always = numbers[2];
  armed.error = numbers[3];
  armed.form = numbers[4];
  armed.call = numbers[0];
  return NULL;
}

static napi_value Numbers(napi_env env, size_t offset) {
  napi_value list = NULL;
  napi_create_array(env, &list);
  for (int i = 0; i < call_count; ++i) {
    napi_value number = NULL;
    napi_create_int32(env, *(const int*)((const char*)&calls[i] + offset), &number);
    napi_set_element(env, list, (uint32_t)i, number);
  }
  return list;
}

// reached() and failed() return the number of times that each call was made, or failed, since
// arm().
static napi_value Reached(napi_env env, napi_callback_info info) {
  (void)info;
  return Numbers(env, offsetof(struct Call, reached));
}

static napi_value Failed(napi_env env, napi_callback_info info) {
  (void)info;
  return Numbers(env, offsetof(struct Call, failed));
}

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env,
                                                                          napi_value exports) {
  static const struct {
    const char* name;
    napi_value (*function)(napi_env, napi_callback_info);
  } functions[] = {{"install", Install}, {"arm", Arm}, {"reached", Reached}, {"failed", Failed}};
  for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); ++i) {
    napi_value function = NULL;
    napi_create_function(env, functions[i].name, strlen(functions[i].name), functions[i].function,
                         NULL, &function);
    napi_set_named_property(env, exports, functions[i].name, function);
  }
  return exports;
}
