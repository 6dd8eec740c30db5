#!/usr/bin/env bash
# A driver that no one here wrote: libblkio's virtio-blk-vhost-user, on our target. All data compared, on a file and in memory, by libblkio and
# on the file itself by us; then its own benchmark, for its figures: nothing is asserted on speed. On demand: it downloads the library.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"

size_mb=64
bench_s=${FILER_BLKIO_BENCH_S:-3}

# Its benchmark is an example among the documents of the package.
build() {
  local root=$1
  local library=$root/usr/lib/x86_64-linux-gnu
  local flags=(-O2 -I "$root/usr/include")
  local libraries=(-L "$library" -lblkio "-Wl,-rpath,$library" -pthread)
  g++ -std=c++20 -Wall -Wextra -Werror "${flags[@]}" "$here/libblkio/verify.cc" -o "$home/verify" "${libraries[@]}"
  gcc "${flags[@]}" "$root/usr/share/doc/libblkio-dev/examples/blkio-bench.c" -o "$home/bench" "${libraries[@]}"
}

start_bridge() {
  host-bridge --control "$home/c.sock" \
    --volume "name=file,backend=file,path=$home/disk.img,socket=$home/file.sock" \
    --volume "name=memory,backend=memory,size=${size_mb}M,socket=$home/memory.sock" \
    --volume "name=null,backend=null,size=1G,socket=$home/null.sock" 2>>"$home/bridge.log" &
  bridge=$!
  for _ in $(seq 100); do bridge-status "$home/c.sock" >/dev/null 2>&1 && return; sleep 0.1; done
  fail "the bridge does not start: $(tail -n 2 "$home/bridge.log")"
}

# Ends the bridge in order.
stop_bridge() {
  local counters
  counters=$(bridge-status "$home/c.sock" | jq -c '[.volumes[].counters | {requests, errors, protocol_errors, kicks, interrupts}]')
  note "$counters"
  jq -e 'all(.[]; .protocol_errors == 0)' <<<"$counters" >/dev/null || fail "protocol errors"
  kill "$bridge"
  wait "$bridge" || fail "the bridge ended with an error: $(tail -n 2 "$home/bridge.log")"
}

verify() { timeout 120 "$home/verify" "$home/$1.sock" "$2" "$3"; }

# Wrong data must not go unseen.
expect_other_seed_is_seen() {
  ! verify "$1" read "$2" 2>"$home/seen" || fail "$1: wrong data went unseen"
  grep -q 'wrong data in the sector at byte 0$' "$home/seen" || fail "$1: $(cat "$home/seen")"
}

compare() {
  local volume
  for volume in file memory; do
    verify "$volume" write 7
    verify "$volume" read 7
    expect_other_seed_is_seen "$volume" 8
  done
  stop_bridge
  filer-bridge-check "file:$home/disk.img" --verify 7  # what libblkio wrote
  filer-bridge-check "file:$home/disk.img" --write-pattern 9
  start_bridge
  verify file read 9  # what libblkio reads
  verify file holes 9
  verify memory write 9
  verify memory holes 9
  stop_bridge
}

bench() {
  local volume depth json
  start_bridge
  for volume in null file; do
    for depth in 1 32; do
      json=$(timeout $((bench_s + 60)) "$home/bench" --poll --runtime="$bench_s" --iodepth="$depth" virtio-blk-vhost-user \
        "path=$home/$volume.sock") || fail "blkio-bench on $volume, depth $depth"
      jq -r --arg what "$volume, depth $depth" \
        '.aggregate | "\($what): \(.kiops * 1000 | floor) reads of 4 KiB per second, \(.mean_lat_us) us each"' <<<"$json"
    done
  done
  stop_bridge
}

main() {
  local root
  root=$("$here/libblkio/fetch")
  note "$(tr '\n' ' ' <"$root/packages")"
  scratch=$(mktemp -d /tmp/nm.XXXXXX)
  home=$scratch
  trap cleanup EXIT
  build "$root"
  truncate -s "${size_mb}M" "$home/disk.img"
  start_bridge
  compare
  bench
}

main
