/**
 * The C functions for exported files; prelude.ts copies those functions that an exported file uses.
 *
 * "// part: name()" begins a part that is copied if the file calls name, "// part: name" one that is
 * copied if the file contains the word. A part uses only earlier parts. Lines of "//" are not copied.
 * prelude.ts replaces names that begin with FILL_ by values of the file, and keeps the lines of
 * #ifdef USES_name only if the file contains the name.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#define RECORDED_KERNEL "6.1.0"
#define RECORDED_CPU "the recorded CPU"
#define FILL_ARGUMENT_BYTES 8
#define FILL_TIMEOUT 120
#define FILL_SAME "ok a claim # every value is as recorded"
#define FILL_OTHER "not ok a claim # %d values are not as recorded\n"
#define USES_about_host

// part: ARGUMENT_BYTES
/* The longest argument of a call below. */
#define ARGUMENT_BYTES FILL_ARGUMENT_BYTES

// part: differences
/* The number of answers that differ from the recording. */
static int differences;

// part: is_same_host()
/* Whether this is the kernel and the CPU that were recorded. */
static int is_same_host(void)
{
	static int known = -1;
	struct utsname system;
	char line[256];
	FILE *cpuinfo;

	if (known >= 0)
		return known;
	known = uname(&system) == 0 && strcmp(system.release, RECORDED_KERNEL) == 0;
	cpuinfo = fopen("/proc/cpuinfo", "r");
	while (cpuinfo && fgets(line, sizeof(line), cpuinfo)) {
		if (strncmp(line, "model name", 10) != 0)
			continue;
		line[strcspn(line, "\n")] = 0;
		known = known && strcmp(strchr(line, ':') + 2, RECORDED_CPU) == 0;
		break;
	}
	if (cpuinfo)
		fclose(cpuinfo);
	return known;
}

// part: about_host
/* Set while a result that describes the host is checked: it may differ on another host. */
static int about_host;

// part: differ()
/* Prints a difference from the recording; with a reason, the difference is allowed and not counted. */
static void __attribute__((format(printf, 3, 4))) differ(int step, const char *why, const char *format, ...)
{
	va_list arguments;

#ifdef USES_about_host
	if (!why && about_host && !is_same_host())
		why = "this is not the host that was recorded";
#endif
	printf("%s %d: ", why ? "note:" : "not as recorded:", step);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	if (why)
		printf(" (%s)", why);
	printf("\n");
	differences += !why;
}

// part: finish()
/* Prints the verdict as the last line, and returns the exit status. */
static int finish(void)
{
	if (differences == 0) {
		printf("%s\n", FILL_SAME);
		return 0;
	}
	printf(FILL_OTHER, differences);
	return 1;
}

// part: give_up()
/* Ends the program, because the following calls need this one. */
static void give_up(int step, const char *what, int error)
{
	differ(step, NULL, "%s: %s", what, strerror(error));
	exit(finish());
}

// part: too_late
/* The watchdog: a call does not return, for example because the guest diverged from the recording. */
static void too_late(int signal)
{
	static const char text[] = "not as recorded: a call has not returned for FILL_TIMEOUT seconds\n";

	(void)signal;
	if (write(1, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

// part: open_kvm()
/* Opens KVM. Without KVM the exit status is 2. */
static int open_kvm(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("no KVM: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		printf("no KVM: %s has no KVM API version %d\n", path, KVM_API_VERSION);
		exit(2);
	}
	return fd;
}

// part: call()
/*
 * Makes an ioctl; returns its result, or -errno. If a signal interrupts it, it is made again, except
 * KVM_RUN, whose EINTR is a result, and KVM_GET_TSC_KHZ, whose -EINTR may be a frequency.
 */
static long call(int fd, unsigned long request, unsigned long argument)
{
	long result;

	do
		result = ioctl(fd, request, argument);
	while (result < 0 && errno == EINTR && request != KVM_RUN && request != KVM_GET_TSC_KHZ);
	return result < 0 ? -errno : result;
}

// part: errno_name()
/* Returns the name of an errno. */
static const char *errno_name(long number)
{
	static const struct {
		int number;
		const char *name;
	} names[] = {
		// clang-format off
		{ EPERM, "-EPERM" }, { ENOENT, "-ENOENT" }, { EINTR, "-EINTR" }, { EIO, "-EIO" },
		{ ENXIO, "-ENXIO" }, { E2BIG, "-E2BIG" }, { EBADF, "-EBADF" }, { EAGAIN, "-EAGAIN" },
		{ ENOMEM, "-ENOMEM" }, { EACCES, "-EACCES" }, { EFAULT, "-EFAULT" }, { EBUSY, "-EBUSY" },
		{ EEXIST, "-EEXIST" }, { ENODEV, "-ENODEV" }, { EINVAL, "-EINVAL" }, { EMFILE, "-EMFILE" },
		{ ENOTTY, "-ENOTTY" }, { ENOSPC, "-ENOSPC" }, { ERANGE, "-ERANGE" }, { ENOSYS, "-ENOSYS" },
		{ EOPNOTSUPP, "-EOPNOTSUPP" }, { EHWPOISON, "-EHWPOISON" },
		// clang-format on
	};
	static char other[24];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].number == -number)
			return names[i].name;
	snprintf(other, sizeof(other), "%ld", number);
	return other;
}

// part: check_result()
/* Compares the result of a call. */
static void check_result(int step, const char *what, long result, long recorded)
{
	char got[24];

	if (result == recorded)
		return;
	snprintf(got, sizeof(got), "%s", errno_name(result));
	differ(step, NULL, "%s is %s, recorded %s", what, got, errno_name(recorded));
}

// part: CALL()
/* Makes an ioctl and compares its result. */
#define CALL(step, fd, request, argument, recorded) \
	check_result(step, #request " (" #fd ")", call(fd, request, (unsigned long)(argument)), recorded)

// part: create()
/* Makes an ioctl that returns a descriptor, which the following calls need. */
static int create(int step, const char *what, int fd, unsigned long request, unsigned long argument)
{
	long result = call(fd, request, argument);

	if (result < 0)
		give_up(step, what, -result);
	return result;
}

// part: CREATE()
#define CREATE(step, fd, request, argument) \
	create(step, #request " (" #fd ")", fd, request, (unsigned long)(argument))

// part: map_memory()
/* Maps zeroed memory for a guest. */
static unsigned char *map_memory(int step, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		give_up(step, "mmap", errno);
	return memory;
}

// part: map_file()
/* Maps a file as memory for a guest. */
static unsigned char *map_file(int step, int fd, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		give_up(step, "mmap", errno);
	return memory;
}

// part: open_file()
/* Opens a device that is passed to KVM. */
static int open_file(int step, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		give_up(step, path, errno);
	return fd;
}

// part: make_eventfd()
static int make_eventfd(int step, unsigned int count)
{
	int fd = eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		give_up(step, "eventfd", errno);
	return fd;
}

// part: read_counter()
/* Reads an eventfd's counter. It waits up to a second, because KVM may signal the eventfd late. */
static void read_counter(int step, const char *name, int fd, unsigned long long recorded, long result)
{
	struct pollfd ready = { fd, POLLIN, 0 };
	unsigned long long count = 0;
	long got;

	if (result == 0)
		poll(&ready, 1, 1000);
	got = read(fd, &count, sizeof(count)) < 0 ? -errno : 0;
	if (got != result)
		check_result(step, name, got, result);
	else if (count != recorded)
		differ(step, NULL, "%s: the counter is %llu, recorded %llu", name, count, recorded);
}

// part: write_counter()
static void write_counter(int step, const char *name, int fd, unsigned long long value, long result)
{
	check_result(step, name, write(fd, &value, sizeof(value)) < 0 ? -errno : 0, result);
}

// part: words()
/* Writes numbers of 64 bits that grow by `step`, such as page tables. */
static void words(unsigned char *at, size_t count, __u64 first, __u64 step)
{
	size_t i;

	for (i = 0; i < count; i++, first += step)
		memcpy(at + 8 * i, &first, 8);
}

// part: argument()
/*
 * Returns a buffer for an argument, which ends at an unmapped page, so that a count beyond its end causes
 * EFAULT. The first `header` bytes are zeros, the others are `fill`.
 */
static void *argument(size_t header, size_t rest, int fill)
{
	static unsigned char *end;
	size_t room = (ARGUMENT_BYTES + 4095) & ~4095UL;

	if (!end) {
		unsigned char *start = mmap(NULL, room + 4096, PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (start == MAP_FAILED || mprotect(start + room, 4096, PROT_NONE) != 0)
			give_up(0, "mmap", errno);
		end = start + room;
	}
	memset(end - header - rest, 0, header);
	memset(end - rest, fill, rest);
	return end - header - rest;
}

// part: recorded()
/* Returns a buffer for the recorded result. */
static void *recorded(size_t header, size_t rest, int fill)
{
	static unsigned char place[ARGUMENT_BYTES] __attribute__((aligned(8)));

	memset(place, 0, header);
	memset(place + header, fill, rest);
	return place;
}

// part: struct field
/* An integer of a struct, or an array of `count` integers. */
struct field {
	const char *name;
	unsigned int offset, size, count;
};
#define FIELD(type, member) \
	{ #member, offsetof(struct type, member), sizeof(((struct type *)0)->member), 1 }
#define ARRAY(type, member, size) \
	{ #member, offsetof(struct type, member), size, sizeof(((struct type *)0)->member) / (size) }

// part: struct shape
/* A struct: its fields, and those of each element of its tail. */
struct shape {
	size_t size;
	const struct field *fields;
	size_t field_count;
	const char *tail;
	size_t element_size;
	const struct field *element;
	size_t element_count;
};

// part: struct varying
/* Bits of a result that may differ from the recording. */
struct varying {
	size_t offset;
	unsigned long long mask;
	const char *why;
};

// part: load()
/* Reads an integer of `size` bytes. */
static unsigned long long load(const void *from, size_t size)
{
	unsigned long long value = 0;

	memcpy(&value, from, size);
	return value;
}

// part: check_fields()
/* Compares one struct, or one element, field by field. */
static void check_fields(int step, const char *what, const char *prefix, const struct field *fields,
			 size_t count, size_t base, const unsigned char *got,
			 const unsigned char *want, const struct varying *varying, size_t varyings)
{
	size_t i, j, k;

	for (i = 0; i < count; i++) {
		for (j = 0; j < fields[i].count; j++) {
			size_t at = base + fields[i].offset + j * fields[i].size;
			unsigned long long a = load(got + at, fields[i].size);
			unsigned long long b = load(want + at, fields[i].size);
			const char *why = NULL;
			char index[16] = "";

			if (a == b)
				continue;
			for (k = 0; k < varyings; k++)
				if (varying[k].offset == at && ((a ^ b) & ~varying[k].mask) == 0)
					why = varying[k].why;
			if (fields[i].count > 1)
				snprintf(index, sizeof(index), "[%zu]", j);
			differ(step, why, "%s: %s%s%s is 0x%llx, recorded 0x%llx", what, prefix,
			       fields[i].name, index, a, b);
		}
	}
}

// part: check_answer()
/* Compares the struct that a call wrote. */
static void check_answer(int step, const char *what, const struct shape *shape, size_t bytes,
			 const void *got, const void *want, const struct varying *varying,
			 size_t varyings)
{
	size_t i, at = shape->size;

	check_fields(step, what, "", shape->fields, shape->field_count, 0, got, want, varying, varyings);
	for (i = 0; shape->tail && at + shape->element_size <= bytes; i++, at += shape->element_size) {
		char prefix[64];

		snprintf(prefix, sizeof(prefix), "%s[%zu]%s", shape->tail, i,
			 *shape->element->name ? "." : "");
		check_fields(step, what, prefix, shape->element, shape->element_count, at, got, want,
			     varying, varyings);
	}
}

// part: check_bytes()
/* Compares bytes, and prints the first difference. */
static void check_bytes(int step, const char *what, const unsigned char *got,
			const unsigned char *want, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++) {
		if (got[i] == want[i])
			continue;
		differ(step, NULL, "%s: byte 0x%zx is 0x%02x, recorded 0x%02x", what, i, got[i], want[i]);
		return;
	}
}

// part: map_run()
/* Maps a vCPU's kvm_run and the pages after it. */
static struct kvm_run *map_run(int step, int kvm, int vcpu, size_t *size)
{
	void *run;

	*size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		give_up(step, "mmap of kvm_run", errno);
	return run;
}

// part: check_run()
/* Runs a vCPU; returns whether it returned with the recorded exit. */
static int check_run(int step, const char *what, int vcpu, struct kvm_run *run, long recorded,
		     __u32 reason, const char *reason_name)
{
	long result;

	alarm(FILL_TIMEOUT);
	do
		result = call(vcpu, KVM_RUN, 0);
	while (result == -EINTR && !run->immediate_exit);
	alarm(0);
	if (result != recorded) {
		check_result(step, what, result, recorded);
		return 0;
	}
	if (run->exit_reason == reason)
		return 1;
	differ(step, NULL, "%s: exit_reason is %u, recorded %s", what, run->exit_reason, reason_name);
	return 0;
}

// part: RUN()
#define RUN(step, vcpu, run, recorded, reason) \
	check_run(step, "KVM_RUN (" #vcpu ")", vcpu, run, recorded, reason, #reason)

// part: check_value()
/* Compares one field of kvm_run. */
static void check_value(int step, const char *why, const char *name, unsigned long long got,
			unsigned long long recorded)
{
	if (got != recorded)
		differ(step, why, "%s is 0x%llx, recorded 0x%llx", name, got, recorded);
}

// part: EXIT()
#define EXIT(step, run, field, recorded) check_value(step, NULL, #field, (run)->field, recorded)

// part: EXIT_VARIES()
#define EXIT_VARIES(step, run, field, recorded, why) \
	check_value(step, why, #field, (run)->field, recorded)

// part: EXIT_AT()
/* Compares a field of kvm_run by its offset, because old headers do not have it. */
#define EXIT_AT(step, run, name, offset, size, recorded) \
	check_value(step, NULL, name, load((unsigned char *)(run) + (offset), size), recorded)
