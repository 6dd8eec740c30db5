# shellcheck shell=bash
# third_party.sh: downloads pinned Debian 13 source packages and builds them once. Sourced, never run.
#
# A build script sources this file, defines `build_product DOWNLOADS STAGE PREFIX`, which fills STAGE/{src,build,install}
# and may rely on PREFIX being the final place of install/, and calls `third_party_main NAME FOLDER`. Beside it lie
#   sources.txt  one line per file: SHA256 SOURCE_PACKAGE FILE   (the hash is what we trust, not the mirror)
#   patches/     optional: our own changes, *.patch
# Only upstream's tarballs are pinned. Debian's packaging beside them is replaced at every point release, and then it
# is gone from the mirrors; nothing in it matters for the parts that we build.
# The result is CACHE/NAME-<key>/{src,build,install}. The key is a hash of the script, its pins and its patches, so a
# change of any of them is a new folder. The folder appears by one rename when all is done: it is whole or not there.
# A lock makes a second build wait for the first and then find its result.

source "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

# Raise when this file changes what a build contains.
THIRD_PARTY_RECIPE=1

third_party_key() {
  local folder=$1
  (
    cd "$folder"
    printf 'recipe %s\n' "$THIRD_PARTY_RECIPE"
    # A build links the release's own libraries, so another release or processor needs another build.
    (. /etc/os-release && printf '%s %s %s\n' "$ID" "$VERSION_ID" "$(uname -m)")
    sha256sum build sources.txt
    if [[ -d patches ]]; then sha256sum patches/*.patch; fi
  ) | sha256sum | cut -c1-12
}

has_sha256() {
  [[ -f $1 ]] && [[ $(sha256sum <"$1") == "$2  -" ]]
}

# Downloads what is missing of the files in sources.txt. Each file is verified, then renamed into place.
fetch_sources() {
  local folder=$1 downloads=$2 scratch='' sha package file address
  mkdir -p "$downloads"
  while read -r sha package file; do
    has_sha256 "$downloads/$file" "$sha" && continue
    if [[ -z $scratch ]]; then
      # Below the stage, which the next build clears if this one is killed.
      scratch=$THIRD_PARTY_STAGE/apt
      private_apt_setup "$scratch" deb-src trixie
    fi
    # Only addresses are taken from apt-get source: a mirror may lack a file of the package that we do not need.
    address=$(private_apt "$scratch" apt-get source -qq --print-uris --only-source "$package" 2>/dev/null |
      awk -v q="'" -v file="$file" '$2 == file { gsub(q, "", $1); print $1 }')
    [[ -n $address ]] || die "the Debian archive no longer lists $file of $package;" \
      "put a copy with SHA-256 $sha into $downloads"
    /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 \
      download-file "$address" "$scratch/$file" "SHA256:$sha" ||
      die "could not download $file from the Debian archive; put a copy with SHA-256 $sha into $downloads"
    has_sha256 "$scratch/$file" "$sha" || die "$file from the Debian archive is not the pinned one (SHA-256 $sha)"
    mv "$scratch/$file" "$downloads/$file"
  done < <(grep -v '^ *\(#\|$\)' "$folder/sources.txt")
  [[ -z $scratch ]] || rm -rf "$scratch"
}

apply_patches() {
  local source_dir=$1 patch
  shift
  for patch in "$@"; do
    patch -d "$source_dir" -p1 --forward --no-backup-if-mismatch --quiet <"$patch" ||
      die "patch ${patch##*/} does not apply"
  done
}

# unpack_source ARCHIVE TARGET [PATCH...]: the archive's one folder becomes TARGET.
unpack_source() {
  local archive=$1 target=$2
  shift 2
  mkdir -p "$target"
  tar -xf "$archive" -C "$target" --strip-components=1 --no-same-owner
  apply_patches "$target" "$@"
}

third_party_jobs() {
  printf '%s\n' "${FILER_JOBS:-$(nproc)}"
}

# Options for every CMake build of somebody else's code. The build runs in a folder that is renamed afterwards:
# debug information and __FILE__ name the final one.
third_party_cmake() {
  local launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
  cmake -G Ninja -Wno-dev -DCMAKE_BUILD_TYPE=RelWithDebInfo "${launcher[@]}" \
    -DCMAKE_C_FLAGS="-ffile-prefix-map=$THIRD_PARTY_STAGE=$THIRD_PARTY_RESULT" "$@"
}

# Builds under the lock unless the result is there. Everything said by the tools goes to a log.
third_party_build_locked() {
  local name=$1 folder=$2 cache=$3 log=$4
  [[ -d $THIRD_PARTY_RESULT ]] && return 0
  printf '%s: building (log: %s)\n' "$name" "$log" >&2
  # Left by a build that was killed: nobody else can be here while we hold the lock.
  rm -rf "$THIRD_PARTY_STAGE"
  mkdir -p "$THIRD_PARTY_STAGE"/{src,build}
  # A subshell of its own, so that "set -e" holds inside although its status is looked at here.
  set +e
  (
    set -euo pipefail
    fetch_sources "$folder" "$cache/downloads"
    build_product "$cache/downloads" "$THIRD_PARTY_STAGE" "$THIRD_PARTY_RESULT/install"
  ) >"$log" 2>&1 9>&-
  local status=$?
  set -e
  if ((status != 0)); then
    tail -n 25 "$log" >&2
    die "building $name failed, see $log"
  fi
  mv -T "$THIRD_PARTY_STAGE" "$THIRD_PARTY_RESULT"
}

# third_party_main NAME FOLDER: prints the result's folder as its last line.
third_party_main() {
  local name=$1 folder=$2 cache key
  cache=$(filer_cache_dir)
  mkdir -p "$cache"
  key=$(third_party_key "$folder")
  THIRD_PARTY_RESULT=$cache/$name-$key
  THIRD_PARTY_STAGE=$cache/.building-$name-$key
  export CCACHE_DIR=${CCACHE_DIR:-$cache/ccache}
  if [[ ! -d $THIRD_PARTY_RESULT ]]; then
    exec 9>"$cache/$name.lock"
    flock -n 9 || { printf '%s: waiting for another build of it\n' "$name" >&2 && flock 9; }
    third_party_build_locked "$name" "$folder" "$cache" "$cache/$name-$key.log"
    exec 9>&-
  fi
  # "current" for people and for hand-made CMake calls; replaced in one step.
  if [[ $(readlink "$cache/$name" || true) != "$name-$key" ]]; then
    ln -sfn "$name-$key" "$cache/.$name.$$" && mv -T "$cache/.$name.$$" "$cache/$name"
  fi
  printf '%s\n' "$THIRD_PARTY_RESULT"
}
