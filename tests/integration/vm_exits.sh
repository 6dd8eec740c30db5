#!/usr/bin/env bash
# The guest's exits, as KVM counts them: none for a read through the polled bridge, beyond what a guest exits for that does nothing.
#
# This machine's KVM may not be one that counts, or may not be there. So an outer guest under emulation, whose emulated processor has SVM,
# runs KVM, the bridge, and an inner guest; its debugfs is read around each piece of the inner guest's work (vm_exits/outer, inner). Two loads
# that do exit, a target that asks for a doorbell and Linux's own driver with its interrupts, show that the counter counts.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"

polled_reads=${FILER_EXITS_READS:-200000}
other_reads=4000  # each of which exits: enough to tell
# The most that a read may cost beyond idleness, and what one surely costs that rings or is rung. To the first comes a quarter of what idleness
# itself costs per read, for its unevenness: next to nothing on a quiet machine, where a read takes a microsecond or two.
polled_max=0.01
exiting_min=0.3
boot_s=${FILER_EXITS_BOOT_S:-150}
work_s=600

# with_libraries TREE FILE...: copies programs to TREE/bin, and what they link to where they look for it.
with_libraries() {
  local tree=$1 library
  shift
  cp -L "$@" "$tree/bin/"
  while read -r library; do
    cp -L --parents "$library" "$tree"
  done < <(ldd "$@" | grep -oE '/[^ ]+\.so[^ ]*' | sort -u)
}

# modules NAME... FOLDER: the kernel's modules with those they need, named in the order to load them.
modules() {
  local folder=${*: -1} release name needed path number=10
  release=$(ls "$scratch/image/usr/lib/modules")
  mkdir -p "$folder"
  for name in "${@:1:$#-1}"; do
    needed=$(modprobe -d "$scratch/image/usr" -S "$release" --show-depends "$name") || fail "the image has no module $name"
    while read -r path; do
      [[ -n $(find "$folder" -name "*-${path##*/}") ]] && continue
      cp "$path" "$folder/$((number++))-${path##*/}"
    done < <(sed -n 's/^insmod \([^ ]*\).*/\1/p' <<<"$needed")
  done
}

new_tree() {
  mkdir -p "$1"/{bin,dev,proc,sys,run,tmp,lib64}
  cp "$scratch/image/usr/bin/busybox" "$1/bin/"
  ln -s busybox "$1/bin/sh"
  mknod "$1/dev/console" c 5 1
}

pack() { (cd "$1" && find . -print0 | cpio --null --quiet -o -H newc) >"$2"; }

make_inner() {
  local tree=$scratch/inner
  new_tree "$tree"
  install -m 755 "$here/vm_exits/inner" "$tree/init"
  with_libraries "$tree" "$bin/exit-load"
  mkdir -p "$tree/var/run"  # where DPDK has a folder of its own
  modules virtio_pci virtio_blk "$tree/modules"
  pack "$tree" "$scratch/inner.cpio"
}

# QEMU's own files are copied from where it looks for them.
make_outer() {
  local tree=$scratch/outer folder file
  new_tree "$tree"
  install -m 755 "$here/vm_exits/outer" "$tree/init"
  with_libraries "$tree" "$bin"/{host-bridge,bridge-status} "$(command -v qemu-system-x86_64)" "$(command -v qemu-storage-daemon)"
  while read -r folder; do
    for file in bios-256k.bin pvh.bin linuxboot_dma.bin kvmvapic.bin; do
      [[ -f $folder/$file ]] && cp -L --parents "$folder/$file" "$tree"
    done
  done < <(qemu-system-x86_64 -L help)
  modules kvm_amd "$tree/modules/outer"
  cp -r "$scratch/inner/modules" "$tree/modules/inner"
  mkdir "$tree/inner"
  cp "$1/kernel" "$tree/inner/kernel"
  cp "$scratch/inner.cpio" "$tree/inner/initrd"
  pack "$tree" "$scratch/outer.cpio"
}

start_outer() {
  : >"$scratch/console"
  qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -boot strict=on \
    -machine q35,hpet=off,vmport=off,usb=off -accel tcg,thread=multi,tb-size=256 -cpu max -smp 2 -m 1536M \
    -kernel "$1/kernel" -initrd "$scratch/outer.cpio" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable no_timer_check cryptomgr.notests lsm= audit=0 \
nearmetal.polled_reads=$polled_reads nearmetal.other_reads=$other_reads" \
    -chardev "file,id=console,path=$scratch/console" -serial chardev:console 2>"$scratch/qemu.log" &
  outer=$!
}

said() { tr -d '\r' <"$scratch/console" | grep "^@ $1" || true; }

# Waits until the outer guest says a word, or its end; 1 when neither comes for so long.
wait_for() {
  local deadline=$((SECONDS + $2))
  until [[ -n $(said "$1")$(said end) ]]; do
    kill -0 "$outer" 2>/dev/null || return 0
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

end_outer() {
  kill -KILL "$outer" 2>/dev/null || true
  wait "$outer" 2>/dev/null || true
}

# KVM inside emulation stands still now and then, mostly while it boots. What is tried again is only that: a guest that says nothing more.
# A read that was answered wrongly, a program that failed and a count that is too high are failures at once.
run_guests() {
  local try
  for try in 1 2 3; do
    start_outer "$1"
    if wait_for up "$boot_s" && [[ -n $(said up) ]]; then wait_for end "$work_s" || true; fi
    [[ -z $(said 'end finished') ]] || return 0
    [[ -z $(said 'end failed') ]] || fail "the guests failed: $(tail -n 60 "$scratch/console")"
    note "try $try stands still: $(said '' | tail -n 1)$(tail -n 2 "$scratch/qemu.log")"
    end_outer
  done
  fail "the guests stood still three times: $(tail -n 60 "$scratch/console")"
}

at_end() { [[ -z ${outer:-} ]] || end_outer; }

# PHASE READS DOORBELLS EXITS IDLE_EXITS OWN_EXITS OWN_IDLE_EXITS, the sums of a phase's rounds. "Own" are those that the guest did or that
# came to it: all but those in which an interrupt of the host, its clock mostly, only passed through.
sums() {
  said round | awk '
    !($3 in reads) { order[++count] = $3 }
    { reads[$3] += $4; doorbells[$3] += $5; all[$3] += $6; idle[$3] += $8; own[$3] += $6 - $7; own_idle[$3] += $8 - $9 }
    END { for (i = 1; i <= count; ++i) { p = order[i]; print p, reads[p], doorbells[p], all[p], idle[p], own[p], own_idle[p] } }'
}

print_table() {
  printf '%-34s %8s %9s %8s %8s %8s %8s %10s\n' load reads doorbells exits idle own idle own/read
  awk '
    BEGIN { name["polled_1"] = "polled bridge, depth 1"; name["polled_32"] = "polled bridge, depth 32"
      name["asking_1"] = "qemu-storage-daemon, depth 1"; name["kernel_1"] = "driver of Linux, polled bridge" }
    { printf "%-34s %8d %9d %8d %8d %8d %8d %10.4f\n", name[$1], $2, $3, $4, $5, $6, $7, ($6 - $7) / $2 }' "$scratch/sums"
}

# hold PHASE CONDITION: an awk condition on reads, doorbells, e (own exits per read beyond the idle ones) and idle (own idle ones per read).
hold() {
  awk -v phase="$1" '$1 == phase { reads = $2; doorbells = $3; e = ($6 - $7) / $2; idle = $7 / $2; holds = ('"$2"') }
    END { exit !holds }' "$scratch/sums" || fail "$1 does not hold: $2"
}

main() {
  local image phase
  scratch=$(mktemp -d /tmp/nm.XXXXXX)
  home=$scratch
  trap cleanup EXIT
  image=$(client_image)
  unsquashfs -quiet -no-progress -d "$scratch/image" "$image/root.squashfs" usr/bin/busybox usr/lib/modules >/dev/null
  make_inner
  make_outer "$image"
  run_guests "$image"
  end_outer
  sums >"$scratch/sums"
  print_table
  for phase in polled_1 polled_32; do
    hold "$phase" "reads > 0 && doorbells == 0"
    hold "$phase" "e < $polled_max + idle / 4"
  done
  hold asking_1 "e > $exiting_min"
  hold kernel_1 "e > $exiting_min"
}

main
