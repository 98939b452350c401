"""A process that has imported the libraries once, and becomes each program that a test starts: see programs.py.

It reads requests from stdin, a line each: in JSON the processes that are started at once, and whether apart. It answers
with a line of their ids, and when all are gone with a line of their exit codes. Programs that those start in their turn
ask at a socket: see started.py.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback

import started

# With ours, whose own import is half of a small stage's time. What a program imports before its file is read, and what
# after, is seen by tests that start it afresh (`helpers.python`).
MODULES = (
    "accelerate", "datasets", "mergekit.config", "peft", "pydantic", "scipy.stats", "torch.distributed.tensor",
    "torch.utils.data", "transformers.generation", "transformers.models.auto",
    "transformers.models.smollm3.modeling_smollm3", "transformers.trainer", "trl.trainer.dpo_trainer",
    "trl.trainer.sft_trainer", "apo.pairs.make", "apo.train", "apo.traces.make", "apo_soup.cli.app",
    "apo_soup.evals.program", "apo_soup.evals.mix", "apo_soup.evals.run", "apo_soup.plan.check", "apo_soup.plan.named",
    "apo_soup.plan.recipe_plan", "merge.run", "merge.sweep.walk", "sft.train",
)  # fmt: skip


def serve() -> dict | None:
    """Answer requests until nobody is left to ask; in a process that is to become a program, what is asked of it."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries may print
    while line := sys.stdin.readline():
        children: list[int] = []
        group = json.loads(line)
        for asked in group["processes"]:
            child = os.fork()
            if child == 0:
                replies.close()
                return asked
            children.append(child)
        print(json.dumps(children), file=replies)
        print(json.dumps(exit_codes(children, group["apart"])), file=replies)
    return None


def exit_codes(children: list[int], apart: bool) -> list[int]:
    """The exit codes of processes, in their order; where one fails, the others are ended, as a launcher does, but for
    processes that are started apart.
    """
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        child, status = os.wait()
        codes[child] = os.waitstatus_to_exitcode(status)
        for other in children if codes[child] and not apart else ():
            if other not in codes:
                os.kill(other, signal.SIGTERM)
    return [codes[child] for child in children]


def answer_starts(place: str) -> None:
    """Answer, in a process of its own, programs that start others: with the id of the one that is started, and with its
    exit code. Where who asked is gone before it ended, it is asked to end, as by a launcher that went.
    """
    if os.fork():
        return
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # it ends with the process that it is forked from
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen(16)
        while True:
            asking, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listening.close()
                answer_start(asking, place)
            asking.close()


def answer_start(asking: socket.socket, place: str) -> None:
    """Start what is asked for, with the files that come along, and answer to its end."""
    message, files, _, _ = socket.recv_fds(asking, 2**20, 2)
    asked = json.loads(message)
    child = os.fork()
    if child == 0:
        asking.close()
        for descriptor, file in enumerate(files, 1):
            os.dup2(file, descriptor)
        os.environ.clear()
        os.environ |= asked["environment"] | {started.VARIABLE: place}
        sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        sys.orig_argv = [sys.executable, *asked["words"]]
        run_to_its_end(asked)
    asking.send(f"{child}\n".encode())
    ended = os.pidfd_open(child)
    if asking in select.select([asking, ended], [], [])[0]:
        os.kill(child, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        asking.send(f"{code}\n".encode())
    os._exit(0)


def become(asked: dict) -> None:
    """Run what is asked for with the variables and files that are."""
    os.environ |= asked["environment"]
    os.dup2(os.open(asked["stdin"], os.O_RDONLY), 0)
    for descriptor, path in ((1, asked["stdout"]), (2, asked["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    run_to_its_end(asked)


def run_to_its_end(asked: dict) -> None:
    """Run a module, a file or code as Python does, and end."""
    try:
        run_words(asked)
    except SystemExit as ended:
        if isinstance(ended.code, int | None):
            end(ended.code or 0)
        print(ended.code, file=sys.stderr)
        end(1)
    except BaseException:
        traceback.print_exc()
        end(1)
    end(0)


def run_words(asked: dict) -> None:
    """Run a module, a file or code as Python does, with the words and in the folder that are asked for."""
    # A shell that runs the suite in the background has its children ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    started.fork_what_is_started()
    kind, *words = asked["words"]
    sys.path[0] = asked["cwd"]
    if kind == "-m":
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *words[1:]]
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [kind, *words]
        sys.path[0] = os.path.dirname(kind)
        runpy.run_path(kind, run_name="__main__")


def end(code: int) -> None:
    """End as Python does, but for tearing down what was imported, which takes longer than most of these programs."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    if importlib.util.find_spec("openai"):
        importlib.import_module("apo_soup.models.endpoint.client")
    gc.freeze()  # what lives now is shared by all children, and their collections need not go through it
    if sys.platform == "linux":
        answer_starts(os.environ[started.VARIABLE])
    asked = serve()
    if asked is None:
        os._exit(0)
    become(asked)
