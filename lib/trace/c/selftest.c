/**
 * The C functions of files for the kernel's selftests that replace the functions of prelude.c with the same names; see
 * prelude.c for the markers. They use the selftests' framework: test_util.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The framework's macros, for a compilation of this file alone.
#define TEST_ASSERT(condition, format, ...) \
	((condition) ? (void)0 : (void)printf(format "\n", ##__VA_ARGS__))
#define TEST_FAIL(format, ...) (printf(format "\n", ##__VA_ARGS__), exit(254))

// part: differ()
/* Fails the test because of a value that is not as recorded, unless the value may vary (why). */
#define differ(step, why, format, ...) \
	do { \
		if (!(why)) \
			TEST_FAIL("step %d: " format, step, ##__VA_ARGS__); \
	} while (0)

// part: give_up()
/* Fails the test because of a system call that the following calls need. */
#define give_up(step, what, error) \
	TEST_FAIL("step %d: %s: errno: %d (%s)", step, what, error, strerror(error))

// part: check_result()
/* Asserts the result of a system call: zero or more, or -errno. */
static void check_result(int step, const char *what, long result, long recorded)
{
	TEST_ASSERT(result == recorded, "step %d: %s is %ld (%s), recorded %ld (%s)", step, what,
		    result, strerror(result < 0 ? -result : 0), recorded,
		    strerror(recorded < 0 ? -recorded : 0));
}
