#!/bin/sh
# The first process of the lab's guest. init.ts parses its messages, and replaces the names between "@".
# Its own output is in the kernel's log. The command's output passes through pipes, so that no program
# detects a terminal, and is counted behind them: the lab compares the count with the bytes that arrive.
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
if ! [ -c /dev/ttyS3 ]; then echo "@NO_PORTS@"; poweroff -f; fi
# Held open: closing the last descriptor of a port forgets its settings. Bochs keeps to the speed.
exec 4>/dev/ttyS1 5>/dev/ttyS2 6>/dev/ttyS3
for port in 1 2 3; do stty -F /dev/ttyS$port 115200 raw -echo; done
echo up >&6
# A line has the name of a module, and its parameters.
while read -r module params; do
  insmod @LAB@/modules/$module $params 2>>@LAB@/insmod || break
done <@LAB@/modules/order
if [ -c /dev/kvm ]; then
  # A machine that waits for its work must not write: it is being saved.
  (while sleep 5 6>&- >&-; do [ -e @HELD@ ] || echo beat; done >&6 4>&- 5>&-) &
  beat=$!
  mkfifo @LAB@/stdout @LAB@/stderr
  tee /dev/ttyS1 <@LAB@/stdout | wc -c >@LAB@/stdout.bytes &
  out=$!
  tee /dev/ttyS2 <@LAB@/stderr | wc -c >@LAB@/stderr.bytes &
  err=$!
  if [ -e @LAB@/wait ]; then
    echo ready >&6
    exec 7</dev/ttyS@WORK_PORT@
    read -r bytes <&7
    head -c $bytes <&7 | (cd / && cpio -idu 2>/dev/null)
    exec 7<&-
    rm @HELD@
    cat @LAB@/seed >/dev/urandom
    date -s @$(cat @LAB@/time) >/dev/null
  fi
  echo run >&6
  sh @LAB@/command </dev/null >@LAB@/stdout 2>@LAB@/stderr 4>&- 5>&- 6>&-
  status=$?
  wait $out $err
  kill $beat
  wait $beat 2>/dev/null
  echo status $status $(cat @LAB@/stdout.bytes @LAB@/stderr.bytes) >&6
  while IFS= read -r wanted; do
    if ! [ -e "$wanted" ]; then echo "missing $wanted" >&6; continue; fi
    find "$wanted" -type f | while IFS= read -r path; do
      bytes=$(wc -c <"$path") || { echo "missing $path" >&6; continue; }
      echo "file $bytes $path" >&6
      # No more than was announced, if something still writes to it.
      head -c $bytes "$path" >&6
    done
  done <@LAB@/wanted
else
  echo no-kvm $(cat @LAB@/insmod) >&6
fi
# stty waits until all bytes are sent; powering off does not. The machine may be killed after its last message.
for port in 1 2; do stty -F /dev/ttyS$port raw; done
echo end >&6
stty -F /dev/ttyS3 raw
exec 4>&- 5>&- 6>&-
poweroff -f
