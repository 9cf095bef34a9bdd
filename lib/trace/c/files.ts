/** Exports steps of files that are passed to KVM: eventfds and their counters, devices, pages of a guest_memfd. */
import type { CounterStep, EventFdStep, FallocateStep, FileStep } from "../record.ts";
import type { CFile } from "./c-file.ts";
import { comment, exactText, number, result, text } from "./literal.ts";

/** Adds a step that is not an ioctl to the file. */
export function addFileStep(
  file: CFile,
  step: EventFdStep | CounterStep | FileStep | FallocateStep,
  at: number,
): void {
  switch (step.kind) {
    case "eventfd": {
      const made = step.made && file.make(step.made);
      // A call that failed because of a limit of the recorded process may succeed elsewhere, so it is omitted.
      if (made === undefined) file.add(`/* ${at}: eventfd: ${result(step.result)} */`);
      else file.add(`${made} = make_eventfd(${at}, ${number(step.initval)});`);
      break;
    }
    case "counter": {
      const fd = file.name(step.fd);
      const values = `${number(step.value)}, ${result(step.result)}`;
      file.add(`${step.call}_counter(${at}, ${text(fd)}, ${fd}, ${values});`);
      break;
    }
    case "file": {
      const made = step.made && file.make(step.made);
      const path = exactText(step.path);
      if (made === undefined) {
        file.add(`/* ${at}: open(${comment(step.path)}): ${result(step.result)} */`);
      } else file.add(`${made} = open_file(${at}, ${path});`);
      break;
    }
    case "fallocate": {
      const { mode, offset, length } = step;
      const fd = file.name(step.fd);
      const call = `syscall(SYS_fallocate, ${fd}, ${mode}, ${number(offset)}, ${number(length)})`;
      const answer = `${call} < 0 ? -errno : 0`;
      file.add(
        `check_result(${at}, ${text(`fallocate (${fd})`)}, ${answer}, ${result(step.result)});`,
      );
      break;
    }
    default:
      step satisfies never;
  }
}
