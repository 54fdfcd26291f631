"""Debian's Prometheus for tests: exact history by promtool, its own data folder, a free port."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from rollout_console.services.ports import any_free

DEADLINE_S = 30.0


def prometheus_needed() -> None:
    """Skip without the program; with `REQUIRE_PROMETHEUS=1` that is a failure instead."""
    if shutil.which("prometheus") and shutil.which("promtool"):
        return
    words = "install Debian's package prometheus: pulls are tested against the real one"
    if os.environ.get("REQUIRE_PROMETHEUS") == "1":
        pytest.fail(words)
    pytest.skip(words)


class Prometheus:
    """A server on a port that stays its own when it is stopped and started again."""

    def __init__(self, folder: Path, *, scrapes_itself: bool = False) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._port = any_free()
        self._process: subprocess.Popen[bytes] | None = None
        jobs = ""
        if scrapes_itself:
            jobs = f"""
scrape_configs:
  - job_name: itself
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [{{targets: ["127.0.0.1:{self._port}"]}}]
"""
        (folder / "prometheus.yml").write_text(f"global: {{scrape_interval: 1h}}\n{jobs}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def fill(self, name: str, samples: Iterable[tuple[datetime, float, dict[str, str]]]) -> None:
        """Give a gauge exactly these samples; only while the server is down."""
        lines = [f"# TYPE {name} gauge"]
        for at, value, labels in sorted(samples, key=lambda sample: sample[0]):
            told = ",".join(f'{key}="{text}"' for key, text in labels.items())
            lines.append(f"{name}{{{told}}} {value!r} {at.timestamp():.3f}")
        file = self._folder / f"{name}.om"
        file.write_text("\n".join([*lines, "# EOF", ""]))
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(self._data)],
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._data}",
                "--storage.tsdb.retention.time=10y",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--log.level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + DEADLINE_S
        while not self._is_ready():
            assert self._process.poll() is None, "prometheus ended"
            assert time.monotonic() < deadline, "prometheus is not ready"
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=DEADLINE_S)
            self._process = None

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=1).status_code == 200
        except httpx.TransportError:
            return False
