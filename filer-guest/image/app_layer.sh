# app_layer.sh: our binaries, and the image made of both layers. Read by build-image, which sets
# here, bin, ganesha, flavor, agent_only, refresh, out, work and the arrays of the flavor.

say() { echo "image: $*" >&2; }
die() { echo "build-image: $*" >&2; exit 1; }

# Hash of names and contents of files, in a fixed order.
hash_files() { (cd "$1" && find . \( -type f -o -type l \) -print0 | sort -z | xargs -0 sha256sum --) | sha256sum | cut -c1-64; }

find_program() {
  local dir
  for dir in "$bin" "$bin/../lib"; do
    [[ -f $dir/$1 ]] && readlink -f "$dir/$1" && return
  done
  die "$1 is not in $bin or $bin/../lib: build it first"
}

# Copies what is ours into $1/{bin,lib} and sets derived_packages to the Debian packages of the
# libraries that it links.
collect_binaries() {
  local target=$1 plugin
  mkdir -p "$target"/{bin,lib,ganesha}
  local init=filer-agent
  [[ $flavor == client ]] && init=client-agent
  install -m 755 "$(find_program $init)" "$target/bin/$init"
  if [[ $flavor == filer && $agent_only == no ]]; then
    install -m 755 "$ganesha/install/bin/ganesha.nfsd" "$target/bin/"
    install -m 755 "$(find_program libfsalnearmetal.so)" "$target/ganesha/"
    for plugin in $ganesha_plugins; do
      install -m 755 "$ganesha/install/lib/ganesha/$plugin" "$target/ganesha/"
    done
  fi
  ln -s "bin/$init" "$target/init"
  collect_libraries "$target"
  find "$target" -type f -exec strip --strip-debug {} +
}

# Libraries of the collected binaries: those of no Debian package are copied, the rest named.
collect_libraries() {
  local target=$1 library owner
  local -A owners=()
  local search="$bin/../lib:$target/lib"
  [[ -n $ganesha ]] && search="$ganesha/install/lib:$ganesha/install/lib64:$search"
  find "$target" -type f -exec env LD_LIBRARY_PATH="$search" ldd {} + >"$work/ldd" 2>/dev/null || true
  if grep -q 'not found' "$work/ldd"; then
    die "a library is missing: $(grep -m1 'not found' "$work/ldd" | xargs)"
  fi
  while read -r library; do
    if owner=$(owner_of "$library"); then
      owners[$owner]=1
    else
      install -m 755 "$(readlink -f "$library")" "$target/lib/$(basename "$library")"
    fi
  done < <(awk '$2 == "=>" && $3 ~ /^\// {print $3}' "$work/ldd" | sort -u)
  if grep -q librte_eal "$work/ldd"; then
    for owner in "${packages_with_dpdk[@]}"; do owners[$owner]=1; done
  fi
  mapfile -t derived_packages < <(printf '%s\n' "${!owners[@]}" | sed '/^$/d' | sort)
}

# The Debian package of a library. The machine's /lib may be /usr/lib, dpkg knows one of the names.
owner_of() {
  local real path
  real=$(readlink -f "$1")
  for path in "$1" "$real" "/usr$1" "${real#/usr}" "${1#/usr}"; do
    dpkg-query -S "$path" 2>/dev/null | head -1 | cut -d: -f1 | grep . && return
  done
  return 1
}

# The image: the Debian layer with ours appended, the initrd, the manifest.
app_image() {
  local app inputs made=$work/image
  compile_init
  app=$(hash_files "$work/nearmetal")
  inputs=$(printf '%s\n' "$base" "$app" "$(sha256sum <"$work/init")" "$(sha256sum <"$here/build-image")" |
    sha256sum | cut -c1-64)
  local versions
  versions=$(product_versions)
  version=$flavor-$(sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' <<<"$versions")-${inputs:0:12}
  [[ -f $out/$version/manifest.json ]] && return
  say "making image $version"
  mkdir -p "$made"
  cp "$base/kernel" "$made/kernel"
  cp "$base/base.squashfs" "$made/root.squashfs"
  mkdir "$work/app" && mv "$work/nearmetal" "$work/app/nearmetal"
  mksquashfs "$work/app" "$made/root.squashfs" -all-root -quiet -no-progress >/dev/null
  make_initrd "$made/initrd"
  write_manifest "$made" "$inputs" "$versions" >"$work/manifest.json"
  mv "$work/manifest.json" "$made/manifest.json"
  sync -f "$made"
  rm -rf "${out:?}/$version"
  mv -T "$made" "$out/$version"
}

compile_init() {
  "${CXX:-g++}" -std=c++20 -Os -static -fno-exceptions -fno-rtti -o "$work/init" "$here/init/init.cc" ||
    die "the initrd's init did not compile"
  strip "$work/init"
}

make_initrd() {
  local tree=$work/initrd
  mkdir -p "$tree"/{dev,proc,sys,modules}
  install -m 755 "$work/init" "$tree/init"
  cp "$base/initrd-modules/"* "$tree/modules/"
  # The kernel opens /dev/console before init has mounted /dev.
  mknod "$tree/dev/console" c 5 1
  (cd "$tree" && find . -print0 | sort -z | cpio --null --quiet -o -H newc --reproducible) >"$1"
}

# {"version": ..., "volume_format": ..., "state_format": ...} as the agent was compiled.
product_versions() {
  local agent=filer-agent
  [[ $flavor == client ]] && agent=client-agent
  LD_LIBRARY_PATH="$bin/../lib" "$(find_program $agent)" --versions
}

write_manifest() {
  local made=$1 inputs=$2 versions=$3 name comma=''
  printf '{\n  "schema": "filer.image/1",\n  "version": "%s",\n  "flavor": "%s",\n' "$version" "$flavor"
  printf '  "product": %s,\n  "kernel_release": "%s",\n  "inputs_sha256": "%s",\n  "files": {' \
    "$versions" "$(<"$base/kernel-release")" "$inputs"
  for name in kernel initrd root.squashfs; do
    printf '%s\n    "%s": {"sha256": "%s", "bytes": %d}' "$comma" "$name" \
      "$(sha256sum "$made/$name" | cut -c1-64)" "$(stat -c %s "$made/$name")"
    comma=,
  done
  printf '\n  },\n  "packages": {'
  comma=''
  local package package_version
  while read -r package package_version; do
    printf '%s\n    "%s": "%s"' "$comma" "$package" "$package_version"
    comma=,
  done <"$base/packages"
  printf '\n  }\n}\n'
}

# Plug-ins of the pinned Ganesha that the image takes besides our own.
ganesha_plugins=''
