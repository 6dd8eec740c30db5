#!/usr/bin/env bash
# A peer that no one here wrote: the Linux kernel's virtio-blk driver, in a guest, on our target. What the file holds the guest reads, and
# what the guest writes the file holds, also where it grew under the running guest, and though the bridge is killed and started again
# under it. With "packed" the driver uses packed rings.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"

half=$((64 << 20))
ring=${1:-split}

half_sum() { dd if="$home/disk.img" bs=1M skip=$(($1 * 64)) count=64 status=none | sha256sum | cut -d' ' -f1; }

write_script() {
  cat <<SCRIPT
set -euo pipefail
insmod /lib/modules/*/kernel/drivers/block/virtio_blk.ko
for try in \$(seq 100); do [[ -b /dev/vda ]] && break; sleep 0.1; done
[[ \$(cat /sys/block/vda/size) == $((2 * half / 512)) ]] || { echo "wrong size"; exit 1; }
[[ \$(cat /sys/block/vda/serial) == peer ]] || { echo "wrong serial"; exit 1; }
dd if=/dev/vda bs=1M count=64 iflag=direct status=none | sha256sum | grep -q "^$(half_sum 0) " || { echo "read wrong data"; exit 1; }
dd if=/dev/urandom of=/run/data bs=1M count=64 status=none
dd if=/run/data of=/dev/vda bs=1M seek=64 oflag=direct conv=fsync status=none
dd if=/dev/vda bs=4k skip=16384 count=16384 iflag=direct status=none | cmp - /run/data
echo "sum \$(sha256sum </run/data | cut -d' ' -f1)"
printf grow | dd of=/dev/vda bs=512 count=1 conv=sync,fsync oflag=direct status=none
for try in \$(seq 300); do [[ \$(cat /sys/block/vda/size) == $((3 * half / 512)) ]] && break; sleep 0.1; done
[[ \$(cat /sys/block/vda/size) == $((3 * half / 512)) ]] || { echo "did not see the disk grow"; exit 1; }
dd if=/run/data of=/dev/vda bs=1M seek=128 oflag=direct conv=fsync status=none
echo "ring \$(cut -c35 /sys/block/vda/device/features | sed 's/0/split/; s/1/packed/')"
cat /proc/interrupts | grep virtio || true
SCRIPT
}

# The guest asks for it by a word in the first block.
grow_when_asked() {
  until [[ ! -f $home/disk.img || $(head -c 4 "$home/disk.img" | tr -d '\0') == grow ]]; do sleep 0.2; done
  truncate -s $((3 * half)) "$home/disk.img"
  bridge-status "$home/c.sock" grow '{"volume": "peer"}' >/dev/null
}

serve() {
  host-bridge --control "$home/c.sock" --volume "name=peer,backend=file,path=$home/disk.img,socket=$home/d.sock" \
    2>>"$home/bridge.log" &
  echo $! >"$home/bridge.pid"
}

# So many requests after its start, each time. What was in flight is in the table that QEMU keeps.
kill_when_busy() {
  local requests
  for requests in 20 60 2000; do
    until (($(bridge-status "$home/c.sock" 2>/dev/null | jq '.volumes[0].counters.requests' || echo 0) > requests)); do
      [[ -d $home ]] || return 0
      sleep 0.05
    done
    kill -KILL "$(<"$home/bridge.pid")"
    serve
  done
}

main() {
  local image counters grower killer words=()
  scratch=$(mktemp -d /tmp/nm.XXXXXX)
  home=$scratch
  trap cleanup EXIT
  image=$(client_image)
  dd if=/dev/urandom of="$home/disk.img" bs=1M count=64 status=none
  truncate -s $((2 * half)) "$home/disk.img"
  serve
  for _ in $(seq 100); do [[ -S $home/d.sock ]] && break; sleep 0.1; done
  mkdir "$home/c"
  write_script >"$home/script"
  grow_when_asked &
  grower=$!
  kill_when_busy &
  killer=$!
  [[ $ring == packed ]] && words=(--packed)
  client-guest --image "$image" --run "$home/c" --disk "$home/d.sock" "${words[@]}" "$home/script" | tee "$home/out"
  grep -q "^ring $ring$" "$home/out" || fail "the driver did not use a $ring ring"
  [[ $(sed -n 's/^sum //p' "$home/out") == "$(half_sum 1)" ]] || fail "the file does not hold what the guest wrote"
  wait "$grower" "$killer"
  [[ $(half_sum 2) == "$(half_sum 1)" ]] || fail "the file does not hold what the guest wrote where it grew"
  counters=$(bridge-status "$home/c.sock")
  note "$counters"
  (($(jq '.volumes[0].counters.protocol_errors' <<<"$counters") == 0)) || fail "protocol errors"
  (($(jq '.volumes[0].counters.requests' <<<"$counters") > 100)) || fail "the disk was hardly used"
  kill "$(<"$home/bridge.pid")"
  for _ in $(seq 100); do [[ -d /proc/$(<"$home/bridge.pid") ]] || break; sleep 0.1; done
  [[ ! -d /proc/$(<"$home/bridge.pid") ]] || fail "the bridge does not stop: $(tail -n 2 "$home/bridge.log")"
}

main
