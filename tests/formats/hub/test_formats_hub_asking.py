"""Models on a Hub, which is a small server here: what is not to be had is said in one line, without retries."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from itmatch import MatchingModel
from itmatch.data import HuggingFaceTokenizer, Vocabulary
from itmatch.formats.hub.asking import check_on_hub, hub_file
from itmatch.models import chan_gru
from itmatch.nn import TransformerTextEncoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORDS = Vocabulary.build([["a", "dog"]], min_count=1)


class Hub(BaseHTTPRequestHandler):
    """Answers for the files of ``files``, by (repository, name); ``asked`` are the requests."""

    def do_HEAD(self):
        owner, model, *name = self.path.strip("/").replace("/resolve/", "/").split("/")
        repository, file = f"{owner}/{model}", "/".join(name[1:])
        if "/resolve/" in self.path:
            self.server.asked.append(self.command)
        content = self.server.files.get((repository, file))
        problem = "EntryNotFound" if any(known == repository for known, _ in self.server.files) else "RepoNotFound"
        problem = self.server.problems.pop(repository, None if content is not None else problem)
        self.send_response({"GatedRepo": 403, "Busy": 503, None: 200}.get(problem, 404))
        self.send_header("X-Repo-Commit", COMMIT)
        if problem not in (None, "Busy"):
            self.send_header("X-Error-Code", problem)
        if content is not None:
            self.send_header("ETag", f'"{abs(hash(content))}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        return content

    def do_GET(self):
        self.wfile.write(self.do_HEAD() or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.problems, server.asked = {("us/model", "README.md"): b"#"}, {}, []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    reached(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def reached(monkeypatch, address, folder):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))


def test_a_model_is_downloaded_and_then_taken_from_the_cache(hub, monkeypatch, tmp_path):
    model = chan_gru(WORDS, region_dim=8, embed_dim=8)
    model.save_pretrained(tmp_path / "model")
    for name in ("config.json", "model.safetensors"):
        hub.files["us/chan", name] = (tmp_path / "model" / name).read_bytes()
    hub.problems["us/chan"] = "Busy"  # for one request
    found = MatchingModel.from_pretrained("us/chan", cache_dir=tmp_path / "cache")
    assert found.state_dict().keys() == model.state_dict().keys()
    assert hub.asked.count("GET") == 2
    hub.asked.clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("tried again"))
    MatchingModel.from_pretrained("us/chan", cache_dir=tmp_path / "cache")
    MatchingModel.from_pretrained("us/chan", cache_dir=tmp_path / "cache", local_files_only=True)
    assert not hub.asked


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("RepoNotFound", "the Hugging Face Hub has no such model, or a private one"),
        ("GatedRepo", "gives it to those alone who have asked for it"),
        ("RevisionNotFound", "the model on the Hugging Face Hub has no revision 'v2'"),
        ("EntryNotFound", r"the model on the Hugging Face Hub has no config\.json"),
    ],
)
def test_what_the_hub_says(hub, tmp_path, problem, told):
    hub.problems["us/other"] = problem
    with pytest.raises(FileNotFoundError, match=rf"^us/other: no such folder here, and .*{told}"):
        hub_file("us/other", "config.json", revision="v2", cache_dir=tmp_path / "cache")
    assert len(hub.asked) == 1


def test_a_tokenizer_alone_in_the_cache_is_not_asked_for(hub, monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no such model"):
        check_on_hub("us/tokenizer")
    (tmp_path / "cache/models--us--tokenizer/snapshots").mkdir(parents=True)
    hub.asked.clear()
    check_on_hub("us/tokenizer")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    check_on_hub("us/tokenizer")
    assert not hub.asked


def test_other_files_than_ours(hub):
    check_on_hub("us/model")
    with pytest.raises(FileNotFoundError, match=r"the model on the Hugging Face Hub has no config\.json"):
        MatchingModel.from_pretrained("us/model")


@pytest.mark.parametrize(
    "load",
    [
        MatchingModel.from_pretrained,
        lambda name: HuggingFaceTokenizer(name).fit([]),
        lambda name: TransformerTextEncoder(name, 8),
        check_on_hub,
    ],
)
def test_no_connection_is_told_at_once(monkeypatch, tmp_path, load):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        reached(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path)
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("tried again"))
        with pytest.raises((FileNotFoundError, ValueError), match=r"no/model'?: no such folder .* cannot be reached"):
            load("no/model")


def test_names_that_are_none_and_no_wish_to_ask(tmp_path):
    for name in ("a b", "a/b/c", "-x", ""):
        with pytest.raises(FileNotFoundError, match="no such folder here, and it is no name of a model"):
            hub_file(name, "config.json")
    with pytest.raises(FileNotFoundError, match=r"not in the cache, and .* is not asked \(HF_HUB_OFFLINE"):
        hub_file("no/model", "config.json", cache_dir=tmp_path)  # the tests have that set
    with pytest.raises(FileNotFoundError, match=r"is not asked \(local_files_only\)"):
        hub_file("no/model", "config.json", cache_dir=tmp_path, local_files_only=True)
