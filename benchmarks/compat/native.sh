#!/bin/bash
# The reference run: native.sh ROOT COMMAND… runs it under the host's kernel in namespaces of its own, with what a
# container has: the root file system, a clean /dev, loopback only, the capabilities in $CAPABILITIES. Nothing that the
# command does reaches the machine's files, clock or settings; when this script is killed, all of it ends.
exec unshare --mount --pid --fork --kill-child=KILL --net --ipc --uts --propagation private /bin/bash -c '
set -e
cd "$1"; shift
mount --bind . .; cd "$PWD"
mount -t proc -o nosuid,nodev,noexec proc proc
echo 256 >proc/sys/fs/mqueue/msg_max
mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then mount --bind /dev/null proc/sysrq-trigger; fi
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid tmpfs dev
for d in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r name major minor <<<"$d"; mknod -m 666 "dev/$name" c "$major" "$minor"
done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev,size=64m tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
ip link set lo up; hostname compat
ulimit -n 1024
exec env -i "PATH=$CONTAINER_PATH" HOME=/root TERM=xterm LANG=C.UTF-8 chroot . \
  setpriv --bounding-set "-all,$CAPABILITIES" --inh-caps=-all -- "$@"
' bash "$@"
