/** C functions that compare answers with the recording. They stand behind those of prelude-calls.ts. */

/** A piece of C, named by what is looked for in a file's text. */
export interface Part {
  readonly name: string;
  readonly text: string;
}

/** In the order in which they stand in a file: each uses only earlier ones. */
export const CHECK_PARTS: readonly Part[] = [
  {
    name: "argument",
    text: `/*
 * A place for an argument, which ends where an unmapped page begins: a count that says more than
 * there is must find out. The first bytes are zeros, the rest is filled.
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
}`,
  },
  {
    name: "recorded",
    text: `/* A place for the answer that was recorded. */
static void *recorded(size_t header, size_t rest, int fill)
{
	static unsigned char place[ARGUMENT_BYTES] __attribute__((aligned(8)));

	memset(place, 0, header);
	memset(place + header, fill, rest);
	return place;
}`,
  },
  {
    name: "struct field",
    text: String.raw`/* An integer of a struct, or so many. */
struct field {
	const char *name;
	unsigned int offset, size, count;
};
#define FIELD(type, member) \
	{ #member, offsetof(struct type, member), sizeof(((struct type *)0)->member), 1 }
#define ARRAY(type, member, size) \
	{ #member, offsetof(struct type, member), size, sizeof(((struct type *)0)->member) / (size) }`,
  },
  {
    name: "struct shape",
    text: `/* A struct: its fields, and those of each element behind it. */
struct shape {
	size_t size;
	const struct field *fields;
	size_t field_count;
	const char *tail;
	size_t element_size;
	const struct field *element;
	size_t element_count;
};`,
  },
  {
    name: "struct varying",
    text: `/* Bits of an answer that need not be as recorded. */
struct varying {
	size_t offset;
	unsigned long long mask;
	const char *why;
};`,
  },
  {
    name: "load",
    text: `/* An integer of so many bytes. */
static unsigned long long load(const void *from, size_t size)
{
	unsigned long long value = 0;

	memcpy(&value, from, size);
	return value;
}`,
  },
  {
    name: "check_fields",
    text: `/* Compares one struct, or one element, field by field. */
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
}`,
  },
  {
    name: "check_answer",
    text: `/* Compares what a call wrote. */
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
}`,
  },
  {
    name: "check_bytes",
    text: `/* Compares bytes that have no better name; says where the first differs. */
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
}`,
  },
  {
    name: "map_run",
    text: `/* A vCPU's kvm_run, and what lies behind it. */
static struct kvm_run *map_run(int step, int kvm, int vcpu, size_t *size)
{
	void *run;

	*size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		give_up(step, "mmap of kvm_run", errno);
	return run;
}`,
  },
  {
    name: "check_run",
    text: `/* Runs a vCPU; whether it came back with the recorded exit. */
static int check_run(int step, const char *what, int vcpu, struct kvm_run *run, long recorded,
		     __u32 reason, const char *reason_name)
{
	long result;

	alarm(@PATIENCE@);
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
}`,
  },
  {
    name: "RUN",
    text: String.raw`#define RUN(step, vcpu, run, recorded, reason) \
	check_run(step, "KVM_RUN (" #vcpu ")", vcpu, run, recorded, reason, #reason)`,
  },
  {
    name: "check_value",
    text: `/* Compares one field of kvm_run. */
static void check_value(int step, const char *why, const char *name, unsigned long long got,
			unsigned long long recorded)
{
	if (got != recorded)
		differ(step, why, "%s is 0x%llx, recorded 0x%llx", name, got, recorded);
}`,
  },
  {
    name: "EXIT",
    text: `#define EXIT(step, run, field, recorded) check_value(step, NULL, #field, (run)->field, recorded)`,
  },
  {
    name: "EXIT_VARIES",
    text: String.raw`#define EXIT_VARIES(step, run, field, recorded, why) \
	check_value(step, why, #field, (run)->field, recorded)`,
  },
  {
    name: "EXIT_AT",
    text: String.raw`/* The same by its place, for a field that not every header has. */
#define EXIT_AT(step, run, name, offset, size, recorded) \
	check_value(step, NULL, name, load((unsigned char *)(run) + (offset), size), recorded)`,
  },
];
