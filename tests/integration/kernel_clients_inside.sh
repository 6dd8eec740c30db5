# Runs in the client guest, under bash. $nfs_port, $smb_port and $smb_password are set above.
set -Eeuo pipefail
export HOME=/run GIT_CONFIG_GLOBAL=/run/gitconfig GIT_TERMINAL_PROMPT=0 LC_ALL=C
host=10.0.2.2
mkdir -p /run/v3 /run/v42 /run/other /run/smb /run/source

fail() {
  echo "FAIL: $*"
  dmesg | tail -n 15 || true
  exit 1
}
note() { echo "$(cut -d' ' -f1 /proc/uptime) $*"; }
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# nobrl: SQLite turns a shared lock into an exclusive one, which SMB's locks cannot do; so an administrator mounts it like this, and the
# locks are between the programs of one client.
mount_all() {
  mount -t nfs -o "vers=3,port=$nfs_port,mountport=$nfs_port,proto=tcp,mountproto=tcp,nolock" $host:/share /run/v3
  mount -t nfs -o "vers=4.2,port=$nfs_port" $host:/share /run/v42
  mount -t nfs -o "vers=4.2,port=$nfs_port,nosharecache" $host:/share /run/other
  mount -t cifs -o "vers=3.1.1,port=$smb_port,username=filer,password=$smb_password,uid=0,gid=0,nobrl" //$host/share /run/smb
}

# Files that nobody here wrote: what this image consists of. No large binaries: what large files do, guest_serves_real_files shows, and
# an emulated client takes its time for each byte.
make_source() {
  (cd /usr && find lib/git-core share/git-core sbin lib/tmpfiles.d ! -type f -print0 -o -size -1000k -print0 |
    tar --null --no-recursion -T - -cf /run/source.tar)
  tar -C /run/source -xf /run/source.tar
  tar -C /run/source --format=posix -cf /run/source.tar .  # with the folders above, whose times are compared, too
  list_of /run/source >/run/list.source
  # SMB has no symbolic links here: regular files only.
  mkdir /run/plain
  (cd /run/source && find sbin -type f -print0 | tar --null -T - -cf /run/plain.tar)
  tar -C /run/plain -xf /run/plain.tar
  note "source: $(find /run/source -type f | wc -l) files, $(du -sk /run/source | cut -f1) KiB"
}

# Modes, link texts, sizes and times of everything below a folder.
list_of() { (cd "$1" && find . -printf '%p %y %m %s %l %T@\n' | sed '/ d /s/ d \([0-7]*\) [0-9]* / d \1 /' | sort); }

exercise_nfs() {
  local folder=$1/tree
  mkdir "$folder"
  tar -C "$folder" -xpf /run/source.tar
  diff -r --no-dereference /run/source "$folder" || fail "$1: diff"
  list_of "$folder" >/run/list.copy
  diff /run/list.source /run/list.copy >/run/list.diff || fail "$1: modes, links or times differ: $(head -n 5 /run/list.diff)"
  note "$1: tar extracted and compared"
}

exercise_git() {
  local work=/run/repository
  if [[ ! -d $work ]]; then
    git init -q "$work"
    (cd /run/source/lib && find . -type f -size -100k -print0 | tar --null -T - -cf /run/git.tar)
    mkdir "$work/files"
    tar -C "$work/files" -xf /run/git.tar
    git -C "$work" -c user.name=t -c user.email=t@example.invalid add -A
    git -C "$work" -c user.name=t -c user.email=t@example.invalid commit -q -m one
  fi
  git -c safe.directory='*' clone -q --no-hardlinks "$work" "$1/clone"
  git -c safe.directory='*' -C "$1/clone" fsck --full --strict || fail "$1: git fsck"
  [[ -z $(git -c safe.directory='*' -C "$1/clone" status --porcelain | head -n 3) ]] || fail "$1: git status is not clean"
  note "$1: git clone and fsck"
}

# Two processes insert rows into one database; with a second folder, through two mounts that do not share a cache.
exercise_sqlite() {
  local one=$1/data.db two=${2:-$1}/data.db writer pids=() rows=20
  sqlite3 "$one" 'create table t(writer int, number int, text text);'
  for writer in 1 2; do
    (
      local file=$one number
      ((writer == 2)) && file=$two
      for ((number = 0; number < rows; number++)); do
        sqlite3 -cmd '.timeout 60000' "$file" "insert into t values($writer, $number, hex(randomblob(100)));" || exit 1
      done
    ) &
    pids+=($!)
  done
  for writer in "${pids[@]}"; do wait "$writer" || fail "$1: an SQLite writer failed"; done
  [[ $(sqlite3 "$one" 'pragma integrity_check;') == ok ]] || fail "$1: integrity_check"
  [[ $(sqlite3 "$one" 'select count(*), count(distinct writer) from t;') == "$((2 * rows))|2" ]] || fail "$1: rows are missing"
  rm "$one"
  note "$1: SQLite under two writers"
}

exercise_smb() {
  mkdir /run/smb/tree
  tar -C /run/smb/tree --no-same-owner --no-same-permissions -xf /run/plain.tar
  diff -r /run/plain /run/smb/tree || fail "smb: diff"
  (cd /run/plain && find . -type f -printf '%p %s %Ts\n' | sort) >/run/list.plain
  (cd /run/smb/tree && find . -type f -printf '%p %s %Ts\n' | sort) >/run/list.copy
  diff /run/list.plain /run/list.copy >/run/list.diff || fail "smb: sizes or times differ: $(head -n 5 /run/list.diff)"
  note "smb: copied and compared"
}

# What one wrote, the others see at once.
exercise_together() {
  echo "from nfs 3" >/run/v3/word && chmod 666 /run/v3/word && sync /run/v3/word
  grep -q "from nfs 3" /run/v42/word || fail "v4.2 does not see what v3 wrote"
  grep -q "from nfs 3" /run/smb/word || fail "SMB does not see what v3 wrote"
  echo "from smb" >/run/smb/other-word && sync /run/smb/other-word
  grep -q "from smb" /run/v42/other-word || fail "v4.2 does not see what SMB wrote"
  mv /run/smb/other-word /run/smb/renamed
  grep -q "from smb" /run/v3/renamed || fail "v3 does not see what SMB renamed"
  rm /run/v3/renamed /run/v42/word
  note "coherent"
}

remove_all() {
  local count folder
  count=$(find /run/v42 -type f | wc -l)
  ((count > 100)) || fail "find saw only $count names"
  for folder in /run/v3 /run/smb; do
    [[ $(find $folder -type f | wc -l) == "$count" ]] || fail "find sees $count names over v4.2, others in $folder"
  done
  rm -rf /run/v3/tree /run/v3/clone /run/smb/tree
  [[ -z $(ls -A /run/v42) ]] || fail "rm -rf left $(ls -A /run/v42 | head -n 5)"
  note "find saw $count names, rm -rf left none"
}

main() {
  mount_all
  note mounted
  make_source
  for folder in /run/v3 /run/v42; do
    exercise_nfs $folder
    exercise_git $folder
    rm -rf $folder/tree $folder/clone
  done
  exercise_sqlite /run/v3
  exercise_sqlite /run/v42 /run/other
  exercise_smb
  exercise_git /run/smb
  exercise_sqlite /run/smb
  exercise_together
  remove_all
  umount /run/v3 /run/v42 /run/other /run/smb
}

main
