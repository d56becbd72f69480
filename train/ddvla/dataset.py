"""Demonstrations on disk, as `ddvla dataset` and `ddvla sim demos` write them.

A directory (schema 1; package dataset of the Go side has the whole description):

    dataset.json             schema, name, rate (Hz), frames N, episodes, size S, cameras, action, proprio
    episodes.jsonl           one a line: episode, start, length (frames), instruction, paraphrases (optional), task,
                             success (true, false or null), source, goal (optional)
    images.u8                [pictures, cameras, S, S, 3] RGB, the image recipe applied except the crop; pictures are
                             frames, but where dataset.json has a picture_stride: frames at its multiples from an
                             episode's first have pictures, and only these are samples
    proprio.f32              [N, Dp] and action.f32 [N, A], little endian, robot units (rad, m)
    dataset_statistics.json  openvla-oft's, under the data set's name
"""

import json
import os

import numpy

SCHEMA = 1
# What of dataset.json data sets must have alike to be used together.
FORM = ("rate", "size", "picture_stride", "cameras", "action", "proprio")


class Dataset:
    """Memory maps of one directory: images, proprio, action; info and episodes are its JSON. images has a map for each
    directory where data sets were joined."""

    def __init__(self, directory):
        self.directory = directory
        path = os.path.join(directory, "dataset.json")
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path}: none; {directory} is no data set, or its writing was interrupted")
        with open(path, encoding="utf-8") as f:
            self.info = json.load(f)
        if self.info.get("schema") != SCHEMA:
            raise ValueError(f"{path}: schema is {self.info.get('schema')}, this program reads {SCHEMA}")
        with open(os.path.join(directory, "episodes.jsonl"), encoding="utf-8") as f:
            self.episodes = [json.loads(line) for line in f if line.strip()]
        self.frames, size = self.info["frames"], self.info["size"]
        self.proprio = self._map("proprio.f32", "<f4", (len(self.info["proprio"]),))
        self.action = self._map("action.f32", "<f4", (len(self.info["action"]),))
        self.stride = self.info.get("picture_stride") or 1
        if not isinstance(self.stride, int) or self.stride < 1:
            raise ValueError(f"{path}: picture_stride is {self.stride}, must be a whole number of at least 0")
        self._index()
        self.images = [self._map("images.u8", "u1", (len(self.info["cameras"]), size, size, 3), int(self._pictures[-1]))]
        filled = self._starts.tolist() == [0, *self._ends[:-1]] and self._ends[-1] == self.frames
        if len(self.episodes) != self.info["episodes"] or not filled:
            raise ValueError(f"{directory}: the episodes of episodes.jsonl do not fill the {self.frames} frames")

    def _index(self):
        self._starts = numpy.array([e["start"] for e in self.episodes], dtype=numpy.int64)
        lengths = numpy.array([e["length"] for e in self.episodes], dtype=numpy.int64)
        self._ends = self._starts + lengths
        self._pictures = numpy.concatenate([[0], numpy.cumsum(-(-lengths // self.stride))])

    @classmethod
    def joined(cls, directories):
        """Several data sets as one, one behind the other. All but their names, lengths and origins must be the same;
        the statistics are the first's."""
        first, *others = map(cls, directories)
        first.info = dict(first.info)
        for other in others:
            first.check_form(other, "joined to")
            episodes = [{**e, "start": e["start"] + first.frames, "episode": e["episode"] + len(first.episodes)} for e in other.episodes]
            first.episodes = first.episodes + episodes
            first.frames += other.frames
            first.images += other.images
            first.proprio = numpy.concatenate([first.proprio, other.proprio])
            first.action = numpy.concatenate([first.action, other.action])
        first.info.update(frames=first.frames, episodes=len(first.episodes))
        first._index()
        return first

    def check_form(self, other, used, form=FORM):
        """Refuses another data set of other numbers or pictures; used: what was to be done with it and this one."""
        for key in form:
            if self.info.get(key) != other.info.get(key):
                raise ValueError(f"{other.directory} cannot be {used} {self.directory}: {key} of dataset.json differs")

    def _map(self, name, dtype, shape, rows=None):
        path, shape = os.path.join(self.directory, name), (self.frames if rows is None else rows, *shape)
        wanted = int(numpy.prod(shape)) * numpy.dtype(dtype).itemsize
        if os.path.getsize(path) != wanted:
            raise ValueError(f"{path}: {os.path.getsize(path)} bytes, shape {shape} takes {wanted}")
        if wanted == 0:  # which mmap refuses
            return numpy.zeros(shape, dtype)
        return numpy.memmap(path, dtype=dtype, mode="r", shape=shape)

    def episode_of(self, frames):
        """The numbers of the episodes that frames (a number or an array of them) belong to."""
        return numpy.searchsorted(self._starts, frames, side="right") - 1

    def picture_of(self, frames):
        """The rows of images that hold the pictures of frames (a number or an array of them), -1 where one has none."""
        episode = self.episode_of(frames)
        time = frames - self._starts[episode]
        return numpy.where(time % self.stride == 0, self._pictures[episode] + time // self.stride, -1)

    def chunk(self, frames, rows):
        """The actions from frames on, [..., rows, A]; beyond an episode's end its last one is repeated."""
        frames = numpy.asarray(frames)
        last = self._ends[self.episode_of(frames)] - 1
        return self.action[numpy.minimum(frames[..., None] + numpy.arange(rows), last[..., None])]

    def sample(self, frame, rows):
        """What a policy is trained on at a frame: images, proprio, instruction, actions [rows, A]."""
        if not 0 <= frame < self.frames:
            raise IndexError(f"{self.directory}: there is no frame {frame}, they are 0 to {self.frames - 1}")
        episode, picture = self.episodes[int(self.episode_of(frame))], int(self.picture_of(frame))
        if picture < 0:
            raise IndexError(f"{self.directory}: frame {frame} has no pictures, every {self.stride}-th of an episode has")
        for images in self.images:
            if picture < len(images):
                break
            picture -= len(images)
        return images[picture], self.proprio[frame], episode["instruction"], self.chunk(frame, rows)

    def statistics(self):
        """The whole of dataset_statistics.json; its key is info["name"]."""
        with open(os.path.join(self.directory, "dataset_statistics.json"), encoding="utf-8") as f:
            return json.load(f)
