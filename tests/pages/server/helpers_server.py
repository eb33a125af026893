"""A search page that runs in this process, over a small index."""

import http.client
import io
import json
import threading
from contextlib import contextmanager

import numpy as np
import torch
from helpers_photos import small_clip, write_photos

from itmatch.data import ImageFolder, ImageTextSplit, PhotoPatches, RelationScenes, WordTokenizer
from itmatch.models import chan_gru, cmsei_gru
from itmatch.pages.server.app import SearchApp
from itmatch.pages.server.connections import SearchServer
from itmatch.pages.server.current import CurrentIndex
from itmatch.search import Index

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
DRAWN = object()


def scene_index(folder, captions=None, ids=None, pictures=DRAWN):
    """An index of 20 scenes, or of two images with other captions and ids, of a CHAN with random weights."""
    torch.manual_seed(0)
    source = RelationScenes(num_test=20)
    tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", *source.words()])
    model = chan_gru(tokenizer.vocabulary, region_dim=64, embed_dim=32)
    model.tokenizer = tokenizer
    split = source.split("test")
    if ids is not None:
        split = ImageTextSplit(np.ones((2, 3, 64), np.float32), captions, np.arange(len(captions)), image_ids=ids)
    if pictures is not DRAWN:
        split.pictures = pictures
    return Index.build(model, split, folder / "index")


def relation_index(folder, *, keep_regions=True, names=None, num_test=6):
    """An index of scenes of a CMSEI with random weights, by default with what it read of them."""
    torch.manual_seed(0)
    source = RelationScenes(num_test=num_test)
    tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", *source.words()])
    model = cmsei_gru(tokenizer.vocabulary, region_dim=64, embed_dim=16, word_dim=8)
    model.tokenizer = tokenizer
    with torch.no_grad():
        for parameter in model.parameters():  # what starts at 0 would hide the relations
            parameter.add_(0.2 * torch.randn_like(parameter))
    split = source.split("test")
    split.names = split.names if names is None else names
    return Index.build(model, split, folder / "index", keep_regions=keep_regions)


def photo_index(folder):
    """An index of three photos, of a CLIP with random weights."""
    model = small_clip()
    split = ImageFolder(write_photos(folder), extractor=PhotoPatches(image_size=16, patch_size=8)).split("test")
    return Index.build(model, split, folder / "index")


def npy(array):
    """The bytes of a ``.npy`` file."""
    with io.BytesIO() as file:
        np.save(file, array, allow_pickle=False)
        return file.getvalue()


@contextmanager
def serving(index=None, *, app=None, **settings):
    """A server on a free port, in a thread of its own."""
    server = SearchServer(app or SearchApp(CurrentIndex(index), "scenes"), port=0, **settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(server, target, method="GET", body=None, headers=None):
    """Status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.request(method, target, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.headers["Content-Type"].startswith("application/json") and content:
        content = json.loads(content)
    return answer.status, answer.headers, content
