#!/bin/bash
# Installs, from Debian 12's own packages, what Leap needs and this machine lacks.
#
#   scripts/install-deps.sh           everything: build, tests, lint
#   scripts/install-deps.sh build     only what `make` needs
#
# Silent and quick when nothing is missing. Without root (or a sudo that asks nothing) it installs nothing, prints the
# one command to run, and exits with status 1. Needs no earlier `apt-get update`.
set -euo pipefail

# The one list. librocksdb-dev, libspdlog-dev and libcpp-httplib-dev bring the -dev packages they link against.
build_packages=(
  g++ make cmake ninja-build pkg-config python3
  librocksdb-dev libprotobuf-dev protobuf-compiler liburing-dev libspdlog-dev libfmt-dev libtomlplusplus-dev
  libcli11-dev libisal-dev libcpp-httplib-dev nlohmann-json3-dev
  libgtest-dev libgmock-dev libbenchmark-dev librapidcheck-dev
)
# ccache makes the second build quick. clang-tidy 16 is the first of Debian 12's that knows all of C++20.
test_packages=(ccache clang-format clang-tidy-16)
# The Linux peers of tests/interop run in these. Without them those tests say SKIPPED, and all others run.
peer_packages=(qemu-system-x86 busybox-static)

case "${1:-all}" in
  all) wanted=("${build_packages[@]}" "${test_packages[@]}") welcome=("${peer_packages[@]}") ;;
  build) wanted=("${build_packages[@]}") welcome=() ;;
  *)
    echo "usage: $0 [all|build]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install-deps: not a Debian system, nothing checked; Leap needs the equivalents of: ${wanted[*]}" >&2
  exit 0
fi

# dpkg-query fails for unknown packages and prints the state of the others: what is not "ii" is missing.
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${wanted[@]}" "${welcome[@]}" 2>/dev/null |
  sed -n 's/^.i. *//p' || true)
missing=() missed=()
for package in "${wanted[@]}"; do
  grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done
for package in "${welcome[@]}"; do
  grep -qxF -- "$package" <<<"$installed" || missed+=("$package")
done
[[ ${#missing[@]} -eq 0 && ${#missed[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  elif [[ ${#missing[@]} -eq 0 ]]; then
    echo "install-deps: without root, going on without: ${missed[*]} (for tests/interop)" >&2
    exit 0
  else
    command="apt-get update && apt-get install -y --no-install-recommends ${missing[*]} ${missed[*]}"
    command -v sudo >/dev/null && become="sudo sh -c" || become="su -c"
    {
      echo "install-deps: ${#missing[@]} packages are missing and installing them needs root. Run this, then try again:"
      echo
      echo "  $become '$command'"
      echo
    } >&2
    exit 1
  fi
fi

echo "install-deps: installing missing packages: ${missing[*]} ${missed[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null >>"$log" 2>&1
}
# A broken third-party source makes `update` fail although Debian's own lists are fresh: only `install` decides.
apt update || true
if [[ ${#missing[@]} -gt 0 ]] && ! apt install --no-install-recommends "${missing[@]}"; then
  tail -n 30 "$log" >&2
  echo "install-deps: apt-get could not install: ${missing[*]}" >&2
  exit 1
fi
if [[ ${#missed[@]} -gt 0 ]] && ! apt install --no-install-recommends "${missed[@]}"; then
  tail -n 5 "$log" >&2
  echo "install-deps: going on without: ${missed[*]} (for tests/interop)" >&2
fi
