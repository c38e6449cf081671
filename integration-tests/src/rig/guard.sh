# Watches over one test server, or one gizer: makes their folder, and ends them and removes it once nobody holds
# the other end of standard input any more. That end closes however its owner dies.
#
# usage: sh -c "$(cat guard.sh)" guard SIGNAL
# standard input: one line each time the watched processes change, with the ids of all of them
# standard output: one line, the folder

# What ends the test process is not meant for us; we have work to do then.
trap '' HUP INT TERM PIPE

folder=$(mktemp -d -t gizer-rig.XXXXXX) || exit 1
# A server may run as another user, who needs to pass through.
chmod 711 "$folder"
echo "$folder"
exec >/dev/null 2>&1

pids=
while read -r line; do
    pids=$line
done

# A dead process whose new parent has not waited for it, a zombie, counts as gone.
any_alive() {
    for pid in $pids; do
        read -r stat <"/proc/$pid/stat" || continue
        case $stat in
            *") Z "*) ;;
            *) return 0 ;;
        esac
    done
    return 1
}

send() {
    for pid in $pids; do
        kill -s "$1" "$pid"
    done
    tries=100
    while [ "$tries" -gt 0 ] && any_alive; do
        sleep 0.05
        tries=$((tries - 1))
    done
}

send "$1"
any_alive && send KILL

# A PostgreSQL that was killed leaves a System V shared memory segment behind; its id is in this file's 7th line.
if [ -f "$folder/data/postmaster.pid" ]; then
    set -- $(sed -n 7p "$folder/data/postmaster.pid")
    ipcrm --shmem-id "$2"
fi

[ -n "$GIZER_RIG_KEEP" ] && exit

# Children of a killed server may write on for a moment.
tries=20
until rm -rf "$folder" || [ "$tries" -eq 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
done
