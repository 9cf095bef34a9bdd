// Defines two functions of glibc that Debian's libc++abi calls and that musl does not have.
// scripts/prebuild.js links them into the addon for musl. The argument `flag` requests checks of
// the format string; musl does not implement these checks.
#include <cstdarg>
#include <cstdio>

extern "C" {

int __vfprintf_chk(FILE* stream, int /*flag*/, const char* format, va_list arguments) {
  return vfprintf(stream, format, arguments);
}

int __fprintf_chk(FILE* stream, int flag, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int written = __vfprintf_chk(stream, flag, format, arguments);
  va_end(arguments);
  return written;
}
}
