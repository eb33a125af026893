"""Files of models on the Hugging Face Hub. What is not to be had is said at once: the Hub is asked once.

Downloads themselves are those of ``huggingface_hub``, with its retries, its cache and its settings (``HF_HUB_OFFLINE``,
``HF_ENDPOINT``, ``HF_HUB_ETAG_TIMEOUT`` ...).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from itmatch.formats.messages import reason, short

_HUB = "the Hugging Face Hub"


def hub_file(name: str, file: str, **download: Any) -> Path:
    """A file of a model on the Hub, from the cache or downloaded.

    Args:
        name: NAME or OWNER/NAME.
        file: its name in the repository.
        download: what ``huggingface_hub.hf_hub_download`` takes: ``revision``, ``cache_dir``, ``local_files_only`` ...

    Raises:
        FileNotFoundError: the Hub cannot be reached, has no such model, or not that file of it.
    """
    from huggingface_hub import hf_hub_download

    with _told(short(name), file, download):
        _check(name, file, download)
        return Path(hf_hub_download(repo_id=name, filename=file, **download))


def check_on_hub(name: str, label: str | None = None) -> None:
    """Raise at once unless files of a model are in the cache, or the Hub has it: others would try for a minute.

    Args:
        name: NAME or OWNER/NAME.
        label: what the message begins with; None: the name.

    Raises:
        FileNotFoundError: the Hub cannot be reached, or has no such model.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    kept = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    if kept.is_dir():  # whether all that is needed is there, the one who loads it finds out
        return
    with _told(short(name) if label is None else label, "config.json", {}):
        try:
            _check(name, "config.json", {})
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:  # there is the model, with other files
            pass


def _check(name: str, file: str, download: dict[str, Any]) -> None:
    """Ask the Hub for a file, once, unless the file is in the cache."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    if download.get("local_files_only"):
        return
    if not download.get("force_download"):
        kept = {key: download[key] for key in ("revision", "cache_dir") if key in download}
        with suppress(LocalEntryNotFoundError):
            hf_hub_download(repo_id=name, filename=file, local_files_only=True, **kept)
            return
    url = hf_hub_url(name, file, revision=download.get("revision"))
    try:
        get_hf_file_metadata(url, token=download.get("token"), timeout=HF_HUB_ETAG_TIMEOUT)
    except HfHubHTTPError as error:
        if error.response.status_code != 429 and error.response.status_code < 500:  # else the download tries again
            raise
    except (HFValidationError, EntryNotFoundError, OfflineModeIsEnabled):
        raise
    except Exception as error:  # of a connection, as httpx and its successors name them
        raise _UnreachableError(reason(error)) from error


@contextmanager
def _told(label: str, file: str, download: dict[str, Any]) -> Iterator[None]:
    """Say in one line what did not work, in the words of somebody who may have meant a folder."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError:
        problem = "it is no name of a model on " + _HUB
    except errors.GatedRepoError:
        problem = f"{_HUB} gives it to those alone who have asked for it on its page and are logged in"
    except errors.RepositoryNotFoundError:
        problem = f"{_HUB} has no such model, or a private one: then log in (hf auth login)"
    except errors.RevisionNotFoundError:
        problem = f"the model on {_HUB} has no revision {download.get('revision')!r}"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        why = "local_files_only" if download.get("local_files_only") else "HF_HUB_OFFLINE, or no connection"
        problem = f"it is not in the cache, and {_HUB} is not asked ({why})"
    except errors.EntryNotFoundError:
        problem = f"the model on {_HUB} has no {file}"
    except _UnreachableError as error:
        problem = f"{_HUB} cannot be reached ({reason(error)})"
    else:
        return
    raise FileNotFoundError(f"{label}: no such folder here, and {problem}") from None


class _UnreachableError(Exception):
    """There is no connection."""
