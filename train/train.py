"""Trains a policy on a data set, from scratch, or from a checkpoint in whole or by adapters.

    python3 train/train.py --data DIR --out CHECKPOINT --minutes 60
    torchrun --nproc-per-node 8 train/train.py --data DIR --init openvla-7b --out CHECKPOINT --lora 32 --merge --steps 100000

--out gets a checkpoint in the published layout, which `ddvla export` reads, and curves.csv and curves.html. It is
written every few minutes and at the end, which SIGINT and SIGTERM to any of the processes bring forward; --resume
goes on from --state.
The same seed, --steps and machine give the same checkpoint on a CPU, stopped in between or not.
"""

import argparse
import json
import os
import re
import signal
import sys
import time

STARTED = time.monotonic()

import torch  # noqa: E402
import torch.distributed as distributed  # noqa: E402

from ddvla import checkpoint, columns, data, initialise, lora, model  # noqa: E402
from ddvla.curves import Curves  # noqa: E402
from ddvla.dataset import FORM, Dataset  # noqa: E402
from ddvla.head import ActionHead  # noqa: E402
from ddvla.objective import OBJECTIVES, attention_for  # noqa: E402
from ddvla.prompt import Tokenizer  # noqa: E402
from ddvla.samples import Frames, divide  # noqa: E402
from ddvla.trainer import Trainer, write_beside  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def group(title, **arguments):
        g = p.add_argument_group(title)
        for name, keywords in arguments.items():
            g.add_argument("--" + name.replace("_", "-"), **keywords)

    group(
        "files",
        data=dict(required=True, nargs="+", help="data set directory; several are joined, and have the first's statistics"),
        held_out=dict(help="a data set that is measured on and not learned from; default: --hold-out of --data"),
        hold_out=dict(type=float, default=0.02, help="share of the episodes of --data to measure on"),
        out=dict(required=True, help="checkpoint directory"),
        state=dict(help="file for --resume; default: OUT.state; 'none' writes none"),
        resume=dict(action="store_true", help="go on from --state, where it exists"),
        init=dict(help="checkpoint to start from; default: random weights"),
        config=dict(default=os.path.join(HERE, "configs", "tiny.json"), help="sizes of a network from random weights"),
        tokenizer=dict(help="default: that of --init, else train/tokenizer.model"),
        statistics=dict(choices=("data", "init"), default="data", help="whose dataset_statistics.json bounds the actions"),
        save_dtype=dict(choices=sorted(DTYPES), default="bf16"),
        shards=dict(type=int, default=1),
        failures=dict(action="store_true", help="learn from episodes that failed too"),
    )
    group(
        "what is learned",
        objective=dict(choices=OBJECTIVES, default="diffusion"),
        attention=dict(choices=("bidirectional", "prefix", "causal"), help="default: --init's, else the objective's"),
        chunk=dict(type=int, help="rows of a chunk, H; default: --init's, else 8"),
        normalization=dict(choices=("bounds_q99", "bounds"), help="default: --init's, else bounds_q99"),
        lora=dict(type=int, default=0, metavar="RANK", help="train adapters of this rank instead of all weights"),
        alpha=dict(type=float, help="scale of the adapters; default: RANK, at most 16, as openvla-oft has it"),
        targets=dict(nargs="+", help="names of the layers with adapters; default: all linear ones"),
        merge=dict(action="store_true", help="with --lora: write merged weights, and train what stands beside the model"),
        whole=dict(type=float, default=0.0, help="diffusion: share of the samples that are hidden whole"),
        own=dict(type=float, default=0.0, help="diffusion: share of the samples of which the network's own tokens are given, not the demonstration's"),
        soften=dict(type=float, default=0.0, help="first width of the targets, in bins; 0: the bins themselves"),
        harden_at=dict(type=float, default=0.6, help="share of the run after which targets are the bins"),
        plain_images=dict(action="store_true", help="no crop and no change of colours"),
    )
    group(
        "schedule",
        steps=dict(type=int, help="default 20000, without --minutes"),
        minutes=dict(type=float, help="end after this time of running, earlier parts of the run included; the schedule is fitted to it"),
        until=dict(type=float, metavar="TIME", help="instead of --minutes: end at this time, in seconds since 1970"),
        seed=dict(type=int, default=1),
        batch=dict(type=int, default=16, help="samples of a process at once"),
        accumulate=dict(type=int, default=1, help="batches to a step"),
        rate=dict(type=float, default=1e-3, help="peak learning rate"),
        floor=dict(type=float, default=0.01, help="the last rate, as a share of the peak"),
        warmup=dict(type=int, default=300, help="steps"),
        decay=dict(type=float, default=0.05, help="weight decay of matrices"),
        beta2=dict(type=float, default=0.98),
        clip=dict(type=float, default=1.0, help="largest norm of the gradient"),
        mean=dict(type=float, default=0.998, help="decay of the mean of the weights, which is what is saved; 0: none"),
        every=dict(type=float, default=3, help="minutes between checkpoints"),
        validate=dict(type=int, default=512, help="held-out frames to measure on"),
        decode=dict(type=int, help="of these, how many to decode at the end; default 256 on a GPU, else 16"),
        log_every=dict(type=float, default=10, help="seconds"),
    )
    group(
        "machine",
        device=dict(default="cuda" if torch.cuda.is_available() else "cpu"),
        precision=dict(choices=("auto", *sorted(DTYPES)), default="auto", help="bf16: autocast; auto: on a GPU"),
        image_memory=dict(type=float, help="GB of the GPU for pictures; more stay in the file; default: half of what is free"),
        recompute=dict(action="store_true", help="less memory, a third more work"),
        compile=dict(action="store_true", help="torch.compile for the layers; where it fails the plain operations go on"),
        threads=dict(type=int, help="of the CPU; default: OMP_NUM_THREADS, else all"),
        trial=dict(type=int, help="use only the first so many frames"),
    )
    return p


def exported_with(directory):
    """Options of export.args, which an earlier run left in a checkpoint; none where there is none."""
    path = os.path.join(directory, "export.args")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        words = file.read().split()
    return {name[2:]: value for name, value in zip(words[::2], words[1::2])}


def complete(o, refuse):
    """Checks options against each other and fills in what follows from others."""
    if o.until and o.minutes:
        refuse("--until and --minutes exclude each other")
    if o.steps is None and o.minutes is None and o.until is None:
        o.steps = 20000
    was = exported_with(o.init) if o.init else {}
    o.chunk = int(was.get("chunk", 8)) if o.chunk is None else o.chunk
    o.normalization = o.normalization or was.get("normalization", "bounds_q99")
    o.plain_images = o.plain_images or was.get("crop-area") == "1"
    if o.batch < 1 or o.accumulate < 1 or o.chunk < 1:
        refuse("--batch, --accumulate and --chunk are at least 1")
    if o.validate < 1 or o.decode is not None and o.decode < 1:
        refuse("--validate and --decode are at least 1; with --hold-out 0 nothing is measured")
    if o.soften and o.harden_at <= 0:
        refuse("--harden-at is above 0 where --soften is given")
    if o.merge and not o.lora or o.lora and not o.init:
        refuse("--merge goes with --lora, and --lora with --init")
    if o.lora and not o.merge and o.statistics == "data":
        # What the adapter is exported with are the files of its base.
        refuse("--lora without --merge trains an adapter of --init alone: give --statistics init, or --merge")
    if o.statistics == "init" and not o.init:
        refuse("--statistics init goes with --init")
    if o.lora and o.alpha is None:
        o.alpha = min(o.lora, 16)
    if o.state is None:
        o.state = o.out.rstrip("/") + ".state"
    if o.state == "none":
        o.state = None
    if o.resume and not o.state:
        refuse("--resume goes with --state")
    if o.tokenizer is None:
        own = os.path.join(o.init, "tokenizer.model") if o.init else ""
        o.tokenizer = own if os.path.exists(own) else os.path.join(HERE, "tokenizer.model")
    if o.threads:
        torch.set_num_threads(o.threads)


def start_processes(o):
    """One process of several that torchrun starts takes its part; returns the device."""
    device = torch.device(o.device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    elif device.type == "cuda" and device.index is None:
        device = torch.device("cuda", 0)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        if hasattr(torch.backends.cuda, "enable_cudnn_sdp"):
            # The memory-efficient kernel takes a mask that is broadcast, in every version that has it.
            torch.backends.cuda.enable_cudnn_sdp(False)
    o.bf16 = o.precision == "bf16" or o.precision == "auto" and device.type == "cuda"
    if o.decode is None:
        o.decode = 256 if device.type == "cuda" else 16
    return device


def network(o, dataset):
    """The network to train, on the CPU, with what is not trained frozen."""
    dims, cameras, proprio = len(dataset.info["action"]), len(dataset.info["cameras"]), len(dataset.info["proprio"])
    if o.init:
        frozen_as = torch.bfloat16 if o.lora and o.bf16 else torch.float32
        try:
            net = model.load(o.init, cameras, o.chunk * dims, frozen_as)
        except (OSError, ValueError) as error:
            raise SystemExit(f"train.py: --init: {error}") from error
        if net.sizes.image != dataset.info["size"]:
            raise SystemExit(f"{o.init} takes pictures of {net.sizes.image} pixels, {dataset.directory} has {dataset.info['size']}")
        net.attention = attention_for(o.objective, o.attention or (net.attention if o.objective in ("diffusion", "parallel") else None))
        if net.sizes.proprio not in (0, proprio):
            raise SystemExit(f"{o.init} takes {net.sizes.proprio} numbers of the robot's state, {dataset.directory} has {proprio}")
        if not net.sizes.proprio and proprio and not (o.lora and not o.merge):
            net.sizes.proprio = proprio
            net.proprio_projector = model.ProprioProjector(proprio, net.sizes.hidden)
    else:
        sizes = model.Sizes.of_json(
            {**checkpoint.read_json(o.config), "image": dataset.info["size"], "images": cameras, "proprio": proprio, "slots": o.chunk * dims}
        )
        net = model.DDVLA(sizes, model.IMAGE_MEAN, model.IMAGE_STD, attention_for(o.objective, o.attention))
        initialise.for_training(net, o.seed)
    if o.lora:
        lora.attach(net, o.lora, o.alpha, o.seed, o.targets)
    if o.objective == "l1":
        if net.action_head is None:
            if o.lora and not o.merge:
                raise SystemExit(f"{o.init} has no action head, and an adapter cannot hold one: give --merge")
            net.action_head = ActionHead(net.sizes.hidden, dims)
            net.action_head.initialise(o.seed)
        if net.action_head.dims != dims:
            raise SystemExit(
                f"{o.init} has an action head for {net.action_head.dims} columns, {dataset.directory} has {dims}; "
                "for a new head, move its file out of a copy of the checkpoint"
            )
        net.language_model.lm_head.requires_grad_(False)
    else:
        net.action_head = None  # which an exporter would take the chunk from
    if o.lora and o.merge:
        for part in (net.proprio_projector, net.action_head):
            if part is not None:
                part.float().requires_grad_(True)
    dead = set(net.dead_parameters())
    for name, p in net.named_parameters():
        if any(name == d or name.startswith(d.rsplit(".", 1)[0] + ".lora_") for d in dead):
            p.requires_grad_(False)
    net.save_memory(o.recompute)
    return net


def column_options(o, info, proprio):
    """What export is to be told of the columns: ({option: its value}, {file beside the checkpoint: its entries})."""
    options, files = columns.options(info["action"], info["proprio"] if proprio else []), {}
    for name, value in options.items():
        if isinstance(value, list):
            file = name.replace("-", "_") + ".json"
            files[file] = value
            # export runs in whichever directory, and a shell takes export.args apart.
            options[name] = path = os.path.join(os.path.abspath(o.out), file)
            if re.search(r"[\s*?\[\\]", path):
                raise SystemExit(f"train.py: --out is {o.out}: export.args names {path}, which may have no blanks and none of *?[\\")
    return options, files


def export_options(o, dataset, attention):
    """Options of `ddvla export` that no file of a checkpoint tells, as the data set and this run have them."""
    info = dataset.info
    camera = info["cameras"][0]
    options = {
        "action-rate": f"{info['rate']:g}", "chunk": o.chunk, "cameras": ",".join(c["name"] for c in info["cameras"]),
        "normalization": o.normalization, "crop-area": 1 if o.plain_images else camera.get("crop_area") or 1,
        "jpeg-quality": camera.get("jpeg_quality", 0), "rotate": camera.get("rotation", 0),
    }  # fmt: skip
    if o.objective == "autoregressive":
        options["preset"] = "autoregressive"
    if o.lora and not o.merge:  # the base's files may say something else
        options |= {"attention": attention, "head": "l1" if o.objective == "l1" else "tokens"}
    return options


def saver(o, statistics, column_files):
    """What writes --out, its files together and the weights last."""
    dtype = DTYPES[o.save_dtype]

    def save(net):
        with checkpoint.Files(o.out) as files:
            for name, entries in column_files.items():
                files.json(name, entries)
            files.data("export.args", (o.export + "\n").encode())
            if o.lora and not o.merge:
                lora.write(net, files, o.lora, o.alpha, os.path.abspath(o.init))
            else:
                write_beside(files, statistics, o.tokenizer)
                net.write(files, dtype, o.shards)

    return save


def main(arguments=None, started=None):
    """started: when the program did, by time.monotonic."""
    started = time.monotonic() if started is None else started
    p = parser()
    o = p.parse_args(arguments)
    complete(o, p.error)
    device = start_processes(o)
    first = not distributed.is_initialized() or distributed.get_rank() == 0
    os.makedirs(o.out, exist_ok=True)
    path = os.path.join(o.out, "train.log") if first else os.devnull
    with open(path, "a" if o.resume else "w", encoding="utf-8") as file:

        def log(line):
            if first:
                print(line, flush=True)
                print(line, file=file, flush=True)

        log("# train.py " + " ".join(sys.argv[1:] if arguments is None else arguments))
        trainer = prepare(o, device, log, first, started)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(trainer, "stop", True))
        trainer.run()
        checkpoint_options = f"--checkpoint {o.init} --lora {o.out}" if o.lora and not o.merge else f"--checkpoint {o.out}"
        log(f"# ddvla export {checkpoint_options} --out BUNDLE {o.export}")
        log(f"# {'stopped' if trainer.stop else 'done'}: {trainer.step} steps, {trainer.spent / 60:.2f} min; {o.out}")
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
    return trainer


def opened(directories, measured_with=None):
    """The data sets as one; what is wrong with one ends the program in a line."""
    try:
        dataset = Dataset.joined(directories)
        if measured_with:
            # Samples are taken at its own stride.
            measured_with.check_form(dataset, "measured on for", [key for key in FORM if key != "picture_stride"])
        return dataset
    except (OSError, ValueError) as error:
        raise SystemExit(f"train.py: {error}") from error


def statistics_of(o, dataset):
    """The whole of dataset_statistics.json for --out, and what its only entry says."""
    if o.statistics == "init":
        path = os.path.join(o.init, "dataset_statistics.json")
        statistics = checkpoint.read_json(path)
        if len(statistics) != 1:
            raise SystemExit(f"{o.init} has the statistics of {len(statistics)} data sets")
    else:
        path, name = os.path.join(dataset.directory, "dataset_statistics.json"), dataset.info["name"]
        statistics = {name: dataset.statistics()[name]}
    (part,) = statistics.values()
    try:
        data.check(part, dataset.info, o.normalization)
    except ValueError as error:
        mend = "; with --statistics data the bounds are the data set's" if o.statistics == "init" else ""
        raise SystemExit(f"train.py: {path}: {error}{mend}") from error
    return statistics, part


def prepare(o, device, log, first, started):
    """The trainer that the options ask for, where its last state left it. first: of the processes, the one that
    writes."""
    if not 0 <= o.own <= 1 or o.own and o.objective != "diffusion":
        raise SystemExit(f"train.py: --own is {o.own:g}, must be 0 to 1, and 0 unless --objective is diffusion")
    if o.own and not round(o.own * o.batch):
        raise SystemExit(f"train.py: --own {o.own:g} of --batch {o.batch} is no sample; make either larger")
    torch.manual_seed(o.seed)
    dataset = opened(o.data)
    statistics, part = statistics_of(o, dataset)
    tokenizer = Tokenizer(o.tokenizer)
    net = network(o, dataset).to(device)
    if tokenizer.processor.get_piece_size() > net.sizes.vocab:
        raise SystemExit(f"{o.tokenizer} has {tokenizer.processor.get_piece_size()} pieces, the network {net.sizes.vocab}")
    columns = net.sizes.images * net.sizes.patches + (net.sizes.proprio > 0) + net.sizes.slots + 1

    def frames(dataset, memory):
        return Frames(dataset, part, tokenizer, o.chunk, device, o.normalization, memory, columns)

    memory = 0
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0] / 2 if o.image_memory is None else o.image_memory * 1e9
    training, held_out = divide(dataset, 0 if o.held_out else o.hold_out, o.seed, not o.failures)
    training_frames = held_out_frames = frames(dataset, memory)
    if o.held_out:
        other = opened([o.held_out], measured_with=dataset)
        held_out_frames, held_out = frames(other, 0), divide(other, 0, o.seed, not o.failures)[0]
    training = training[: o.trial]
    trained = sum(q.numel() for q in net.parameters() if q.requires_grad)
    log(
        f"# torch {torch.__version__} on {device}{' bf16' if o.bf16 else ''}: {o.objective}, {net.attention} attention, "
        f"{sum(q.numel() for q in net.parameters()) / 1e6:.2f} M parameters, {trained / 1e6:.2f} M trained; {len(training)} frames, "
        f"{len(held_out)} held out, {len(training_frames.texts)} instructions, pictures "
        f"{'on the device' if training_frames.on_device else 'in the file'}; ready after {time.monotonic() - started:.1f} s"
    )
    told, column_files = column_options(o, dataset.info, net.sizes.proprio)
    options = export_options(o, dataset, net.attention) | told
    o.export = " ".join(f"--{name} {value}" for name, value in options.items())
    o.save, o.statistics = saver(o, statistics, column_files), part
    state, until = None, None
    if o.resume and os.path.exists(o.state):
        state = checkpoint.read_safetensors(o.state)
        until = int(state["run"][0])
        log(f"# goes on from step {until}")
    if o.until:
        spent = float(state["run"][1]) if state else 0.0
        minutes = [(spent + time.monotonic() - started + o.until - time.time()) / 60]
        if distributed.is_initialized():
            distributed.broadcast_object_list(minutes, src=0)  # all must end at the same step
        o.minutes = minutes[0]
    curves = Curves(o.out, os.path.basename(os.path.abspath(o.out)), until) if first else None
    trainer = Trainer(net, training_frames, training, held_out, held_out_frames, o, log, curves, started)
    if state:
        trainer.restore(state)
    return trainer


if __name__ == "__main__":
    main(started=STARTED)
