#!/usr/bin/env bash
# A real SLURM of one machine for tests: cluster.sh start|stop <folder>. Needs root and Debian's
# packages: apt-get install slurmctld slurmd slurm-client munge
set -euo pipefail

action=${1:?start or stop}
folder=$(realpath -m "${2:?a folder for state and logs}")
host=$(hostname -s)

start() {
    mkdir -p "$folder"/{state,spool,munge}
    cat > "$folder/slurm.conf" << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
KillWait=10
MinJobAge=3600
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    # A munge of its own, beside the one of the machine if there is one.
    mungekey --create --keyfile "$folder/munge/key"
    munged --force --key-file "$folder/munge/key" --socket "$folder/munge/socket" \
        --pid-file "$folder/munged.pid" --log-file "$folder/munge/log" --seed-file "$folder/munge/seed"
    SLURM_CONF="$folder/slurm.conf" slurmctld
    SLURM_CONF="$folder/slurm.conf" slurmd
    for _ in $(seq 50); do
        SLURM_CONF="$folder/slurm.conf" sinfo -h -t idle -o %T 2> /dev/null | grep -q idle && return
        sleep 0.2
    done
    tail -n 20 "$folder"/slurm*.log >&2
    return 1
}

stop() {
    for daemon in slurmd slurmctld munged; do
        [ -f "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" || true
    done
}

"$action"
