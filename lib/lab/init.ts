/**
 * The guest's first process, and what it tells the host. It only prints: the host judges.
 *
 * Four serial ports, which every kernel of the catalogue drives without a module: ttyS0 the kernel's
 * log, ttyS1 the command's stdout, ttyS2 its stderr, ttyS3 what init itself has to say.
 */

/** Where the guest keeps what the lab needs. */
export const LAB = "/lab";

/** In the guest while the machine waits for its work; whoever has read the work removes it. */
export const HELD: string = `${LAB}/held`;

/** The port on which the work comes: a line with its length in bytes, then these. */
export const WORK_PORT = 3;

/** What init says on ttyS3. */
export type Word =
  /** The root is mounted. */
  | { readonly kind: "up" }
  /** It lives; said every few seconds, so that a silent command is not taken for a dead emulator. */
  | { readonly kind: "beat" }
  /** KVM could not be loaded. */
  | { readonly kind: "no-kvm"; readonly why: string }
  /** The machine waits for its work: what it was booted for is prepared, and it may be saved. */
  | { readonly kind: "ready" }
  /** The command runs now. */
  | { readonly kind: "run" }
  /** The command ended, and so many bytes were sent of what it printed. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly stdout: number;
      readonly stderr: number;
    }
  | { readonly kind: "file"; readonly path: string; readonly bytes: Uint8Array }
  | { readonly kind: "missing"; readonly path: string }
  /** The last word: the machine powers off. Without it, it crashed. */
  | { readonly kind: "end" };

/** What init writes to the kernel's log where it finds fewer serial ports. */
export const NO_PORTS = "node-kvm lab: this kernel has no ttyS3";

/**
 * The script. Its own output is in the kernel's log; the command's goes through pipes, so that no
 * program takes it for a terminal's. Bytes are counted behind the pipe: what arrives is compared.
 */
export const INIT: string = `#!/bin/sh
export PATH=/usr/bin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
ln -sfn /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
ifconfig lo 127.0.0.1 up
if ! [ -c /dev/ttyS3 ]; then echo "${NO_PORTS}"; poweroff -f; fi
# Held open: closing the last descriptor of a port forgets its settings. Bochs keeps to the speed.
exec 4>/dev/ttyS1 5>/dev/ttyS2 6>/dev/ttyS3
for port in 1 2 3; do stty -F /dev/ttyS$port 115200 raw -echo; done
echo up >&6
while read -r module; do
  insmod ${LAB}/modules/$module 2>>${LAB}/insmod || break
done <${LAB}/modules/order
if [ -c /dev/kvm ]; then
  # A machine that waits for its work must not speak: it is being saved.
  (while sleep 5 6>&- >&-; do [ -e ${HELD} ] || echo beat; done >&6 4>&- 5>&-) &
  beat=$!
  mkfifo ${LAB}/stdout ${LAB}/stderr
  tee /dev/ttyS1 <${LAB}/stdout | wc -c >${LAB}/stdout.bytes &
  out=$!
  tee /dev/ttyS2 <${LAB}/stderr | wc -c >${LAB}/stderr.bytes &
  err=$!
  if [ -e ${LAB}/wait ]; then
    echo ready >&6
    exec 7</dev/ttyS${WORK_PORT}
    read -r bytes <&7
    head -c $bytes <&7 | (cd / && cpio -idu 2>/dev/null)
    exec 7<&-
    rm ${HELD}
    cat ${LAB}/seed >/dev/urandom
    date -s @$(cat ${LAB}/time) >/dev/null
  fi
  echo run >&6
  sh ${LAB}/command </dev/null >${LAB}/stdout 2>${LAB}/stderr 4>&- 5>&- 6>&-
  status=$?
  wait $out $err
  kill $beat
  wait $beat 2>/dev/null
  echo status $status $(cat ${LAB}/stdout.bytes ${LAB}/stderr.bytes) >&6
  while read -r wanted; do
    if ! [ -e "$wanted" ]; then echo "missing $wanted" >&6; continue; fi
    find "$wanted" -type f | while read -r path; do
      echo "file $(wc -c <"$path") $path" >&6
      cat "$path" >&6
    done
  done <${LAB}/wanted
else
  echo no-kvm $(cat ${LAB}/insmod) >&6
fi
# stty waits until all is sent: powering off does not, and after its last word the machine may be ended.
for port in 1 2; do stty -F /dev/ttyS$port raw; done
echo end >&6
stty -F /dev/ttyS3 raw
exec 4>&- 5>&- 6>&-
poweroff -f
`;

/** Reads ttyS3 as it comes. */
export class Control {
  #rest: Buffer = Buffer.alloc(0);
  #file: { readonly path: string; readonly length: number } | undefined;

  /** Takes what arrived; returns the words that are whole by now. */
  push(bytes: Uint8Array): readonly Word[] {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    const words: Word[] = [];
    for (let word = this.#next(); word !== undefined; word = this.#next()) words.push(word);
    return words;
  }

  #next(): Word | undefined {
    if (this.#file !== undefined) return this.#finish(this.#file);
    const end = this.#rest.indexOf("\n");
    if (end === -1) return undefined;
    const line = this.#take(end + 1)
      .toString()
      .trimEnd();
    const [kind = "", ...parts] = line.split(" ");
    switch (kind) {
      case "up":
      case "beat":
      case "ready":
      case "run":
      case "end":
        return { kind };
      case "no-kvm":
        return { kind, why: parts.join(" ") };
      case "missing":
        return { kind, path: parts.join(" ") };
      case "status": {
        const [status = Number.NaN, stdout = Number.NaN, stderr = Number.NaN] = parts.map(Number);
        return { kind, status, stdout, stderr };
      }
      case "file": {
        this.#file = { length: Number(parts[0]), path: parts.slice(1).join(" ") };
        return this.#finish(this.#file);
      }
      default:
        // A line of noise, such as half a word of a dying guest: no word.
        return this.#next();
    }
  }

  #finish({ path, length }: { readonly path: string; readonly length: number }): Word | undefined {
    if (this.#rest.length < length) return undefined;
    this.#file = undefined;
    return { kind: "file", path, bytes: Uint8Array.from(this.#take(length)) };
  }

  #take(length: number): Buffer {
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }
}
