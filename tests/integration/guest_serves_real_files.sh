#!/usr/bin/env bash
# The main job: a guest serves files that nobody here wrote, over NFS and SMB, through the polled bridge, and every byte, mode, link and
# time is compared. In the middle of the copy QEMU is killed; what was acknowledged is there afterwards, and the copy goes on. At the end
# nothing is left but a sound volume. Usage: guest_serves_real_files.sh [FILES BYTES]
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"
small_files=${1:-7400}       # of /usr/share
large_bytes=${2:-250000000}  # of larger files, of /usr/lib

check_mount_lines() {
  [[ $(tail -n 2 "$home/up.out" | head -n 1) == "mount -t nfs -o vers=4.2,port=$nfs_port 127.0.0.1:/share /mnt" ]] ||
    fail "up does not end with the NFS mount line: $(tail -n 2 "$home/up.out")"
  [[ $(tail -n 1 "$home/up.out") == "mount -t cifs "*"//127.0.0.1/share /mnt" ]] ||
    fail "up does not end with the SMB mount line: $(tail -n 1 "$home/up.out")"
}

check_status() {
  [[ $(status_of .schema) == filer.status/1 ]] || fail "schema"
  [[ $(status_of .mode) == guest ]] || fail "mode $(status_of .mode)"
  [[ $(status_of .accel) =~ ^(kvm|tcg)$ ]] || fail "accelerator $(status_of .accel)"
  [[ -n $(status_of .accel_reason) ]] || fail "no reason for the accelerator"
  [[ $(status_of '.exports[0].nfs_url') == *"nfsport=$nfs_port"* ]] || fail "nfs_url"
}

# The data path makes no copy and waits for no interrupt.
check_counters() {
  filer status
  [[ $(status_of .bridge.copied_bytes_per_io) =~ ^0(\.0)?$ ]] ||
    fail "the bridge copied $(status_of .bridge.copied_bytes_per_io) bytes per request"
  [[ $(status_of .bridge.interrupts_per_io) =~ ^0(\.0)?$ ]] ||
    fail "the bridge raised $(status_of .bridge.interrupts_per_io) interrupts per request"
  [[ $(status_of .engine.counters.copied_read_bytes) == 0 ]] ||
    fail "the engine copied $(status_of .engine.counters.copied_read_bytes) bytes on reads"
}

kill_guest_in_the_middle() {
  copy_until $((small_files * 2 / 5))
  note "killing QEMU after $(names) files"
  kill -KILL "$(state_pid filer)"
  wait "$copy_pid" && fail "the copy did not notice that its server died"
  note "the copy ended: $(tail -n 1 "$home/copy.out")"
  filer up
  note "comparing what was acknowledged, over NFSv4: $(names) names"
  touch "$home/journal.1"
  journals=yes each_tree compare 4
}

check_input() {
  local files bytes
  files=$(sed -n 's/^copied: \([0-9]*\) files.*/\1/p' "$home/copy.out" | paste -sd+ | bc)
  bytes=$(sed -n 's/.* \([0-9]*\) bytes.*/\1/p' "$home/copy.out" | paste -sd+ | bc)
  ((files >= 10000)) || fail "only $files files were copied"
  ((bytes >= 300000000)) || fail "only $bytes bytes were copied"
}

# What one smbclient of four fetches of a tree: of all names of the second level, and the files above, every fourth.
smb_list() {
  local tree=$1 number=$2
  cut -d/ -f1,2 "$home/journal.$tree" | sort -u | while IFS= read -r name; do
    local original=${sources[$tree]}/$name
    [[ -L $original || ($name != */* && -d $original) ]] || echo "${name//\//\\}"
  done | awk -v number="$number" 'NR % 4 == number' >"$home/list.$tree.$number"
}

# Samba serves the user `nobody`, who reads what the world may read.
read_some_over_smb() {
  local tree=$1 number=$2
  smb_list "$tree" "$number"
  # In the C locale smbclient writes zeroes for a file whose name is not ASCII.
  LC_ALL=C.UTF-8 smbclient "//127.0.0.1/share" -p "$smb_port" -U "filer%$(cat "$home/smb.password")" -m SMB3 -t 120 \
    -c "cd ${targets[$tree]#/}; tar cF $home/smb.$tree.$number.tar $home/list.$tree.$number" \
    >"$home/smbclient.$tree.$number" 2>&1 || return 1
  tar -C "$home/smb" -xf "$home/smb.$tree.$number.tar"
  rm "$home/smb.$tree.$number.tar"
}

# Four clients at a time.
read_over_smb() {
  local tree number pid pids
  mkdir "$home/smb"
  for tree in "${!targets[@]}"; do
    pids=()
    for number in 0 1 2 3; do
      read_some_over_smb "$tree" "$number" &
      pids+=($!)
    done
    for pid in "${pids[@]}"; do
      wait "$pid" || fail "smbclient: $(tail -qn 2 "$home"/smbclient.*)"
    done
  done
}

# Every regular world-readable file that was copied: bytes and modification time (in seconds: what tar keeps). SMB shows symbolic links as
# what they point to, and no modes: those were compared over NFS.
compare_over_smb() {
  local tree count=0
  for tree in "${!sources[@]}"; do
    (cd "${sources[$tree]}" && xargs -d '\n' stat -c '%A %n' <"$home/journal.$tree") | sed -n 's/^-......r.. //p' >"$home/readable"
    diff <(digests "${sources[$tree]}") <(digests "$home/smb${targets[$tree]}") >"$home/smb.diff" ||
      fail "over SMB files differ: $(head -n 5 "$home/smb.diff")"
    count=$((count + $(wc -l <"$home/readable")))
  done
  ((count >= 10000)) || fail "only $count files were compared over SMB"
  note "compared over SMB: $count files"
}

# Size, time and content of the files in $home/readable, below $1.
digests() {
  (cd "$1" && xargs -d '\n' stat -c '%Y %s %n' && xargs -d '\n' sha256sum <"$home/readable") <"$home/readable" 2>&1
}

main() {
  new_filer </dev/null
  filer volume create main
  filer up | tee "$home/up.out"
  check_mount_lines
  check_status
  real_input "$small_files" "$large_bytes"
  note "copying over NFSv3"
  kill_guest_in_the_middle
  note "going on with the copy"
  journals=yes each_tree copy 3 | tee "$home/copy.out"
  check_input
  note "comparing over NFSv3"
  each_tree compare 3
  note "comparing over SMB"
  read_over_smb
  compare_over_smb
  check_counters
  expect_served_volume
  note "restarting: all must be there after a boot, also what is not in a cache"
  filer down
  expect_nothing_left
  expect_sound_volume
  filer up
  sources=(/usr/lib) targets=(/large) limits=("${limits[1]}")
  each_tree compare 4
  filer down
  expect_nothing_left
}

main
