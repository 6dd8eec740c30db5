#!/usr/bin/env bash
# The main job: a guest serves files that nobody here wrote, over NFS and SMB, through the polled bridge, and every byte, mode, link and
# time is compared. At the end nothing is left but a sound volume. Usage: guest_serves_real_files.sh [FILES BYTES]
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"
files=${1:-10200}        # small ones, of /usr/share
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

# Bytes and times over SMB. Samba serves the user `nobody`, who reads what the world may read; symbolic links are seen as what they
# point to, so regular files are compared.
read_over_smb() {
  local password
  password=$(cat "$home/smb.password")
  mkdir "$home/smb"
  (cd "$home/smb" && smbclient "//127.0.0.1/share" -p "$smb_port" -U "filer%$password" -m SMB3 \
    -c 'tar c all.tar real large' >"$home/smbclient.out" 2>&1) ||
    fail "smbclient: $(tail -n 3 "$home/smbclient.out")"
  tar -C "$home/smb" -xf "$home/smb/all.tar"
  rm "$home/smb/all.tar"
}

# Every regular world-readable file that was copied: bytes and modification time (in seconds: what tar keeps).
compare_over_smb() {
  local tree path count=0
  for tree in "${!sources[@]}"; do
    while IFS= read -r path; do
      local original=${sources[$tree]}/$path copy=$home/smb${targets[$tree]}/$path
      [[ -f $original && ! -L $original ]] || continue
      (($(stat -c %a "$original") & 4)) || continue
      cmp -s "$original" "$copy" || fail "over SMB $path differs"
      [[ $(stat -c %Y "$original") == $(stat -c %Y "$copy") ]] || fail "over SMB $path has another time"
      count=$((count + 1))
    done <"$home/journal.$tree"
  done
  ((count >= 9000)) || fail "only $count files were compared over SMB"
  note "compared over SMB: $count files"
}

check_input() {
  local files bytes
  files=$(cat "$home"/journal.* | wc -l)
  bytes=$(sed -n 's/.* \([0-9]*\) bytes.*/\1/p' "$home/copy.out" | paste -sd+ | bc)
  ((files >= 10000)) || fail "only $files files were copied"
  ((bytes >= 300000000)) || fail "only $bytes bytes were copied"
}

main() {
  new_filer </dev/null
  filer volume create main
  filer up | tee "$home/up.out"
  check_mount_lines
  check_status
  real_input "$files" "$large_bytes"
  note "copying over NFSv3"
  journals=yes each_tree copy 3 | tee "$home/copy.out"
  check_input
  note "comparing over NFSv4"
  each_tree compare 4
  note "comparing over SMB"
  read_over_smb
  compare_over_smb
  filer status
  [[ $(status_of .bridge.copied_bytes_per_io) =~ ^0(\.0)?$ ]] ||
    fail "the bridge copied $(status_of .bridge.copied_bytes_per_io) bytes per request"
  [[ $(status_of .engine.counters.copied_read_bytes) == 0 ]] ||
    fail "the engine copied $(status_of .engine.counters.copied_read_bytes) bytes on reads"
  note "restarting: all must be there after a boot, also what is not in a cache"
  filer down
  expect_nothing_left
  expect_sound_volume
  filer up
  sources=(/usr/lib) targets=(/large) limits=("${limits[1]}")
  each_tree compare 3
  filer down
  expect_nothing_left
}

main
