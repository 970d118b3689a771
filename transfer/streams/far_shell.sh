# The far side of `transfer.streams.dd_store`, for accounts without Python: a POSIX shell and GNU coreutils.
# It comes over standard input, and so do root and names, a line each: nothing of them is ever read as shell code.
# Answers are lines: a word and its figures, or "! " and what a tool said; "beat" while something takes its time.
LC_ALL=C
export LC_ALL
unset CDPATH
nl='
'
exec 3>&1

say() { printf '%s\n' "$1"; }
fail() { printf '! %s\n' "${1%%"$nl"*}"; }

slow() { # runs a command; what it says is in $said, and that it lasts is told
  (cd / && while sleep 1 >/dev/null; do echo beat; done) &
  beater=$!
  said=$("$@" 2>&1)
  status=$?
  kill "$beater" 2>/dev/null
  wait "$beater" 2>/dev/null
  return "$status"
}
sum() { sha256sum < "$name"; }

go() { # enters a folder
  cd -P -- "$1" 2>/dev/null && return 0
  if [ ! -e "$1" ]; then say none; elif [ ! -d "$1" ]; then fail 'Not a directory'; else fail 'Permission denied'; fi
  return 1
}
made() {
  said=$(mkdir -- "$1" 2>&1) && said=$(sync -- . 2>&1) || [ -d "$1" ] || { fail "$said"; return 1; }
}
enter() { # goes step by step to the folder of $path, never through a link; $name is what is left. $1: make folders
  if [ "$1" = make ] && [ ! -d "$root" ]; then
    said=$(mkdir -p -- "$root" 2>&1) || { fail "$said"; return 1; }
  fi
  go "$root" || return 1
  rest=$path
  while :; do
    case $rest in
      */*) part=${rest%%/*} rest=${rest#*/} ;;
      *) name=./$rest; return 0 ;;
    esac
    before=${PWD%/}
    if [ -L "./$part" ]; then say "link $part"; return 1; fi
    if [ "$1" = make ] && [ ! -e "./$part" ]; then made "./$part" || return 1; fi
    go "./$part" || return 1
    # A link that came meanwhile is seen now: the shell is in the folder itself.
    if [ "$PWD" != "$before/$part" ]; then say "link $part"; return 1; fi
  done
}
look() { # finds the size of $name
  if [ -L "$name" ]; then say "link ${name#./}"; return 1; fi
  if [ ! -e "$name" ]; then say none; return 1; fi
  if [ ! -f "$name" ]; then say kind; return 1; fi
  bytes=$(stat -c %s -- "$name" 2>&1) || { fail "$bytes"; return 1; }
}
may_write() {
  if [ ! -L "$name" ] && [ ! -e "$name" ]; then return 0; fi
  look || return 1
  if [ "$(stat -c %h -- "$name")" != 1 ]; then say names; return 1; fi
}

frames() { # copies what comes, in blocks with their sizes before them, up to one of 0
  while IFS= read -r count && [ "$count" != 0 ]; do
    dd bs="$count" count=1 iflag=fullblock status=none || exit 1
  done
}
write_at() { # the pipe is read to its end whatever happens, so that the next request is found
  frames | {
    dd of="$name" bs=1M iflag=fullblock oflag=seek_bytes,nofollow seek="$1" conv=notrunc status=none 2>&1
    status=$?
    cat >/dev/null
    exit "$status"
  }
}
read_at() {
  said=$( { dd < "$name" of=/dev/null count=0 status=none; } 2>&1) || { fail "$said"; return 0; }
  say data
  if [ "$2" != 0 ]; then
    said=$(dd if="$name" bs=256K iflag=fullblock,skip_bytes,count_bytes,nofollow skip="$1" count="$2" 2>&1 >&3)
    case $nl$said in
      *"$nl$2 byte"*) ;;
      *) echo 'a file could not be read to its end' >&2; exit 1 ;;
    esac
  fi
  say ok
}

on_stat() { enter && look && say "size $bytes"; }
on_digest() {
  enter && look || return 0
  if slow sum; then say "digest ${said%% *} $bytes"; else fail "$said"; fi
}
on_read() {
  IFS= read -r from
  IFS= read -r count
  enter && look || return 0
  if [ "$bytes" -lt $((from + count)) ]; then say "early $bytes"; else read_at "$from" "$count"; fi
}
on_write() {
  IFS= read -r from
  if enter make && may_write; then
    if said=$(write_at "$from"); then say ok; else fail "$said"; fi
  else
    frames >/dev/null
  fi
}
on_publish() {
  IFS= read -r final
  enter && look || return 0
  final=./$final
  if [ -d "$final" ] && [ ! -L "$final" ]; then
    fail 'Is a directory'
  elif slow sync -- "$name" && said=$(mv -f -T -- "$name" "$final" 2>&1) && slow sync -- .; then
    say ok
  else
    fail "$said"
  fi
}
on_remove() {
  enter || return 0
  if said=$(rm -f -- "$name" 2>&1); then say ok; else fail "$said"; fi
}
on_remove_folder() {
  enter || return 0
  rmdir -- "$name" 2>/dev/null
  say ok
}
on_free() {
  place=$root
  while [ -n "$place" ] && [ ! -d "$place" ]; do place=${place%/*}; done
  if said=$(stat -f -c '%a %S' -- "${place:-/}" 2>&1); then say "free $said"; else fail "$said"; fi
}

probed=$(printf abcd | dd bs=1M iflag=fullblock,skip_bytes,count_bytes,nofollow skip=1 count=2 status=none) &&
  [ "$probed" = bc ] && probed=$(sha256sum < /dev/null) && [ "${probed%% *}" = \
  e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ] &&
  probed=$(stat -c '%s %h' -- / && stat -f -c '%a %S' -- /) &&
  for tool in mv rm rmdir mkdir sync sleep cat; do command -v "$tool" >/dev/null || exit 3; done || exit 3

printf '\ncamnet-dd/1\n'
IFS= read -r root || exit 0
case $root in /*) ;; *) root=$(pwd -P)/$root ;; esac
while IFS= read -r op && IFS= read -r path; do
  case $op in
    stat | digest | read | write | publish | remove | remove_folder | free) "on_$op" ;;
    *) exit 2 ;;
  esac
  cd / # holds no folder between requests
done
