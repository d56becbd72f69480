"""Trains the four kinds of policy that the tables compare, from one data set, at the same time on one GPU.

    python3 train/tiny_all.py --data DIR --held-out DIR --out DIR --minutes 9

A process for each of diffusion, parallel, autoregressive and l1 writes OUT/NAME, a checkpoint, and OUT/NAME.log.
One that fails is started once more from its last checkpoint while there is time, and does not disturb the others.
--minutes is for everything from the start of this program on; a tenth of it, at most 40 s, is left for last
measurements. Options after -- go to every train.py. Exits with 1 if any has no whole checkpoint.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
OBJECTIVES = ("diffusion", "parallel", "autoregressive", "l1")


class Job:
    """One train.py, and what became of it."""

    def __init__(self, objective, o, extra, until):
        self.name, self.o, self.extra, self.until = objective, o, extra, until
        self.out, self.log, self.tries = os.path.join(o.out, objective), os.path.join(o.out, objective + ".log"), 0
        self.process = None

    def start(self):
        self.tries += 1
        command = [
            sys.executable, os.path.join(HERE, "train.py"), "--data", self.o.data, "--out", self.out,
            "--state", os.path.join(self.o.out, self.name + ".state"), "--objective", self.name,
            "--batch", str(self.o.batch), "--seed", str(self.o.seed),
        ]  # fmt: skip
        command += ["--held-out", self.o.held_out] if self.o.held_out else []
        if self.o.steps:
            command += ["--steps", str(self.o.steps)]
        else:
            command += ["--until", f"{time.time() + self.until - time.monotonic():.2f}"]
        if self.o.image_memory:
            command += ["--image-memory", f"{self.o.image_memory:.2f}"]
        command += ["--resume"] if self.tries > 1 else []
        with open(self.log, "a", encoding="utf-8") as log:
            log.write("$ " + " ".join(command + self.extra) + "\n")
            log.flush()
            self.process = subprocess.Popen(command + self.extra, stdout=log, stderr=subprocess.STDOUT)

    def tail(self, lines=1):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "\n".join(log.read().splitlines()[-lines:])

    def whole(self):
        return all(os.path.isfile(os.path.join(self.out, n)) for n in ("model.safetensors", "config.json", "tokenizer.model"))


def main():
    arguments, extra = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, extra = arguments[:at], arguments[at + 1 :]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True)
    p.add_argument("--held-out")
    p.add_argument("--out", required=True)
    p.add_argument("--minutes", type=float, default=9)
    p.add_argument("--steps", type=int, help="instead of --minutes")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    p.add_argument("--one-by-one", action="store_true", help="each for its share of the time, the GPU to itself")
    p.add_argument("--image-memory", type=float, help="GB of the GPU for each one's pictures; default: a half of it, divided")
    o = p.parse_args(arguments)
    if o.image_memory is None and not o.one_by_one and torch.cuda.is_available():
        o.image_memory = torch.cuda.get_device_properties(0).total_memory / 2e9 / len(o.only)
    started = time.monotonic()
    os.makedirs(o.out, exist_ok=True)
    end = started + 60 * o.minutes - min(40, 6 * o.minutes)
    jobs = [Job(name, o, extra, end) for name in o.only]
    waves = [jobs]
    if o.one_by_one:
        waves = [[job] for job in jobs]
        for i, job in enumerate(jobs):
            job.until = started + (end - started) * (i + 1) / len(jobs)
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True) or [j.process.terminate() for j in jobs if j.process])
    for wave in waves:
        if not stopped:
            watch(wave, stopped, end)
    for job in jobs:
        print(f"{job.name}: {'whole' if job.whole() else 'NO CHECKPOINT'} after {job.tries} start{'s' * (job.tries != 1)}: {job.tail()}")
    sys.exit(0 if all(job.whole() for job in jobs) else 1)


def watch(jobs, stopped, end, every=15):
    """Starts the jobs and waits for them, telling now and then how they do."""
    for job in jobs:
        job.start()
    told = time.monotonic()
    running = list(jobs)
    while running:
        time.sleep(0.2)
        for job in list(running):
            code = job.process.poll()
            if code is None:
                continue
            if code and job.tries < 2 and not stopped and (job.o.steps or end - time.monotonic() > 30):
                print(f"{job.name} failed with {code}, and is started again:\n{job.tail(8)}", flush=True)
                job.start()
                continue
            running.remove(job)
        if time.monotonic() - told > every:
            told = time.monotonic()
            for job in running:
                print(f"{job.name:15s} {job.tail()}", flush=True)


if __name__ == "__main__":
    main()
