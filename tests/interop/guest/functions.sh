# What the commands of the tests are made of; sourced by the guest's first process.

# wait_for SECONDS COMMAND...: until the command succeeds
wait_for() {
  local turns=$(($1 * 20))
  shift
  while ! "$@" >/dev/null 2>&1; do
    turns=$((turns - 1))
    [ $turns -gt 0 ] || { echo "waited in vain for: $*"; return 1; }
    sleep 0.05
  done
}

# load MODULE [OPTION...]: with the modules that it needs; its options go to the module itself
load() {
  local module=$1 each
  shift
  for each in $(cat "/modules/$module.order"); do
    [ -d "/sys/module/$each" ] && continue
    if [ "$each" = "$module" ]; then insmod "/modules/$each.ko" "$@"; else insmod "/modules/$each.ko"; fi || return 1
  done
}

# nvme_host: the kernel as an NVMe/TCP host
nvme_host() { load crc32c_generic && load nvme_tcp; }

# state_is STATE [CONTROLLER]
state_is() { [ "$(cat "/sys/class/nvme/${2:-nvme0}/state")" = "$1" ]; }

# attach PORT NQN [OPTION...]: connects to a target on the machine that runs this guest
attach() {
  local port=$1 nqn=$2
  shift 2
  nvme connect -t tcp -a 10.0.2.2 -s "$port" -n "$nqn" "$@" && wait_for 10 test -b /dev/nvme0n1
}

# detach NQN: and nothing of the controller is left
detach() { nvme disconnect -n "$1" && wait_for 10 test ! -e /sys/class/nvme/nvme0; }

# churn DEVICE BYTES: gives the range new contents again and again, until /tmp/stop exists; /tmp/seed tells their seed
churn() {
  local seed=1
  rm -f /tmp/stop /tmp/seed /tmp/churned
  blkio write "$1" 0 "$2" 4096 32 2 $seed || return 1
  while [ ! -e /tmp/stop ]; do
    blkio swap "$1" 0 "$2" 4096 32 2 $seed || return 1
    seed=$((seed + 1))
    echo $seed >/tmp/seed
  done
  touch /tmp/churned
}
seed_above() { [ "$(cat /tmp/seed)" -gt "$1" ]; }

nvmet=/sys/kernel/config/nvmet

# nvmet_port: the kernel as an NVMe/TCP target, which listens on port 4420 once it has a subsystem
nvmet_port() {
  load crc32c_generic && load nvmet_tcp && mount -t configfs config /sys/kernel/config || return 1
  mkdir "$nvmet/ports/1" || return 1
  echo tcp >"$nvmet/ports/1/addr_trtype"
  echo ipv4 >"$nvmet/ports/1/addr_adrfam"
  echo 0.0.0.0 >"$nvmet/ports/1/addr_traddr"
  echo 4420 >"$nvmet/ports/1/addr_trsvcid"
}

# nvmet_subsystem NQN DEVICE...: with the devices, or files, as namespaces 1, 2, ...
nvmet_subsystem() {
  local subsystem=$nvmet/subsystems/$1 nsid=0 device
  shift
  mkdir "$subsystem" && echo 1 >"$subsystem/attr_allow_any_host" || return 1
  for device in "$@"; do
    nsid=$((nsid + 1))
    mkdir "$subsystem/namespaces/$nsid" || return 1
    # A file in memory cannot do direct I/O.
    [ -b "$device" ] || echo 1 >"$subsystem/namespaces/$nsid/buffered_io"
    echo "$device" >"$subsystem/namespaces/$nsid/device_path" && echo 1 >"$subsystem/namespaces/$nsid/enable" || return 1
  done
}

# nvmet_listen NQN, nvmet_mute NQN: serves the subsystem; ends that and cuts its connections. The port listens while it
# has a subsystem.
nvmet_listen() { ln -s "$nvmet/subsystems/$1" "$nvmet/ports/1/subsystems/$1"; }
nvmet_mute() { rm "$nvmet/ports/1/subsystems/$1"; }

received() { cat /sys/class/net/eth0/statistics/rx_bytes; }
received_above() { [ "$(received)" -gt "$1" ]; }
