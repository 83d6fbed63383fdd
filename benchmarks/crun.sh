#!/bin/sh
# crun refuses a machine with both versions of cgroups where the second has a controller of its own. It is shown a
# machine that has only the first: in a mount namespace of its own the second is not mounted.
[ -d /sys/fs/cgroup/unified ] || exec crun "$@"
# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare --mount --propagation private sh -c 'umount /sys/fs/cgroup/unified; exec crun "$@"' crun "$@"
