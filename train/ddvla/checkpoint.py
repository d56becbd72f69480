"""Reading and writing checkpoint directories in the layout that OpenVLA-OFT publishes.

A safetensors file is an 8-byte little-endian header length, a JSON header and the tensors' bytes.
Debian has no package for it, so the two dozen lines that are needed live here.
"""

import contextlib
import json
import os
import struct

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER = 100 << 20
# Arguments of torch.load for a file of outside: tensors, and no code that would be run; PyTorch 1.13 or newer.
TENSORS_ALONE = {"weights_only": True}


def read_safetensors(path):
    """Returns {name: tensor} of one file, in the dtypes of the file."""
    with open(path, "rb") as file:
        raw = bytearray(file.read())
    if len(raw) < 8:
        raise ValueError(f"{path}: {len(raw)} bytes, too short for a safetensors file")
    (length,) = struct.unpack_from("<Q", raw)
    if length > MAX_HEADER or 8 + length > len(raw):
        raise ValueError(f"{path}: header of {length} bytes does not fit the file")
    header = json.loads(bytes(raw[8 : 8 + length]))
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        count = 1
        for size in shape:
            count *= size
        if not 8 + length <= begin <= end <= len(raw):
            raise ValueError(f"{path}: tensor {name} lies outside the file")
        # The header is padded so that data starts at a multiple of 8, but tensors may be unaligned:
        # copying through bytes makes every case the same.
        if count == 0:
            tensors[name] = torch.empty(shape, dtype=dtype)
        else:
            tensors[name] = torch.frombuffer(bytearray(raw[begin:end]), dtype=dtype, count=count).reshape(shape)
    return tensors


class Files:
    """Files of a directory that take the place of older ones together, at the end of a with statement.

    Each is written aside, as NAME.part, and only when all of them are on the disk are they renamed, in the order of
    writing. Where one cannot be written, no older one is touched. A process that is killed between two of the renames
    leaves the directory with files of both; that is all that can.
    """

    def __init__(self, directory):
        self.directory, self.written, self.outdated = directory, [], []
        os.makedirs(directory, exist_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        try:
            if error is None:
                for name in self.written:
                    os.replace(self._path(name) + ".part", self._path(name))
                for path in filter(os.path.exists, map(self._path, self.outdated)):
                    os.remove(path)
        finally:  # a full disk has no room for what is of no use
            for name in self.written:
                with contextlib.suppress(OSError):
                    os.remove(self._path(name) + ".part")

    def _path(self, name):
        return os.path.join(self.directory, name)

    @contextlib.contextmanager
    def open(self, name):
        """A binary file to write to."""
        self.written.append(name)
        with open(self._path(name) + ".part", "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def remove(self, name):
        """What is of another run and would be read with the new files goes when they are in place."""
        self.outdated.append(name)

    def data(self, name, data):
        with self.open(name) as file:
            file.write(data)

    def json(self, name, value):
        self.data(name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def safetensors(self, name, tensors):
        """Writes {name: tensor} sorted by name, so that equal tensors give equal bytes; one tensor at a time has a copy."""
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for key in sorted(tensors):
            tensor = tensors[key]
            end = offset + tensor.numel() * tensor.element_size()
            header[key] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with self.open(name) as file:
            file.write(struct.pack("<Q", len(text)))
            file.write(text)
            for key in sorted(tensors):
                tensor = tensors[key].detach().contiguous().cpu()
                # numpy has no bfloat16: the bytes go through a view of equally wide integers.
                view = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
                file.write(view.numpy().tobytes())

    def weights(self, tensors, shards=1):
        """Writes model.safetensors, or `shards` files of about equal size and their index."""
        index = "model.safetensors.index.json"
        if shards == 1:
            self.safetensors("model.safetensors", tensors)
            self.remove(index)  # of an earlier save in shards, which readers would prefer
            return
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        groups, size = [{} for _ in range(shards)], 0
        for name in sorted(tensors):
            groups[min(size * shards // total, shards - 1)][name] = tensors[name]
            size += tensors[name].numel() * tensors[name].element_size()
        weight_map = {}
        for number, group in enumerate(groups, 1):
            shard = f"model-{number:05d}-of-{shards:05d}.safetensors"
            self.safetensors(shard, group)
            weight_map.update({name: shard for name in group})
        self.remove("model.safetensors")  # of an earlier save, of which readers could not tell that it is older
        self.json(index, {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_safetensors(path, tensors):
    """One file of {name: tensor}; a run that is stopped while saving leaves the previous one whole."""
    directory, name = os.path.split(path)
    with Files(directory or ".") as files:
        files.safetensors(name, tensors)


def read_weights(directory):
    """Returns {name: tensor} of model.safetensors, or of all shards that its index names."""
    index = os.path.join(directory, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_safetensors(os.path.join(directory, "model.safetensors"))
    with open(index, encoding="utf-8") as file:
        weight_map = json.load(file)["weight_map"]
    single = "model.safetensors"
    if os.path.exists(os.path.join(directory, single)) and single not in weight_map.values():
        raise ValueError(f"{directory}: there are both {single} and an index that does not name it; move out the one that is not of this checkpoint")
    tensors = {}
    for shard in sorted(set(weight_map.values())):
        for name, tensor in read_safetensors(os.path.join(directory, shard)).items():
            if weight_map.get(name) == shard:
                tensors[name] = tensor
    missing = sorted(set(weight_map) - set(tensors))
    if missing:
        raise ValueError(f"{directory}: the index names {len(missing)} tensors no shard has, the first is {missing[0]}")
    return tensors


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_json(path, value):
    directory, name = os.path.split(path)
    with Files(directory or ".") as files:
        files.json(name, value)
