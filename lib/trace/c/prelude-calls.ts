/** C functions that open, call and end. Those that compare answers are prelude-checks.ts. */
import type { Part } from "./prelude-checks.ts";

/** In the order in which they stand in a file: each uses only earlier ones. */
export const CALL_PARTS: readonly Part[] = [
  {
    name: "ARGUMENT_BYTES",
    text: "/* The longest argument of a call below. */\n#define ARGUMENT_BYTES @ARGUMENT_BYTES@",
  },
  {
    name: "differences",
    text: `/* How many answers were not as recorded. */
static int differences;`,
  },
  {
    name: "is_same_host",
    text: String.raw`/* Whether this is the kernel and the CPU that were recorded. */
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
}`,
  },
  {
    name: "about_host",
    text: `/* Set while an answer is looked at that tells of the host: it may be another elsewhere. */
static int about_host;`,
  },
  {
    name: "differ",
    text: String.raw`/* Says that an answer is not as recorded; with a reason, that it need not be. */
static void __attribute__((format(printf, 3, 4))) differ(int step, const char *why, const char *format, ...)
{
	va_list arguments;

@HOST_RULE@	printf("%s %d: ", why ? "note:" : "not as recorded:", step);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	if (why)
		printf(" (%s)", why);
	printf("\n");
	differences += !why;
}`,
  },
  {
    name: "finish",
    text: String.raw`/* Ends with the verdict on the last line. */
static int finish(void)
{
	if (differences == 0) {
		printf("%s\n", "@SAME@");
		return 0;
	}
	printf("@OTHER@\n", differences);
	return 1;
}`,
  },
  {
    name: "give_up",
    text: `/* Without this, nothing that follows can be asked. */
static void give_up(int step, const char *what, int error)
{
	differ(step, NULL, "%s: %s", what, strerror(error));
	exit(finish());
}`,
  },
  {
    name: "too_late",
    text: String.raw`/* A guest that does not come back, because it does something else than it did. */
static void too_late(int signal)
{
	static const char text[] = "not as recorded: a call has not returned for @PATIENCE@ seconds\n";

	(void)signal;
	if (write(1, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}`,
  },
  {
    name: "open_kvm",
    text: String.raw`/* Opens KVM; without it there is nothing to say: exit status 2. */
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
}`,
  },
  {
    name: "call",
    text: `/*
 * Issues an ioctl: zero or more, or -errno. One that a signal ended is issued again; EINTR of KVM_RUN
 * is an answer, and of KVM_GET_TSC_KHZ it is a frequency.
 */
static long call(int fd, unsigned long request, unsigned long argument)
{
	long result;

	do
		result = ioctl(fd, request, argument);
	while (result < 0 && errno == EINTR && request != KVM_RUN && request != KVM_GET_TSC_KHZ);
	return result < 0 ? -errno : result;
}`,
  },
  {
    name: "errno_name",
    text: `/* An errno as the manual names it. */
static const char *errno_name(long number)
{
	static const struct {
		int number;
		const char *name;
	} names[] = {
		{ EPERM, "-EPERM" }, { ENOENT, "-ENOENT" }, { EINTR, "-EINTR" }, { EIO, "-EIO" },
		{ ENXIO, "-ENXIO" }, { E2BIG, "-E2BIG" }, { EBADF, "-EBADF" }, { EAGAIN, "-EAGAIN" },
		{ ENOMEM, "-ENOMEM" }, { EACCES, "-EACCES" }, { EFAULT, "-EFAULT" }, { EBUSY, "-EBUSY" },
		{ EEXIST, "-EEXIST" }, { ENODEV, "-ENODEV" }, { EINVAL, "-EINVAL" }, { EMFILE, "-EMFILE" },
		{ ENOTTY, "-ENOTTY" }, { ENOSPC, "-ENOSPC" }, { ERANGE, "-ERANGE" }, { ENOSYS, "-ENOSYS" },
		{ EOPNOTSUPP, "-EOPNOTSUPP" }, { EHWPOISON, "-EHWPOISON" },
	};
	static char other[24];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].number == -number)
			return names[i].name;
	snprintf(other, sizeof(other), "%ld", number);
	return other;
}`,
  },
  {
    name: "check_result",
    text: `/* Compares what a call returned. */
static void check_result(int step, const char *what, long result, long recorded)
{
	char got[24];

	if (result == recorded)
		return;
	snprintf(got, sizeof(got), "%s", errno_name(result));
	differ(step, NULL, "%s is %s, recorded %s", what, got, errno_name(recorded));
}`,
  },
  {
    name: "CALL",
    text: String.raw`/* One ioctl, whose result must be as recorded. */
#define CALL(step, fd, request, argument, recorded) \
	check_result(step, #request " (" #fd ")", call(fd, request, (unsigned long)(argument)), recorded)`,
  },
  {
    name: "create",
    text: `/* An ioctl that returns a descriptor, without which nothing goes on. */
static int create(int step, const char *what, int fd, unsigned long request, unsigned long argument)
{
	long result = call(fd, request, argument);

	if (result < 0)
		give_up(step, what, -result);
	return result;
}`,
  },
  {
    name: "CREATE",
    text: String.raw`#define CREATE(step, fd, request, argument) \
	create(step, #request " (" #fd ")", fd, request, (unsigned long)(argument))`,
  },
  {
    name: "map_memory",
    text: `/* Memory for a guest, zeros. */
static unsigned char *map_memory(int step, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		give_up(step, "mmap", errno);
	return memory;
}`,
  },
  {
    name: "map_file",
    text: `/* A file as memory for a guest. */
static unsigned char *map_file(int step, int fd, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		give_up(step, "mmap", errno);
	return memory;
}`,
  },
  {
    name: "open_file",
    text: `/* A device that KVM is handed. */
static int open_file(int step, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		give_up(step, path, errno);
	return fd;
}`,
  },
  {
    name: "make_eventfd",
    text: `static int make_eventfd(int step, unsigned int count)
{
	int fd = eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		give_up(step, "eventfd", errno);
	return fd;
}`,
  },
  {
    name: "read_counter",
    text: `/* Reads an eventfd's counter; KVM may signal it a moment after what has caused it. */
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
}`,
  },
  {
    name: "write_counter",
    text: `static void write_counter(int step, const char *name, int fd, unsigned long long value, long result)
{
	check_result(step, name, write(fd, &value, sizeof(value)) < 0 ? -errno : 0, result);
}`,
  },
  {
    name: "words",
    text: `/* Numbers of 64 bits, each by as much above the one before: page tables. */
static void words(unsigned char *at, size_t count, __u64 first, __u64 step)
{
	size_t i;

	for (i = 0; i < count; i++, first += step)
		memcpy(at + 8 * i, &first, 8);
}`,
  },
];
