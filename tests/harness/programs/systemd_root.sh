#!/bin/sh
# A root of its own in which systemd is PID 1: systemd_root.sh NAME FOLDER REPOSITORY PYTHON-PREFIX
#
# Run in a mount, cgroup, UTS and IPC namespace, whose cgroup namespace begins at a cgroup of the
# hierarchy that is called systemd. Nothing of the machine's can be written: its /usr is seen
# read-only, its /tmp, /var, /run and /etc not at all. The node's own are folders of FOLDER: etc, log,
# and bin with the commands that it has beside the machine's.
set -eu
name=$1 folder=$2 repository=$3 prefix=$4
hostname "$name"
mount --make-rprivate /
root=/mnt
mount -t tmpfs -o mode=755,size=64m root $root
cd $root
mkdir dev etc mnt opt opt/mailweir opt/python proc run sys tmp usr var old
for link in bin lib lib32 lib64 libx32 sbin; do
  [ ! -L /$link ] || ln -s "$(readlink /$link)" $link
done
# systemd mounts the machine's own devices where none is mounted.
mount -t tmpfs -o mode=755 devices dev
mount -t tmpfs -o mode=755 run run
mount --bind /usr usr
mount -o remount,bind,ro usr
mount --bind "$repository" opt/mailweir
mount -o remount,bind,ro opt/mailweir
mount --bind "$prefix" opt/python
mount -o remount,bind,ro opt/python

# The commands, where the units look for them.
mount -t overlay -o "lowerdir=$folder/bin:/usr/bin" commands usr/bin

# No unit but ours, and no generator of the machine's.
mount -t tmpfs units usr/lib/systemd/system
mount -t tmpfs generators usr/lib/systemd/system-generators
for target in sysinit basic network shutdown umount multi-user; do
  printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $target >usr/lib/systemd/system/$target.target
done
printf 'Requires=sysinit.target\nAfter=sysinit.target\n' >>usr/lib/systemd/system/basic.target
printf 'Requires=basic.target\nAfter=basic.target\n' >>usr/lib/systemd/system/multi-user.target

for file in group nsswitch.conf passwd ld.so.conf ld.so.conf.d alternatives; do
  [ ! -e /etc/$file ] || cp -a /etc/$file etc/
done
# This Python's libraries are found before those of another one.
sed -i '1i /opt/python/lib' etc/ld.so.conf
chroot . ldconfig
echo 0123456789abcdef0123456789abcdef >etc/machine-id
for own in "$folder"/etc/*; do
  mkdir -p "etc/${own##*/}"
  mount --bind "$own" "etc/${own##*/}"
done

# The units' user, where they are installed.
if [ -d etc/sysusers.d ]; then
  chroot . systemd-sysusers
  chroot . chown -R mailweir etc/mailweir
fi

ln -s ../run var/run
mkdir -p dev/shm dev/pts dev/mqueue var/lib var/log var/tmp var/cache tmp
for node in null zero full random urandom tty; do
  cp -a /dev/$node dev/
done
mount -t devpts -o newinstance,ptmxmode=666 terminals dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s null dev/console
chmod 1777 tmp var/tmp dev/shm
mount --bind "$folder/log" var/log
mount -t sysfs -o ro sys sys
mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd systemd sys/fs/cgroup/systemd
mount -t bpf bpf sys/fs/bpf

pivot_root . old
cd /
exec env -i PATH=/usr/sbin:/usr/bin container=lxc \
  unshare --pid --fork --kill-child --mount-proc sh -c '
    umount -l /old
    exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console \
      --log-level=notice'
