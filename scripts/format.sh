#!/bin/bash
# clang-format over all C and C++ of the tree.
#
#   scripts/format.sh           rewrites the files
#   scripts/format.sh --check   changes nothing; prints what differs, exit status 1 if anything does
set -euo pipefail
cd "$(dirname "$0")/.."

folders=()
for folder in src tests bench; do
  [[ -d $folder ]] && folders+=("$folder")
done
files() { find "${folders[@]}" -type f \( -name '*.h' -o -name '*.cc' -o -name '*.c' \) -print0 | sort -z; }

case "${1:-}" in
  --check) files | xargs -0 -r clang-format --dry-run --Werror ;;
  "") files | xargs -0 -r clang-format -i ;;
  *)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac
