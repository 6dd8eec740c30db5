# shellcheck shell=bash
# steps.sh: runs the bootstrap's steps: one line each with its seconds, details in a log. Sourced, never run.
#
# Everything for people goes to stderr: stdout belongs to the command that runs in the end (`./filer status --json`).
# The caller sets steps_log. A step is a function or program; it runs in a process group of its own, so that an interrupt
# ends all of it.

step_pid=

now_ms() { printf '%s\n' $((${EPOCHREALTIME/[.,]/} / 1000)); }

end_step() {
  if [[ -n $step_pid ]]; then
    kill -TERM -- "-$step_pid" 2>/dev/null || true
    wait "$step_pid" 2>/dev/null || true
  fi
  printf '\n' >&2
  exit 130
}

# Ninja's last "[12/340]", for a person who waits.
step_progress() {
  tail -c 4000 "$steps_log" | grep -oE '^\[[0-9]+/[0-9]+\]' | tail -n 1
}

# Waits for the step. On a terminal its line moves; in a log file it appears once, at the end.
watch_step() {
  local text=$1 started=$2 wait_s=0.02
  while kill -0 "$step_pid" 2>/dev/null; do
    sleep "$wait_s"
    if (($(now_ms) - started > 500)); then
      wait_s=0.3
      [[ -t 2 ]] && printf '\r\033[K%6d s  %s %s' $((($(now_ms) - started) / 1000)) "$text" "$(step_progress)" >&2
    fi
  done
}

# quiet_step and step TEXT COMMAND...: the quiet one says nothing when it took less than a second.
quiet_step() { run_step quiet "$@"; }
step() { run_step shown "$@"; }

run_step() {
  local mode=$1 text=$2 started status=0 took_ms
  shift 2
  started=$(now_ms)
  printf '\n== %s\n' "$text" >>"$steps_log"
  # Job control gives the step its own process group.
  set -m
  (set -euo pipefail; "$@") >>"$steps_log" 2>&1 </dev/null &
  step_pid=$!
  set +m
  trap end_step INT TERM HUP
  watch_step "$text" "$started"
  wait "$step_pid" || status=$?
  trap - INT TERM HUP
  step_pid=
  took_ms=$(($(now_ms) - started))
  [[ -t 2 ]] && printf '\r\033[K' >&2
  if ((status == 0)); then
    if [[ $mode == shown ]] || ((took_ms >= 1000)); then
      printf '%4d.%d s  %s\n' $((took_ms / 1000)) $((took_ms % 1000 / 100)) "$text" >&2
    fi
    return 0
  fi
  step_status=$status
  return 1
}

# The end of a failed step: what failed, the tail of the log, and where the rest is.
fail_step() {
  printf '\nLast lines of %s:\n' "$steps_log" >&2
  tail -n "${2:-30}" "$steps_log" >&2
  die "$1 failed (status ${step_status:-1}); the whole log is in $steps_log"
}
