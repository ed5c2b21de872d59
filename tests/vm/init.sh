#!/bin/busybox sh
# The first process of the virtual machine: runs pytest and tells tests/vm/run.py between its marks, then
# switches the machine off. /settings is written by tests/vm/image.py.
/bin/busybox mkdir -p /busybox
/bin/busybox --install -s /busybox
export PATH=/usr/bin:/usr/sbin:/busybox HOME=/root LANG=C.UTF-8 CI= MOORAGE_TEST_VM=1 PYTHONUNBUFFERED=1
. /settings
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ln -sf /proc/self/fd /dev/fd
ip link set lo up
echo
echo "moorage-vm: kernel $(uname -r)"
for module in $MODULES; do
    modprobe "$module" || echo "moorage-vm: no module $module"
done
cd "$REPOSITORY" || poweroff -f
# Through a pipe: to a terminal pytest writes each line several times.
{
    echo "moorage-vm: begin"
    python3 -m pytest "$@" </dev/null 2>&1
    echo "moorage-vm: end $?"
} | cat
poweroff -f
