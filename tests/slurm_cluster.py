"""A Slurm of two nodes on this machine, in a folder of its own, without systemd."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "squeue")
CONF = """
ClusterName=two
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SchedulerType=sched/builtin
JobRequeue=1
ReturnToService=2
KillWait=5
MessageTimeout=60
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
NodeName=n[1-2] NodeHostname={host} Port=[{ports[1]}-{ports[2]}] CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=FORCE:4 State=UP
"""


def why_no_cluster() -> str:
    """Why none can be started here; empty where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed ({missing[0]}): Debian has it in slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons are started as root"


def free_ports(count: int) -> list[int]:
    """Ports that stand beside each other and that nobody listens on."""
    for first in range(17001 + os.getpid() % 900 * 10, 60000, 10):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("", port))
            return list(range(first, first + count))
    raise OSError("no free ports")


@contextlib.contextmanager
def slurm_cluster(folder: Path):
    """Start it; gives the variables by which Slurm's programs find it."""
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    host, ports = socket.gethostname().partition(".")[0], free_ports(3)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, ports=ports, user="root"))
    environment = os.environ | {"SLURM_CONF": str(conf)}
    names = ("socket", "key-file", "pid-file", "log-file", "seed-file")
    files = ("munge.socket", "munge.key", "munge.pid", "munge.log", "munge.seed")
    words = [f"--{name}={folder / file}" for name, file in zip(names, files, strict=True)]
    daemons = [
        ["munged", "--force", "--foreground", *words],
        ["slurmctld", "-D", "-c"],
        *(["slurmd", "-D", "-N", name] for name in ("n1", "n2")),
    ]
    started = []
    try:
        for command in daemons:
            log = (folder / f"{command[0]}-{len(started)}.out").open("w")
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
            if command[0] == "munged":
                wait_until((folder / "munge.socket").exists, 30)
        wait_until(lambda: asked(environment, "sinfo", "-h", "-o", "%t") == "idle", 60)
        yield environment
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def asked(environment: dict[str, str], *command: str) -> str:
    """What one of Slurm's programs says."""
    said = subprocess.run(command, env=environment, capture_output=True, text=True)
    return said.stdout.strip()


def wait_until(done, seconds: float) -> None:
    """Wait for something; fail after so many seconds."""
    last = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < last, f"not within {seconds} seconds"
        time.sleep(0.2)
