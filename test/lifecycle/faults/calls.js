/**
 * The functions that the addon imports: the failures of each function, or the reason why the function is not made to
 * fail. inject.c makes the calls fail; test/house/native-calls.test.ts compares this table with the addon's imports.
 */
import { constants } from "node:os";

/** How a function reports its failure; the numbers equal those in inject.c. */
export const FORMS = { errno: 0, returned: 1, negated: 2 };

const { EAGAIN, EBUSY, EFAULT, EINTR, EINVAL, EIO, EMFILE, ENFILE } = constants.errno;
const { ETIMEDOUT } = constants.errno;
const { ENODEV, ENOENT, ENOMEM, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM } = constants.errno;

const fails = (form, ...errors) => ({ form, errors });
const errno = (...errors) => fails("errno", ...errors);
const never = (reason) => ({ reason });

/** The Node-API status for a call in an environment that ends, and the status for any other failure. */
const [napi_generic_failure, napi_pending_exception] = [9, 10];
const napi = fails("returned", napi_generic_failure, napi_pending_exception);
const arguments_only = never("it fails only when an argument is null or has another type");
const pure = never("it cannot fail");

/** System calls and functions of the C library, by their names in C. */
export const SYSTEM_CALLS = {
  arch_prctl: errno(EPERM, EOPNOTSUPP),
  close: errno(EINTR, EIO),
  epoll_create1: errno(EMFILE, ENFILE, ENOMEM),
  epoll_ctl: errno(ENOMEM, ENOSPC),
  epoll_wait: errno(EINTR),
  eventfd: errno(EMFILE, ENFILE, ENOMEM, ENODEV),
  fallocate64: errno(EINTR, ENOMEM, ENOSPC, EOPNOTSUPP),
  fcntl64: errno(EBUSY, EPERM),
  fstat64: errno(ENOMEM, EIO),
  fstatfs64: errno(ENOMEM, EIO, EINTR),
  ftruncate64: errno(EINTR, ENOMEM),
  getrandom: errno(EINTR, ENOSYS),
  ioctl: errno(EINTR, ENOMEM, EMFILE),
  madvise: errno(ENOMEM, EAGAIN, EFAULT),
  memfd_create: errno(EMFILE, ENFILE, ENOMEM),
  mmap64: errno(ENOMEM, EAGAIN, ENODEV),
  mprotect: errno(ENOMEM),
  munmap: errno(ENOMEM),
  open64: errno(EMFILE, ENFILE, ENOMEM, ENOENT, EINTR),
  poll: errno(EINTR, ENOMEM),
  pread64: errno(EINTR, EIO),
  pthread_create: fails("returned", EAGAIN),
  pthread_timedjoin_np: fails("returned", ETIMEDOUT),
  "raw mmap": errno(ENOMEM),
  read: errno(EINTR, EIO),
  sched_getcpu: errno(ENOSYS),
  sem_init: errno(ENOSYS),
  sem_wait: errno(EINTR),
  sigaction: errno(EINVAL),
  tgkill: errno(EAGAIN),
  write: errno(EINTR, EIO),
};

/** Functions of libuv that make a system call. */
export const LIBUV_CALLS = {
  uv_async_init: fails("negated", EMFILE, ENOMEM),
  uv_poll_init: fails("negated", ENOMEM, EPERM),
  uv_poll_start: fails("negated", EINVAL),
};

/** Functions of Node-API that run JavaScript or create an object: they fail when the environment ends. */
export const NODE_API_CALLS = {
  napi_add_async_cleanup_hook: napi,
  napi_add_finalizer: napi,
  napi_async_init: napi,
  napi_call_function: napi,
  napi_check_object_type_tag: napi,
  napi_create_arraybuffer: napi,
  // After a real failure of this kind, Node has already called the finalizer; an injected failure cannot call the
  // finalizer.
  napi_create_external_arraybuffer: fails("returned", napi_pending_exception),
  napi_create_function: napi,
  napi_create_object: napi,
  napi_create_reference: napi,
  napi_create_string_utf8: napi,
  napi_create_typedarray: napi,
  napi_define_class: napi,
  napi_define_properties: napi,
  napi_get_element: napi,
  napi_get_property: napi,
  napi_get_uv_event_loop: napi,
  napi_get_value_string_utf8: napi,
  napi_has_own_property: napi,
  napi_new_instance: napi,
  napi_type_tag_object: napi,
  napi_unwrap: napi,
  napi_wrap: napi,
};

/** Functions that are not made to fail, each with the reason. */
export const UNFAILING = {
  abort: never("it ends the process"),
  clock_gettime: never("it fails only for a clock that does not exist"),
  getpid: pure,
  getrlimit64: never("it fails only for a resource that does not exist"),
  gettid: pure,
  memchr: pure,
  memcpy: pure,
  memmove: pure,
  memset: pure,
  napi_adjust_external_memory: arguments_only,
  napi_async_destroy: arguments_only,
  napi_close_callback_scope: arguments_only,
  napi_make_callback: never(
    "it fails where no JavaScript can run any more, or when the function that it has called throws",
  ),
  napi_close_escapable_handle_scope: arguments_only,
  napi_close_handle_scope: arguments_only,
  napi_create_bigint_uint64: arguments_only,
  napi_create_double: arguments_only,
  napi_create_error: arguments_only,
  napi_create_int32: arguments_only,
  napi_create_range_error: arguments_only,
  napi_create_type_error: arguments_only,
  napi_delete_reference: arguments_only,
  napi_detach_arraybuffer: arguments_only,
  napi_escape_handle: arguments_only,
  napi_fatal_error: never("it ends the process"),
  napi_fatal_exception: never("it reports an uncaught exception"),
  napi_get_and_clear_last_exception: arguments_only,
  napi_get_array_length: arguments_only,
  napi_get_arraybuffer_info: arguments_only,
  napi_get_boolean: arguments_only,
  napi_get_cb_info: arguments_only,
  napi_get_global: arguments_only,
  napi_get_instance_data: arguments_only,
  napi_get_last_error_info: arguments_only,
  napi_get_new_target: arguments_only,
  napi_get_reference_value: arguments_only,
  napi_get_typedarray_info: arguments_only,
  napi_get_undefined: arguments_only,
  napi_get_value_bigint_uint64: arguments_only,
  napi_get_value_bool: arguments_only,
  napi_get_value_double: arguments_only,
  napi_get_value_uint32: arguments_only,
  napi_has_property: never("node-addon-api alone calls it, for an exception that is no object"),
  napi_is_array: arguments_only,
  napi_is_arraybuffer: arguments_only,
  napi_is_detached_arraybuffer: arguments_only,
  napi_is_exception_pending: arguments_only,
  napi_is_typedarray: arguments_only,
  napi_open_escapable_handle_scope: arguments_only,
  napi_open_handle_scope: arguments_only,
  napi_reference_ref: arguments_only,
  napi_reference_unref: arguments_only,
  napi_remove_async_cleanup_hook: arguments_only,
  napi_remove_wrap: arguments_only,
  napi_set_instance_data: arguments_only,
  napi_strict_equals: never("its failure is how the addon finds that an environment ends"),
  napi_throw: never("it fails only where no JavaScript runs"),
  napi_typeof: arguments_only,
  pthread_detach: never("it fails only for a thread that does not exist"),
  pthread_mutex_lock: never("a default mutex that the thread does not hold cannot fail"),
  pthread_mutex_unlock: never("a default mutex that the thread holds cannot fail"),
  pthread_sigmask: never("it fails only for an unknown way to change the mask"),
  raise: never("it ends the process"),
  sem_destroy: never("it fails only for an invalid semaphore"),
  sem_post: never("it fails only when the count would pass SEM_VALUE_MAX"),
  sigaddset: pure,
  sigdelset: pure,
  sigemptyset: pure,
  sigfillset: pure,
  strcmp: pure,
  strlen: pure,
  syscall: never("its numbers are calls of their own in SYSTEM_CALLS"),
  usleep: pure,
  uv_async_send: never("it fails only for a handle of another type"),
  uv_backend_fd: pure,
  uv_close: pure,
  uv_hrtime: pure,
  uv_idle_init: pure,
  uv_idle_start: never("it fails only without a callback"),
  uv_idle_stop: pure,
  uv_is_active: pure,
  uv_poll_stop: pure,
  uv_ref: pure,
  uv_unref: pure,
};

/** The calls that are made to fail. */
export const FAILING = { ...SYSTEM_CALLS, ...LIBUV_CALLS, ...NODE_API_CALLS };
