# shellcheck shell=bash
# debian.sh: what the bootstrap and the third-party builds know about Debian's archive. Sourced, never run.
#
# The archive's address is always taken from the machine's own apt sources (one-line or deb822 format), so
# no host is named in this project and the machine's proxy, authentication and mirror choice stay in force.
# Everything happens in a private folder: the machine's own sources, lists and pins are never changed.

# The folder that outlives builds: downloads, third-party builds, guest images, ccache.
filer_cache_dir() {
  printf '%s\n' "${FILER_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/nearmetal}"
}

# One line that says what is wrong and how to mend it, then the end.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Prints the address of the Debian archive that this machine uses, without a slash at the end.
# "apt-get update --print-uris" reads both source formats, downloads nothing, and works before any update.
debian_mirror() {
  local scratch uris codename mirror
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  scratch=$(mktemp -d)
  uris=$(apt-get update --print-uris -o Dir::State::lists="$scratch" 2>/dev/null) || true
  rm -rf "$scratch"
  # Lines look like: 'SCHEME://HOST/PATH/dists/SUITE/InRelease' FILE 0
  mirror=$(sed -nE "s,^'([a-z+]+:.*[^/])/+dists/(${codename:-none}|stable|oldstable)/InRelease' .*,\1,p" \
    <<<"$uris" | head -n 1)
  [[ -n $mirror ]] || die "found no Debian archive in this machine's apt sources; add Debian's main archive to" \
    "/etc/apt/sources.list and run again"
  printf '%s\n' "$mirror"
}

# private_apt FOLDER PROGRAM ARGUMENTS...: runs an apt program with sources, lists and pins of FOLDER only.
# Options on the command line win over every configuration file. The machine's dpkg status stays visible.
private_apt() {
  local folder=$1 program=$2
  shift 2
  "$program" \
    -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences="$folder/preferences" -o Dir::Etc::preferencesparts=/dev/null \
    -o Dir::State::lists="$folder/lists" \
    -o Dir::Cache="$folder/cache" -o Dir::Cache::archives="$folder/cache/archives" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
    -o Acquire::Languages=none -o Acquire::Retries=3 \
    -o APT::Sandbox::User="$(id -un)" \
    -o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success= \
    "$@"
}

# private_apt_setup FOLDER TYPE SUITE...: makes FOLDER a configuration for suites of the machine's archive
# and downloads their lists. TYPE is deb or deb-src.
private_apt_setup() {
  local folder=$1 type=$2 suite mirror signed_by=
  shift 2
  mirror=$(debian_mirror)
  [[ -r /usr/share/keyrings/debian-archive-keyring.gpg ]] &&
    signed_by='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] '
  mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
  : >"$folder/preferences"
  for suite in "$@"; do
    printf '%s %s%s %s main\n' "$type" "$signed_by" "$mirror" "$suite"
  done >"$folder/sources.list"
  private_apt "$folder" apt-get update -qq ||
    die "could not read the lists of $* from the machine's Debian archive ($mirror); check the network and the mirror"
}
