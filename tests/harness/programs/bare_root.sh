#!/bin/sh
# A bare Debian in a folder, whose PID 1 is systemd: bare_root.sh NAME ROOT
#
# Run as `systemd_root.sh` is. Everything is the folder's own; it stays as it is left.
set -eu
name=$1 root=$2
hostname "$name"
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t tmpfs -o mode=755 devices dev
for node in null zero full random urandom tty; do
  cp -a /dev/$node dev/
done
mkdir dev/shm dev/pts dev/mqueue
mount -t devpts -o newinstance,ptmxmode=666 terminals dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s null dev/console
mount -t tmpfs -o mode=755 run run
mount -t sysfs -o ro sys sys
mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd systemd sys/fs/cgroup/systemd
mount -t bpf bpf sys/fs/bpf
mkdir -p old
pivot_root . old
cd /
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lxc \
  unshare --pid --fork --kill-child --mount-proc sh -c '
    umount -l /old
    exec /lib/systemd/systemd --system --log-target=console --log-level=notice'
